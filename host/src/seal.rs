//! Turns an ONNX model into a sealed package and its wrapped key.
//! The rules of the format live in `enclave/sealed`; this file finds inputs, proposes a usage policy and wraps the key.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, IsTerminal as _, Read},
    os::{fd::AsFd as _, unix::fs::FileTypeExt as _},
    path::{Component, Path, PathBuf},
};

use indicatif::{ProgressBar, ProgressStyle};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use vouchsafe_attestation::{Mode, claims, lp};
use vouchsafe_policies::usage::{InputRule, UsagePolicy};
use vouchsafe_preflight::ExternalFile;
use vouchsafe_release::{ModelKeyRecord, WrapPublic, wrapped};
use vouchsafe_sealed::{ModelKey, Role, SealInput, SealOptions, SealSpec, SealedSummary, commitment};

use crate::{
    failure::{Failure, Outcome},
    files, model,
    package::provenance,
};

/// The name of a model that has none, since it comes from standard input.
const STDIN_NAME: &str = "model.onnx";

/// Seal an ONNX model into a package that only a granted enclave can open.
///
/// Every call makes a fresh model key. The package may travel anywhere; the wrapped key goes to the broker.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vouchsafe seal model.onnx --id breast-cancer --sequence 1 --sign-with acme-manifest.key \\\n    --to broker.pub --out breast-cancer-v1"
)]
pub struct Args {
    /// The ONNX graph: a file, a named pipe, or - for standard input.
    model: PathBuf,
    /// Your name for the model: 1 to 64 of a-z, 0-9, hyphen, underscore and full stop.
    #[arg(long)]
    id: String,
    /// Version number; must rise with every version.
    #[arg(long)]
    sequence: u64,
    /// A signing key made by `vouchsafe keys`; may be repeated: each signs, and this package opens only where all are pinned.
    #[arg(long, required = true)]
    sign_with: Vec<PathBuf>,
    /// The broker's wrapping key: text or file, from `vouchsafe broker init`.
    #[arg(long, required_unless_present = "key_out")]
    to: Option<String>,
    /// The package folder to make.
    #[arg(long)]
    out: PathBuf,
    /// Where to write the wrapped key [default: OUT.key.json].
    #[arg(long)]
    wrapped: Option<PathBuf>,
    /// Write the plaintext model key here (0600). Whoever reads it can open the package.
    #[arg(long)]
    key_out: Option<PathBuf>,
    /// For simulation: the key is tagged so that no hardware grant ever carries it.
    #[arg(long)]
    rehearsal: bool,
    /// The usage policy, JSON [default: one that names the model's inputs].
    #[arg(long)]
    usage_policy: Option<PathBuf>,
    /// Another file of the model: ROLE=PATH, role one of external-data, tokenizer, labels, preprocess; may be repeated.
    #[arg(long)]
    file: Vec<String>,
    /// A statement about the model that will travel beside the package: TYPE=FILE, type one of openssf-model-signing,
    /// slsa-provenance, dataset-statement; its SHA-256 is signed with the manifest; may be repeated.
    #[arg(long, value_name = "TYPE=FILE")]
    provenance: Vec<String>,
    /// Hide lengths by padding every file to a multiple of this many bytes.
    #[arg(long, default_value_t = 1)]
    pad_to: u64,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    claims::model_id(&args.id).map_err(|e| Failure::usage(format!("--id: {e}"), "use another id"))?;
    let signers = args.sign_with.iter().map(|p| files::signing_key(p)).collect::<Result<Vec<_>, _>>()?;
    let to = args.to.as_deref().map(wrap_public).transpose()?;
    let wrapped_path = args.wrapped.clone().unwrap_or_else(|| suffixed(&args.out, ".key.json"));
    // Told before the long work, not after it.
    let key_paths: Vec<&PathBuf> = to.iter().map(|_| &wrapped_path).chain(&args.key_out).collect();
    for path in &key_paths {
        outside(&args.out, path)?;
        files::absent(path)?;
        fs::metadata(folder(path)).map_err(|e| Failure::file(path, "created", &e))?;
    }
    if let [one, other] = key_paths[..]
        && one == other
    {
        return Err(Failure::usage("--wrapped and --key-out name the same file", "name two files"));
    }
    let mode = if args.rehearsal { Mode::Simulation } else { Mode::Hardware };
    let (inputs, usage_policy) = (inputs(args)?, usage_policy(args)?);
    let provenance = provenance::read(&args.provenance)?;
    let streams = streams(args, &inputs)?;
    let spec = SealSpec {
        model_id: args.id.clone(),
        sequence: args.sequence,
        mode,
        inputs,
        usage_policy,
        provenance,
        pad_to: args.pad_to,
    };
    let key = ModelKey::generate()?;
    let mut uid = [0; 32];
    SystemRandom::new()
        .fill(&mut uid)
        .map_err(|_| Failure::new("RANDOM", 9, "the system gave no randomness", "see the kernel log"))?;
    let bar = bar(json);
    let signers: Vec<_> = signers.iter().collect();
    // The length of a stream is not known before its end.
    let mut progress = |done: u64, total: u64| {
        bar.set_length(total.max(done));
        bar.set_position(done);
    };
    let mut key_files = KeyFiles::default();
    let mut keep_key = |sealed: &SealedSummary| {
        let record = ModelKeyRecord {
            model_id: args.id.clone(),
            uid,
            sequence: args.sequence,
            mode,
            manifest_digest: sealed.manifest_digest,
            usage_policy_digest: lp::sha256(&spec.usage_policy),
            commitment: commitment(&key, &uid),
            key: ModelKey::from_bytes(*key.expose()),
        };
        if let Some(to) = &to {
            key_files.write(&wrapped_path, &wrapped::wrap(to, &record)?)?;
        }
        match &args.key_out {
            Some(path) => key_files.write(path, record.key.expose()),
            None => Ok(()),
        }
    };
    // The package gets its name when its key is safe; what the key's failure was is told in its own words.
    let mut why = None;
    let before_name = Box::new(|sealed: &SealedSummary| {
        keep_key(sealed).map_err(|failure| {
            why = Some(failure);
            io::ErrorKind::Other.into()
        })
    });
    let options = SealOptions { streams, before_name, ..SealOptions::new(&mut progress) };
    let sealed = vouchsafe_sealed::seal_with(&spec, &key, uid, &signers, &args.out, options);
    bar.finish_and_clear();
    let sealed = sealed.map_err(|error| why.unwrap_or_else(|| error.into()))?;
    key_files.keep();
    let digest = hex::encode(sealed.manifest_digest);
    if json {
        println!(
            "{}",
            json!({ "model": args.id, "sequence": args.sequence, "mode": mode, "manifest_digest": digest,
                    "uid": hex::encode(uid), "bytes": sealed.bytes, "package": args.out,
                    "wrapped_key": to.as_ref().map(|_| &wrapped_path) })
        );
    } else {
        println!(
            "sealed {} version {} for {mode}: {} bytes in {}",
            args.id,
            args.sequence,
            sealed.bytes,
            args.out.display()
        );
        println!("manifest digest  {digest}");
        if to.is_some() {
            println!("wrapped key in {}: give it to the broker with `vouchsafe broker import`", wrapped_path.display());
        }
    }
    Ok(())
}

