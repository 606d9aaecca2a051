//! Turns `vouchsafe image …` into calls of the image builder: locked packages and the enclave into a folder that can be measured
//! and launched. It computes no measurement, and nobody who verifies believes a word of the folder: they compare measurements.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use vouchsafe_image::{
    Change, Image, ImageError, Lock, Manifest, Origin, build, diff, extract, fetch, inspect, is_taken, resolve,
};

use crate::{
    differences,
    failure::{Failure, Outcome},
    files, launch,
};

/// Build the guest image, look into one, compare two.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vouchsafe image build --out image")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build an image folder from the locked packages.
    ///
    /// Packages come out of the cache folder or, by this machine's apt, from its Debian archive; apt runs with a configuration of
    /// its own, without root, and the system's packages are not touched. Each package is compared with the lock. Equal inputs give
    /// equal bytes. The folder is written whole or not at all; an image folder that is there is replaced. Prints every file with
    /// its digest.
    ///
    /// Codes: LOCK_STALE when the archive no longer carries a locked version (exit 8), LOCK_DIGEST when it carries another file
    /// (6), IMAGE_NO_APT when there is no apt and a package is not in the cache (9), IMAGE_LIBRARY_OLD when the enclave was built
    /// on a system newer than the locked libraries (9), IMAGE_KERNEL when the locked kernel lacks what the guest needs (9).
    #[command(after_help = "Example:\n  vouchsafe image build --out image")]
    Build(Build),
    /// Compare an image folder with its manifest and print what is in it.
    ///
    /// A file that is not the one that image.json names is IMAGE_MISMATCH, exit 6.
    #[command(after_help = "Example:\n  vouchsafe image show image")]
    Show {
        /// The image folder.
        image: PathBuf,
    },
    /// Print what differs between two image folders, by digest; exit 10 when anything does.
    ///
    /// Both are compared with their own manifests first.
    #[command(after_help = "Example:\n  vouchsafe image diff image their-image")]
    Diff {
        /// One image folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Unpack the initrd of an image folder, to look into it.
    ///
    /// The folder is compared with its manifest first, and the unpacked archive too.
    #[command(after_help = "Example:\n  vouchsafe image unpack image --out content")]
    Unpack {
        /// The image folder.
        image: PathBuf,
        /// The folder to make; never one that is there.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Lock today's packages and print what changed.
    ///
    /// Asks the archive for the newest kernel, firmware and libraries of the suites that an image is made from. Without --out
    /// nothing is written. An image built from a new lock has another measurement: policies must name it before it is launched.
    #[command(after_help = "Example:\n  vouchsafe image lock --out image.lock")]
    Lock(LockArgs),
}

#[derive(clap::Args)]
struct Build {
    /// The folder to write.
    #[arg(long)]
    out: PathBuf,
    /// The lock file; default: the one that this program was made with.
    #[arg(long)]
    lock: Option<PathBuf>,
    /// The enclave program; default: vouchsafe-enclave beside this program.
    #[arg(long)]
    enclave: Option<PathBuf>,
    /// The ONNX Runtime library; default: libonnxruntime.so beside this program.
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
    #[command(flatten)]
    origin: Where,
}

#[derive(clap::Args)]
struct LockArgs {
    /// Write the new lock file here; a file that is there is replaced.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The lock file to compare with; default: the one that this program was made with.
    #[arg(long)]
    lock: Option<PathBuf>,
    #[command(flatten)]
    origin: Where,
}

#[derive(clap::Args)]
struct Where {
    /// Keep packages and apt's lists here; default: the name of --out and `.packages`, beside it; nowhere without --out.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// A Debian archive to fetch from, with Debian's own keyring; default: the one that this machine's apt is set up with.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    match &args.command {
        Command::Build(args) => run_build(args, json),
        Command::Show { image } => show(image, json),
        Command::Diff { first, second } => compare(first, second, json),
        Command::Unpack { image, out } => unpack(image, out, json),
        Command::Lock(args) => lock(args, json),
    }
}

fn run_build(args: &Build, json: bool) -> Outcome {
    let beside = |given: &Option<PathBuf>, name| given.clone().map_or_else(|| launch::beside(name), Ok);
    let (enclave, onnxruntime) =
        (beside(&args.enclave, "vouchsafe-enclave")?, beside(&args.onnxruntime, "libonnxruntime.so")?);
    let lock = read_lock(args.lock.as_deref())?;
    // Before anything is fetched for it.
    is_taken(&args.out)?;
    let packages = fetch(&lock, &args.origin.origin(beside_out(&args.out)), &mut say)?;
    say("packing and compressing, about half a minute");
    let image: Image = build(&lock, &packages, &enclave, &onnxruntime)?;
    image.write(&args.out)?;
    if json {
        println!("{}", json!({ "built": args.out, "image": image.manifest }));
    } else {
        print(&image.manifest);
        println!("written to  {}", args.out.display());
    }
    Ok(())
}

