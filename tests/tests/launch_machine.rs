//! Turns the launcher's program, the simulator and a stand-in for QEMU into a machine's life: start, panic, silence, restart, stop.
//! The stand-in, a shell script, does what a file beside it says; one test boots a real machine behind it. The scenarios with
//! the measured firmware are the demo's.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use vouchsafe_tests::programs::{has_qemu, image, program};

const PATIENCE: Duration = Duration::from_secs(30);

/// Descriptors 100 and 101 are the host channel and the console (crate vouchsafe-launcher, `backend::qemu`).
const STAND_IN: &str = r#"#!/bin/bash
here=${0%/*}
mode=$(< "$here/mode")
if [ "$1" = --version ]; then
    if [ "$mode" = old ]; then echo 'QEMU emulator version 9.2.1'; else echo 'QEMU emulator version 10.0.2'; fi
    exit
fi
printf '%s\n' "$@" > "$here/arguments"
compgen -e > "$here/environment"
case $mode in
taken) echo "qemu: Could not set up host forwarding rule 'tcp:127.0.0.1:1-10.0.2.15:8443'" >&2; exit 1 ;;
refuses) echo 'qemu: vm-type not supported' >&2; exit 1 ;;
silent) exec sleep 60 ;;
no-kernel) printf 'BdsDxe: No bootable option or device was found.\r\n' >&101; exec sleep 60 ;;
no-room) printf 'EFI stub: ERROR: Failed to decompress kernel\r\n' >&101; exec sleep 60 ;;
panic) printf '[ 1.0] Kernel panic - not syncing: x\r\n' >&101 ;;
fatal) printf 'vouchsafe: FATAL INIT_MODULES no module\r\n' >&101 ;;
killed) printf 'x' >&101; kill -9 $$ ;;
ends) printf 'x' >&101 ;;
floods) printf '\xff\xff\xff\xff' >&100; exec sleep 60 ;;
other-words)
    # The image under a firmware that compares nothing, so that the command line can be another one.
    for word; do
        if [ "$last" = -append ]; then word=${word/mode=simulation/$(< "$here/words")}; fi
        if [ "$word" != -bios ] && [ "$last" != -bios ]; then words+=("$word"); fi
        last=$word
    done
    exec qemu-system-x86_64 "${words[@]}" ;;
serves) printf '\0\0\0\x13{"state":"booting"}\0\0\0\x13{"state":"serving"}' >&100; exec cat <&100 > "$here/heard" ;;
esac
"#;

struct Place {
    dir: TempDir,
    image: PathBuf,
}

impl Place {
    fn new(test: &str, mode: &str) -> Option<Self> {
        let place = Self { dir: tempfile::tempdir().unwrap(), image: image(test)? };
        fs::write(place.at("config"), "a configuration").unwrap();
        fs::write(place.at("collateral"), "first").unwrap();
        fs::write(place.at("qemu"), STAND_IN).unwrap();
        fs::set_permissions(place.at("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["models", "scratch"] {
            fs::create_dir(place.at(folder)).unwrap();
        }
        place.mode(mode);
        Some(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mode(&self, mode: &str) {
        fs::write(self.at("mode"), mode).unwrap();
    }

    fn heard(&self) -> Vec<Value> {
        let mut bytes = &fs::read(self.at("heard")).unwrap_or_default()[..];
        let mut frames = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let Some((body, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
            frames.push(serde_json::from_slice(body).unwrap());
            bytes = rest;
        }
        frames
    }

    /// The launch file names everything but what `more` overrides.
    fn launch(&self, more: &[&str]) -> Launch {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("launch-root-both");
        let text = format!(
            "version = 1\nbackend = \"sim-vm\"\nconfig = \"config\"\nmodels = \"models\"\ncollateral = \"collateral\"\nscratch = \"scratch\"\nqemu = \"./qemu\"\nlisten = \"127.0.0.1:0\"\naccel = \"tcg\"\nready_timeout = 10\nimage = {:?}\nsimulator_root = {root:?}\n",
            self.image
        );
        fs::write(self.at("launch.toml"), text).unwrap();
        let mut child = Command::new(program("vouchsafe-launch"))
            .arg(self.at("launch.toml"))
            .arg("--json")
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (send, events) = channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = send.send(serde_json::from_str::<Value>(&line).unwrap());
            }
        });
        Launch { child, events }
    }

    /// Runs a launch that must fail: its exit status and code.
    fn fails(&self, more: &[&str]) -> (i32, String) {
        let mut launch = self.launch(more);
        let code = launch.wait_for("error")["code"].as_str().unwrap().to_owned();
        (launch.exit().unwrap(), code)
    }
}

struct Launch {
    child: Child,
    events: Receiver<Value>,
}

impl Launch {
    fn wait_for(&self, name: &str) -> Value {
        self.wait_long_for(name, PATIENCE)
    }

    fn wait_long_for(&self, name: &str, patience: Duration) -> Value {
        let until = Instant::now() + patience;
        let mut seen = Vec::new();
        while let Ok(event) = self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if event["event"] == name {
                return event;
            }
            seen.push(event);
        }
        panic!("{name} is not among {seen:?}");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn exit(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_running(pid: &Value) -> bool {
    // A process that has ended but was not reaped has no more memory.
    fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|text| !text.starts_with('0'))
}

#[test]
fn a_machine_gets_its_configuration_and_new_collateral_and_leaves_nothing_behind() {
    let Some(place) = Place::new("a_machine_gets_its_configuration", "serves") else { return };
    let mut launch = place.launch(&[]);
    let listening = launch.wait_for("listening");
    assert_eq!((&listening["simulation"], &listening["backend"]), (&"SIMULATED".into(), &"sim-vm".into()));
    let launched = launch.wait_for("launched");
    assert_eq!(launched["accel"], "tcg");
    launch.wait_for("state");
    until("the first frame", || place.heard().len() == 1);
    let first = place.heard().remove(0);
    assert_eq!(first["config"], "YSBjb25maWd1cmF0aW9u", "base64url of `a configuration`");
    assert_eq!((&first["v"], &first["collateral"]), (&1.into(), &"Zmlyc3Q".into()));
    assert!(
        fs::read_to_string(place.at("environment")).unwrap().lines().all(|name| ["PWD", "SHLVL", "_"].contains(&name))
    );
    assert_eq!(fs::read_dir(place.at("scratch")).unwrap().count(), 0, "the volume has no name");

    fs::write(place.at("collateral"), "second").unwrap();
    fs::create_dir(place.at("models/m")).unwrap();
    fs::write(place.at("models/m/file"), "newer").unwrap();
    launch.signal("HUP");
    assert_eq!(launch.wait_for("reload")["renews"], "models_and_collateral");
    until("the second frame", || place.heard().len() == 2);
    assert_eq!(place.heard()[1]["reload"]["collateral"], "c2Vjb25k");

    // What is larger than the room of the volume stays out; collateral comes all the same.
    fs::File::create(place.at("models/m/large")).unwrap().set_len(65 << 20).unwrap();
    launch.signal("HUP");
    assert_eq!(launch.wait_for("packages_kept")["code"], "VOLUME_NO_ROOM");
    assert_eq!(launch.wait_for("reload")["renews"], "collateral");
    until("the third frame", || place.heard().len() == 3);

    // Asked to stop it may take five seconds; the stand-in takes them.
    launch.signal("TERM");
    launch.wait_for("stopped");
    assert_eq!(launch.exit(), Some(0));
    assert_eq!(place.heard()[3]["stop"], serde_json::json!({}));
    until("QEMU's end", || !is_running(&launched["enclave_pid"]) && !is_running(&launched["simulator_pid"]));
}

#[test]
fn a_killed_launcher_takes_qemu_with_it() {
    let Some(place) = Place::new("a_killed_launcher_takes_qemu_with_it", "silent") else { return };
    let mut launch = place.launch(&[]);
    let launched = launch.wait_for("launched");
    // The stand-in listens to nothing and holds every descriptor: only the signal of its parent's death can end it.
    until("the stand-in", || place.at("arguments").exists());
    assert!(is_running(&launched["enclave_pid"]), "control");
    launch.signal("KILL");
    assert_eq!(launch.exit(), None);
    until("QEMU's end", || !is_running(&launched["enclave_pid"]));
    assert_eq!(fs::read_dir(place.at("scratch")).unwrap().count(), 0);
}

#[test]
fn how_a_machine_ended_is_named() {
    let Some(place) = Place::new("how_a_machine_ended_is_named", "panic") else { return };
    let cases = [
        ("panic", "GUEST_PANIC"),
        ("fatal", "INIT_MODULES"),
        ("killed", "QEMU_SIGNAL_9"),
        ("ends", "ENCLAVE_LOST"),
        ("silent", "GUEST_SILENT"),
        ("no-kernel", "GUEST_NO_KERNEL"),
        ("no-room", "GUEST_MEMORY"),
        ("floods", "HOST_CHANNEL"),
    ];
    for (mode, code) in cases {
        place.mode(mode);
        // Only the silent one is to be taken for it, however slow this machine is.
        let silence = if mode == "silent" { "1" } else { "30" };
        let launch = place.launch(&["--silence-timeout", silence]);
        assert_eq!(launch.wait_for("restarting")["code"], code, "{mode}");
    }
    // A machine that never serves is given up, and its last word is told.
    place.mode("panic");
    let mut launch = place.launch(&["--ready-timeout", "5"]);
    let error = launch.wait_for("error");
    assert_eq!((&error["code"], launch.exit()), (&"ENCLAVE_NOT_READY".into(), Some(8)));
    assert!(error["fact"].as_str().unwrap().contains("GUEST_PANIC"), "{error}");
    place.mode("no-room");
    let error = place.launch(&["--ready-timeout", "5"]).wait_for("error");
    assert!(error["advice"].as_str().unwrap().contains("--memory-mib"), "{error}");
}

/// Nothing falls back to simulation: a measured command line that says hardware finds none here, whatever the host offers.
#[test]
fn the_image_told_to_be_real_ends_without_a_processor() {
    let test = "the_image_told_to_be_real_ends_without_a_processor";
    let Some(place) = Place::new(test, "other-words").filter(|_| has_qemu(test)) else { return };
    let boot = |words: &str| {
        fs::write(place.at("words"), words).unwrap();
        place.launch(&["--ready-timeout", "0", "--silence-timeout", "120"])
    };
    let slow = Duration::from_secs(180);
    assert_eq!(boot("mode=simulation").wait_long_for("state", slow)["state"], "booting", "control");
    for (words, code) in [("mode=hardware", "NO_TEE"), ("mode=simulation vouchsafe.shell=1", "USAGE")] {
        assert_eq!(boot(words).wait_long_for("restarting", slow)["code"], code, "{words}");
    }
}

#[test]
fn what_cannot_start_is_given_up_at_once() {
    let Some(place) = Place::new("what_cannot_start_is_given_up_at_once", "refuses") else { return };
    assert_eq!(place.fails(&[]), (7, "QEMU_REFUSED".to_owned()));
    place.mode("taken");
    let mut launch = place.launch(&[]);
    for _ in 0..2 {
        assert_eq!(launch.wait_for("restarting")["code"], "PORT_IN_USE");
    }
    assert_eq!(launch.wait_for("error")["code"], "PORT_IN_USE");
    assert_eq!(launch.exit(), Some(9));
    place.mode("old");
    assert_eq!(place.fails(&[]), (7, "QEMU_VERSION".to_owned()));
    assert_eq!(place.fails(&["--qemu", "no-such-qemu"]), (7, "QEMU_MISSING".to_owned()));
    place.mode("serves");
    assert_eq!(place.fails(&["--memory-mib", "511"]), (1, "MEMORY_TOO_SMALL".to_owned()));
    assert_eq!(place.fails(&["--vcpus", "289"]), (1, "MEASUREMENT_PROCESSORS".to_owned()));
    // The longest time is no reason to panic.
    let ages = u64::MAX.to_string();
    place.mode("panic");
    for flag in ["--silence-timeout", "--ready-timeout", "--idle-timeout"] {
        assert_eq!(place.launch(&[flag, &ages]).wait_for("restarting")["code"], "GUEST_PANIC", "{flag}");
    }
    assert_eq!(place.fails(&["--tee", "tdx"]), (1, "BACKEND_TEE".to_owned()));
    fs::create_dir(place.at("models/m")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", place.at("models/m/manifest.dsse.json")).unwrap();
    assert_eq!(place.fails(&[]), (9, "VOLUME_NOT_REGULAR".to_owned()));
}

#[test]
fn an_image_that_is_not_its_manifests_is_refused() {
    let Some(mut place) = Place::new("an_image_that_is_not_its_manifests_is_refused", "serves") else { return };
    let whole = place.image.clone();
    place.image = place.at("image");
    fs::create_dir(&place.image).unwrap();
    for name in ["kernel", "initrd", "firmware.fd", "image.json"] {
        fs::copy(whole.join(name), place.image.join(name)).unwrap();
    }
    place.launch(&[]).wait_for("state");
    for name in ["kernel", "initrd", "firmware.fd"] {
        let good = fs::read(whole.join(name)).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(place.image.join(name), &bad).unwrap();
        assert_eq!(place.fails(&[]), (6, "IMAGE_MISMATCH".to_owned()), "{name}");
        if name == "firmware.fd" {
            let own = place.image.join(name);
            let named = ["--firmware", own.to_str().unwrap()];
            assert_eq!(place.fails(&named), (9, "FIRMWARE_UNKNOWN".to_owned()));
        }
        fs::write(place.image.join(name), good).unwrap();
    }
    fs::write(place.image.join("image.json"), "{}").unwrap();
    assert_eq!(place.fails(&[]), (6, "IMAGE_MANIFEST".to_owned()));
    fs::remove_file(place.image.join("image.json")).unwrap();
    assert_eq!(place.fails(&[]), (9, "LAUNCH_FILE".to_owned()));
}