/// Files with the key of a package that has no name yet. They open nothing, so they are removed when it does not get one.
#[derive(Default)]
struct KeyFiles(Vec<PathBuf>);

impl KeyFiles {
    /// Writes a new file, durably with its name.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> Outcome {
        files::write_new(path, bytes, 0o600)?;
        self.0.push(path.to_owned());
        File::open(folder(path)).and_then(|dir| dir.sync_all()).map_err(|e| Failure::file(path, "written", &e))
    }

    /// The package stands.
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for KeyFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // An error here cannot be told beside the one that led here.
            let _ = fs::remove_file(path);
        }
    }
}

/// Refuses a key file in the package that is to be made: who gets the package would have its key. By the words of both paths;
/// what leads there by a link does not exist before the package does.
fn outside(out: &Path, path: &Path) -> Outcome {
    if lexical(path)?.starts_with(lexical(out)?) {
        let fact = format!("{} lies within the package {}", path.display(), out.display());
        return Err(Failure::usage(fact, "keep the key apart from what it opens: name a file outside of --out"));
    }
    Ok(())
}

/// The absolute path without `.` and `..`, as its words say.
fn lexical(path: &Path) -> Result<PathBuf, Failure> {
    let whole = std::path::absolute(path).map_err(|e| Failure::file(path, "created", &e))?;
    let mut out = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    Ok(out)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn inputs(args: &Args) -> Result<Vec<SealInput>, Failure> {
    let input = |role, path: PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        name.map(|name| SealInput { name, role, path })
            .ok_or_else(|| Failure::usage("a file of the model has no name in UTF-8", "rename it"))
    };
    let model = match from_stdin(args) {
        true => SealInput { name: STDIN_NAME.to_owned(), role: Role::Graph, path: args.model.clone() },
        false => input(Role::Graph, args.model.clone())?,
    };
    let mut out = vec![model];
    for word in &args.file {
        let role = |r| {
            [Role::ExternalData, Role::Tokenizer, Role::Labels, Role::Preprocess].into_iter().find(|x| x.as_str() == r)
        };
        let parsed = word.split_once('=').and_then(|(r, path)| Some((role(r)?, PathBuf::from(path))));
        let (role, path) =
            parsed.ok_or_else(|| Failure::usage("--file is not ROLE=PATH", "see vouchsafe seal --help"))?;
        out.push(input(role, path)?);
    }
    Ok(out)
}