fn show(image: &Path, json: bool) -> Outcome {
    let manifest = read(image)?;
    if json {
        println!("{}", json!({ "accepted": true, "image": manifest }));
    } else {
        print(&manifest);
        println!("files       kernel, initrd, firmware.fd and all in the initrd are the ones that image.json names");
    }
    Ok(())
}

fn unpack(image: &Path, out: &Path, json: bool) -> Outcome {
    files::absent(out)?;
    let manifest = extract(image, out)?;
    if json {
        println!("{}", json!({ "unpacked": out, "image": manifest }));
    } else {
        println!("{} files written to {}", manifest.contents.len(), out.display());
    }
    Ok(())
}

fn compare(first: &Path, second: &Path, json: bool) -> Outcome {
    let found = diff(&read(first)?, &read(second)?);
    let differs = || {
        let parts = found.iter().filter(|difference| difference.kind == "part").count();
        let fact = format!("the two images differ in {} of 3 booted files and {} records in all", parts, found.len());
        Failure::new("IMAGE_DIFFERS", 10, fact, "build both from the same sources, lock and toolchain")
    };
    differences::tell(&found, "the two images are the same, byte for byte", differs, json)
}

fn lock(args: &LockArgs, json: bool) -> Outcome {
    let old = read_lock(args.lock.as_deref())?;
    // Without a file to write nothing stays behind.
    let temporary = tempfile::tempdir().map_err(|e| Failure::file(&std::env::temp_dir(), "written", &e))?;
    let cache = args.out.as_deref().map_or_else(|| temporary.path().to_owned(), beside_out);
    let new = resolve(old.mtime(), &args.origin.origin(cache), &mut say)?;
    let changes = old.changes(&new);
    if let Some(out) = &args.out {
        files::write_atomic(out, new.to_text().as_bytes(), 0o644, true)?;
    }
    if json {
        println!("{}", json!({ "written": args.out, "changes": changes, "lock": new }));
        return Ok(());
    }
    for Change { role, before, after } in &changes {
        println!("{role}");
        for (word, input) in [("was", before), ("is", after)] {
            println!("  {word:<4}{} {} of {}\n      {}", input.name, input.version, input.suite, input.sha256);
        }
    }
    if changes.is_empty() {
        println!("nothing changed: all {} packages are the locked ones", new.packages().len());
    }
    if let Some(out) = &args.out {
        println!("written to {}", out.display());
    }
    Ok(())
}

impl Where {
    /// Where packages come from; kept in `cache` unless another folder was named.
    fn origin(&self, cache: PathBuf) -> Origin {
        let cache = self.cache.clone().unwrap_or(cache);
        Origin { cache, mirror: self.mirror.clone(), programs: "/usr/bin".into(), etc: "/etc/apt".into() }
    }
}

/// `image.packages` beside `image`.
fn beside_out(out: &Path) -> PathBuf {
    let mut name = out.components().as_path().as_os_str().to_owned();
    name.push(".packages");
    name.into()
}

fn read_lock(path: Option<&Path>) -> Result<Lock, Failure> {
    match path {
        None => Ok(Lock::committed()?),
        Some(path) => Lock::parse(&files::read_text(path)?).map_err(|e| Failure::from(e).about(path)),
    }
}

fn read(image: &Path) -> Result<Manifest, Failure> {
    inspect(image).map_err(|e| match e {
        // This one names its path itself.
        ImageError::File { .. } => e.into(),
        e => Failure::from(e).about(image),
    })
}

fn say(what: &str) {
    eprintln!("image: {what}");
}

fn print(manifest: &Manifest) {
    println!("kernel release  {}", manifest.kernel_release);
    println!("compressor      {}", manifest.compressor);
    for (name, part) in manifest.parts() {
        println!("{name:<15} {:>10} bytes  {}", part.bytes, part.sha256);
    }
    println!("{:<15} {:>10}        {}", "  made from", "", manifest.firmware_from);
    println!("\ninside the initrd ({} bytes unpacked):", manifest.archive.bytes);
    for file in &manifest.contents {
        println!("  {:>9} bytes  {}  /{}", file.bytes, file.sha256, file.path);
    }
    println!("\nmade of:");
    for input in &manifest.packages {
        println!("  {:<20}  {}  {} {}", input.suite, input.sha256, input.name, input.version);
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_kept_beside_the_image() {
        for (out, cache) in
            [("image", "image.packages"), ("/srv/image/", "/srv/image.packages"), ("a/b", "a/b.packages")]
        {
            assert_eq!(beside_out(Path::new(out)), Path::new(cache));
        }
    }
}
