//! The README as a newcomer follows it: every command of every `sh` block, in order, as written, in one folder.
//! A command that this file has no `Step` for fails the test: say there how to run it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use vouchsafe_tests::{bin_dir, workspace};

/// How a command of the README is run.
enum Step {
    /// A chore: CI itself runs it, so here it need only exist.
    Xtask(&'static str),
    /// Where the programs are: the test has its own folder for them.
    Path,
    /// To its end, with status 0 and this text in what it prints.
    Run(&'static str),
    /// In the background, until this text appears; it runs on.
    Background(&'static str),
    /// In front, until this text appears; then it is asked something and stopped.
    Proxy(&'static str),
}

fn step(command: &str) -> Step {
    let known: [(&str, Step); 15] = [
        ("cargo xtask demo", Step::Xtask("demo")),
        ("cargo xtask test", Step::Xtask("test")),
        ("cargo xtask vm", Step::Xtask("vm")),
        ("export PATH=$PWD/target/release:$PATH", Step::Path),
        ("vouchsafe demo --no-attacks --keep demo-world", Step::Run("16 of 16 right")),
        ("vouchsafe demo --model FILE.onnx --input FILE.json", Step::Run("probabilities")),
        ("vouchsafe broker serve", Step::Background("the broker listens on ")),
        ("vouchsafe launch", Step::Background("enclave: serving")),
        ("vouchsafe measure", Step::Run("config digest  ")),
        ("vouchsafe policy init", Step::Run("policy digest  ")),
        ("vouchsafe policy show", Step::Run("breast-cancer from version 2 signed by ed25519:")),
        ("vouchsafe verify", Step::Run("SIMULATED: accepted under the policy \"my-policy\"")),
        ("vouchsafe infer", Step::Run("row  label  probabilities")),
        ("vouchsafe receipt verify", Step::Run("request and response are the ones that the statement names")),
        ("vouchsafe proxy", Step::Proxy("the proxy listens on ")),
    ];
    let found = known.into_iter().find(|(start, _)| command == *start || command.starts_with(&format!("{start} ")));
    found.unwrap_or_else(|| panic!("the README has a command that this test does not know how to run: {command}")).1
}

#[test]
fn every_command_of_the_readme_works_as_written() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut newcomer = Newcomer::new(folder.path());
    let commands = commands(&readme);
    assert!(commands.len() >= 14, "{commands:?}");
    for command in commands {
        newcomer.follow(&command);
    }
    let page = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
    assert!(page.starts_with("# SIMULATED"), "{page}");
}

/// A person at a shell in an empty folder, who copies what is asked for from what was printed.
struct Newcomer<'a> {
    folder: &'a Path,
    path: String,
    /// What stands in the README, and what is typed instead.
    blanks: Vec<(String, String)>,
    running: Vec<Background>,
}

impl<'a> Newcomer<'a> {
    fn new(folder: &'a Path) -> Self {
        let path = format!("{}:{}", bin_dir().display(), std::env::var("PATH").unwrap_or_default());
        let example = |name: &str| workspace().join("examples/breast-cancer").join(name).display().to_string();
        let mut blanks =
            vec![("FILE.onnx".to_owned(), example("model.onnx")), ("FILE.json".to_owned(), example("heldout.json"))];
        // Another program may listen on the README's ports: free ones in their place.
        for port in [8443, 8700] {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
            blanks.push((format!("127.0.0.1:{port}"), free.to_string()));
        }
        Self { folder, path, blanks, running: Vec::new() }
    }

    fn follow(&mut self, written: &str) {
        let step = step(written);
        let typed = self.blanks.iter().fold(written.to_owned(), |text, (blank, word)| text.replace(blank, word));
        println!("$ {typed}");
        assert!(matches!(step, Step::Path) || !typed.contains('<'), "nobody knows what to fill in: {typed}");
        match step {
            Step::Path => {}
            Step::Xtask(chore) => {
                let help = std::fs::read_to_string(workspace().join("xtask/src/main.rs")).expect("the source of xtask");
                assert!(help.contains(&format!("\n  {chore} [ARGS…]")), "xtask has no {chore}");
                let ci = std::fs::read_to_string(workspace().join(".ci/run")).expect("the script of CI");
                let runs = |line: &str| line.ends_with(written) || line.contains(&format!(" {written} "));
                assert!(ci.lines().any(runs), "CI does not run {written}");
            }
            Step::Run(expected) => {
                let output = self.shell(&typed).output().expect("a shell");
                let text = printed(&output);
                assert!(output.status.success() && text.contains(expected), "{typed}: {}\n{text}", output.status);
                self.copy(&text);
            }
            Step::Background(expected) => {
                let mut service = Background::start(self.shell(typed.strip_suffix('&').expect("in the background")));
                service.wait_for(expected);
                self.running.push(service);
            }
            Step::Proxy(expected) => {
                let mut proxy = Background::start(self.shell(&typed));
                let line = proxy.wait_for(expected);
                let address = typed.split_whitespace().last().expect("an address");
                assert!(line.contains(address), "{line}");
                let answer = get(address, "/v2/models/breast-cancer");
                assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("features"), "{answer}");
                assert!(proxy.stop().success(), "the proxy does not end cleanly");
            }
        }
    }

    /// What a person at a shell runs; `exec`, so that a signal reaches the program.
    fn shell(&self, typed: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {typed}")]);
        shell.current_dir(self.folder).env("PATH", &self.path).stdin(Stdio::null());
        shell
    }

    /// Fills blanks from what a command printed, and the chip id from where the README says it is.
    fn copy(&mut self, text: &str) {
        for (label, blank) in [("measurement  ", "<measurement>"), ("config digest  ", "<digest>")] {
            if let Some(value) = text.lines().find_map(|line| line.strip_prefix(label)) {
                self.blanks.push((blank.to_owned(), value.trim().to_owned()));
            }
        }
        if let Ok(chip) = std::fs::read_to_string(self.folder.join("demo-world/tester/root/chip-id")) {
            self.blanks.push(("<chip id>".to_owned(), chip.trim().to_owned()));
        }
    }
}

/// A running command and what it prints; stopped when it is dropped.
struct Background {
    child: Child,
    lines: Receiver<String>,
}

impl Background {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
        let (send, lines) = channel();
        let both: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
        for stream in both {
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = send.send(line);
                }
            });
        }
        Self { child, lines }
    }

    fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("waited for `{text}` in vain; seen: {seen:#?}");
    }

    fn stop(&mut self) -> std::process::ExitStatus {
        if let Ok(Some(status)) = self.child.try_wait() {
            return status;
        }
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let end = Instant::now() + Duration::from_secs(15);
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        self.child.wait().expect("its status")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the proxy");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The commands of every `sh` block; a line that ends in a backslash goes on in the next.
fn commands(readme: &str) -> Vec<String> {
    let (mut found, mut inside) = (Vec::new(), false);
    let mut command = String::new();
    for line in readme.lines().map(str::trim) {
        match (inside, line) {
            (false, "```sh") => inside = true,
            (true, "```") => inside = false,
            (true, line) if !line.is_empty() => {
                command += line.trim_end_matches('\\');
                if !line.ends_with('\\') {
                    found.push(std::mem::take(&mut command).trim().to_owned());
                }
            }
            _ => {}
        }
    }
    assert!(command.is_empty() && !inside, "a block or a command of the README does not end");
    found
}

#[test]
fn the_readme_is_short_and_every_path_and_link_in_it_exists() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    assert!(readme.lines().count() < 200, "the README has 200 lines or more");
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    let table = readme.lines().filter(|line| line.starts_with("| ") && line.contains(" `"));
    let paths = table.filter_map(|line| line.split('`').nth(1));
    let all: Vec<&str> = links.chain(paths).collect();
    assert!(all.len() >= 15, "{all:?}");
    for path in all {
        assert!(workspace().join(path).exists(), "the README names {path}, which does not exist");
    }
}