fn from_stdin(args: &Args) -> bool {
    args.model.as_os_str() == "-"
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo())
}

/// Standard input and named pipes, to be read one after the other.
fn streams(args: &Args, inputs: &[SealInput]) -> Result<BTreeMap<usize, Box<dyn Read>>, Failure> {
    let mut out: BTreeMap<usize, Box<dyn Read>> = BTreeMap::new();
    for (at, input) in inputs.iter().enumerate() {
        if at == 0 && from_stdin(args) {
            let own = std::io::stdin().as_fd().try_clone_to_owned();
            let own = own.map_err(|e| Failure::file(&input.path, "opened", &e))?;
            out.insert(at, Box::new(File::from(own)));
        } else if is_pipe(&input.path) {
            out.insert(at, Box::new(Pipe { path: input.path.clone(), open: None }));
        }
    }
    Ok(out)
}

/// A named pipe, opened when its turn comes: whoever fills several of them in turn opens the second after the first is read.
/// It is waited for until somebody writes to it.
struct Pipe {
    path: PathBuf,
    open: Option<File>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.open.is_none() {
            self.open = Some(File::open(&self.path)?);
        }
        self.open.as_mut().map_or(Ok(0), |file| file.read(into))
    }
}

fn usage_policy(args: &Args) -> Result<Vec<u8>, Failure> {
    let bytes = match &args.usage_policy {
        Some(path) => files::read(path, 256 << 10)?,
        None if from_stdin(args) || inputs(args)?.iter().any(needed_from_pipe) => {
            let fact = "the inputs of a model are not known before the end of the pipe that it, or its external data, comes from";
            return Err(Failure::usage(fact, "write a usage policy: --usage-policy FILE"));
        }
        None => {
            let inputs = input_rules(args)?;
            UsagePolicy::template(&args.id, &inputs).into_bytes()
        }
    };
    // A policy that the enclave would refuse is refused here already.
    UsagePolicy::parse(&bytes).map_err(|e| Failure::new(e.code(), e.exit(), e.to_string(), e.advice()))?;
    Ok(bytes)
}

/// A pipe that would have to be read to know the model's inputs.
fn needed_from_pipe(input: &SealInput) -> bool {
    matches!(input.role, Role::Graph | Role::ExternalData) && is_pipe(&input.path)
}

/// The model's inputs, for the usage policy that is proposed. What the pre-flight refuses has none: no enclave would load it.
fn input_rules(args: &Args) -> Result<Vec<InputRule>, Failure> {
    let mut external = Vec::new();
    for file in inputs(args)?.into_iter().filter(|file| file.role == Role::ExternalData) {
        let length = fs::metadata(&file.path).map_err(|e| Failure::file(&file.path, "opened", &e))?.len();
        external.push(ExternalFile { name: file.name, length });
    }
    let (why, advice) = match model::walk(&args.model, external)? {
        Ok(report) => match model::input_rules(&report) {
            Some(rules) => return Ok(rules),
            None => (String::new(), "write a usage policy: --usage-policy FILE"),
        },
        Err(refused) => (
            format!(": {refused} [{}]", refused.code()),
            "is it an ONNX file, and is every external-data file named with --file? see `vouchsafe model scan`; \
             otherwise write a usage policy: --usage-policy FILE",
        ),
    };
    let fact = format!("the inputs of {} cannot be read as ONNX{why}", args.model.display());
    Err(Failure::new("SEAL_MODEL", 1, fact, advice))
}

fn wrap_public(text_or_path: &str) -> Result<WrapPublic, Failure> {
    if let Ok(key) = text_or_path.trim().parse() {
        return Ok(key);
    }
    let text = match text_or_path.starts_with("vouchsafe-broker-") {
        true => text_or_path.to_owned(),
        false => files::read_text(Path::new(text_or_path))?,
    };
    Ok(text.trim().parse::<WrapPublic>()?)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A progress bar for people; nothing for scripts.
pub fn bar(json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let bar = ProgressBar::new(0);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _, sync::mpsc, thread, time::Duration};

    use clap::Parser as _;
    use ring::signature::Ed25519KeyPair;
    use rustix::fs::{CWD, FileType, Mode as FileMode, mknodat};
    use vouchsafe_release::WrapSecret;
    use vouchsafe_sealed::Package;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    /// A vendor's folder: a model of 3,000 bytes, a usage policy, a signing key.
    struct Vendor(tempfile::TempDir);

    impl Vendor {
        fn new() -> Self {
            let vendor = Self(tempfile::tempdir().unwrap());
            fs::write(vendor.at("model.onnx"), [7; 3000]).unwrap();
            fs::write(vendor.at("usage.json"), UsagePolicy::template("m", &[])).unwrap();
            let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            files::write_new(&vendor.at("sign.key"), key.as_ref(), 0o600).unwrap();
            vendor
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Seals; the words after a `@` are names in this folder.
        fn seal(&self, words: &str) -> Result<(), (&'static str, u8, String)> {
            let at = |word: &str| match word.split_once('@') {
                Some((before, name)) => format!("{before}{}", self.at(name).display()),
                None => word.to_owned(),
            };
            let common = "seal --id m --sequence 1 --sign-with @sign.key --out @package";
            let words = common.split(' ').chain(words.split(' ')).map(at);
            let args = Cli::try_parse_from(words).unwrap().args;
            run(&args, true).map_err(|failure| (failure.code, failure.exit, failure.advice + &failure.fact))
        }

        /// What is in the folder, beside what was there at first.
        fn new_names(&self) -> Vec<String> {
            let names = fs::read_dir(self.0.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> =
                names.filter(|n| !["model.onnx", "usage.json", "sign.key"].contains(&n.as_str())).collect();
            names.sort();
            names
        }

        fn pipe(&self, name: &str) -> PathBuf {
            mknodat(CWD, self.at(name), FileType::Fifo, FileMode::RWXU, 0).unwrap();
            self.at(name)
        }

        fn package(&self) -> Package {
            let key = files::signing_key(&self.at("sign.key")).unwrap();
            Package::open(&self.at("package"), &[vouchsafe_attestation::dsse::public(&key)]).unwrap()
        }
    }

    fn code(result: Result<(), (&'static str, u8, String)>) -> (&'static str, u8) {
        result.map_or_else(|(code, exit, _)| (code, exit), |()| ("sealed", 0))
    }

    #[test]
    fn a_sealed_model_has_its_key_beside_it() {
        let vendor = Vendor::new();
        let to = WrapSecret::generate().unwrap().public();
        let words = format!("@model.onnx --usage-policy @usage.json --to {to} --key-out @model.key");
        assert_eq!(vendor.seal(&words), Ok(()));
        assert_eq!(vendor.new_names(), ["model.key", "package", "package.key.json"]);
        for name in ["model.key", "package.key.json"] {
            assert_eq!(fs::metadata(vendor.at(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        let key = ModelKey::from_bytes(fs::read(vendor.at("model.key")).unwrap().try_into().unwrap());
        assert_eq!(*vendor.package().unseal_to_vec(&key, 0).unwrap(), [7; 3000]);
    }

    #[test]
    fn a_key_that_cannot_be_written_leaves_no_package_and_no_other_key() {
        let to = WrapSecret::generate().unwrap().public();
        // No folder; a folder in which nobody makes files, which is found only when the file is made.
        for path in ["@nodir/x.key", "@usage.json/x.key", "/proc/vouchsafe-test.key"] {
            for words in [
                format!("--key-out {path}"),
                format!("--to {to} --key-out {path}"),
                format!("--to {to} --wrapped {path} --key-out @model.key"),
            ] {
                let vendor = Vendor::new();
                let result = vendor.seal(&format!("@model.onnx --usage-policy @usage.json {words}"));
                assert_eq!(code(result), ("FILE", 9), "{words}");
                assert!(vendor.new_names().is_empty(), "{words}: {:?}", vendor.new_names());
            }
        }
    }

    #[test]
    fn a_package_that_does_not_get_its_name_takes_its_key_files_along() {
        let vendor = Vendor::new();
        let (pipe, target) = (vendor.pipe("m.pipe"), vendor.at("package"));
        let race = thread::spawn(move || {
            let mut pipe = File::options().write(true).open(pipe).unwrap();
            // The sealing has begun, and found no target.
            fs::create_dir(target).unwrap();
            pipe.write_all(&[7; 3000]).unwrap();
        });
        let to = WrapSecret::generate().unwrap().public();
        let words = format!("@m.pipe --usage-policy @usage.json --to {to} --key-out @model.key");
        assert_eq!(code(vendor.seal(&words)), ("SEAL_TARGET_EXISTS", 9));
        race.join().unwrap();
        assert_eq!(vendor.new_names(), ["m.pipe", "package"]);
    }

    #[test]
    fn a_key_within_the_package_is_refused() {
        let vendor = Vendor::new();
        let to = WrapSecret::generate().unwrap().public();
        for words in [
            "--key-out @package/x.key".to_owned(),
            "--key-out @package".to_owned(),
            "--key-out @other/../package/./x.key".to_owned(),
            format!("--to {to} --wrapped @package/x.json"),
            format!("--to {to} --wrapped @x.key --key-out @x.key"),
        ] {
            let result = vendor.seal(&format!("@model.onnx --usage-policy @usage.json {words}"));
            assert_eq!(code(result), ("USAGE", 1), "{words}");
            assert!(vendor.new_names().is_empty(), "{words}");
        }
        // The same beginning is not the same folder.
        assert_eq!(vendor.seal("@model.onnx --usage-policy @usage.json --key-out @package.key"), Ok(()));
        assert!(outside(Path::new("q"), Path::new("q/../x.key")).is_ok());
        assert!(outside(Path::new("q"), &std::env::current_dir().unwrap().join("q/x.key")).is_err());
    }

    #[test]
    fn pipes_may_be_filled_one_after_the_other() {
        let vendor = Vendor::new();
        let paths = ["a.pipe", "b.pipe", "c.pipe"].map(|name| vendor.pipe(name));
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            // More than a pipe holds.
            for (path, byte) in paths.iter().zip(1..) {
                fs::OpenOptions::new().write(true).open(path).unwrap().write_all(&vec![byte; 300_000]).unwrap();
            }
        });
        let folder = vendor.0.path().to_owned();
        thread::spawn(move || {
            let words =
                "@a.pipe --file external-data=@b.pipe --file labels=@c.pipe --usage-policy @usage.json --key-out @key";
            let _ = done.send((vendor.seal(words), vendor));
        });
        let (result, vendor) =
            ended.recv_timeout(Duration::from_secs(60)).expect("writer and reader wait for each other");
        assert_eq!(result, Ok(()), "{}", folder.display());
        let key = ModelKey::from_bytes(fs::read(vendor.at("key")).unwrap().try_into().unwrap());
        for (index, byte) in (0..3).zip(1..) {
            assert!(*vendor.package().unseal_to_vec(&key, index).unwrap() == vec![byte; 300_000], "{index}");
        }
    }

    #[test]
    fn without_a_usage_policy_no_pipe_that_would_have_to_be_read_for_it_is_taken() {
        let vendor = Vendor::new();
        vendor.pipe("w.pipe");
        for words in ["- --key-out @k", "@w.pipe --key-out @k", "@model.onnx --file external-data=@w.pipe --key-out @k"]
        {
            let (code, exit, text) = vendor.seal(words).unwrap_err();
            assert_eq!((code, exit), ("USAGE", 1), "{words}: {text}");
            assert!(text.contains("--usage-policy FILE"), "{words}: {text}");
        }
        // Labels say nothing of inputs: the graph is read, and it is none.
        let result = vendor.seal("@model.onnx --file labels=@w.pipe --key-out @k");
        assert_eq!(code(result), ("SEAL_MODEL", 1));
        assert_eq!(vendor.new_names(), ["w.pipe"]);
    }
}
