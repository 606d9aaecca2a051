//! Turns what a host can do around a virtual machine into refusals by the firmware, the broker or the enclave.
//! The host's QEMU is a script in front of the real one; the launcher, the simulated processor and the image are the shipped ones.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use vouchsafe_attestation::lp::sha256;

use super::{Played, ledger_code};
use crate::{
    demo::{
        ending,
        process::program_sha256,
        qemu,
        story::Stage,
        world::{Launch, Running, World},
    },
    failure::Failure,
};

/// A machine that has said nothing for so many seconds, and for three times as long as the honest one took on this host to its
/// first word, is taken for one that its firmware did not let start.
const SILENT: u64 = 20;

/// Words for a hostile QEMU: each argument passes as `$a`, the one before it as `$prev`.
const HONEST: &str = "";
const OTHER_COMMAND_LINE: &str = r#"case "$prev" in -append) a="$a vouchsafe.debug=1" ;; esac"#;
const OTHER_INITRD: &str = r#"case "$prev" in -initrd)
    cat "$a" >"$0.initrd"; printf '\000' >>"$0.initrd"; a="$0.initrd" ;;
esac"#;
/// Strings that a careless guest takes for settings, in every place where a host can leave some.
const STRINGS: &str = r#"case "$n" in 0) set -- "$@" "$a" \
    -smbios type=1,manufacturer=vouchsafe.mode=hardware,product=vouchsafe.tee=tdx \
    -smbios type=11,value=vouchsafe.mode=hardware,value=io.systemd.credential:vouchsafe.mode=hardware \
    -fw_cfg name=opt/vouchsafe.mode,string=hardware \
    -fw_cfg name=opt/org.tianocore/vouchsafe.mode,string=hardware; a=-no-reboot ;;
esac"#;

/// A table for the guest's ACPI interpreter, which writes the host's word to an I/O port: code of the host in the guest's kernel.
/// AML of ACPI 6.5, section 20: OperationRegion(VCAN, SystemIO, 0xE9, 1), Field(VCAN, ByteAcc) { VCHR, 8 }, and a Store each.
const CANARY: &[u8] = b"\x5b\x80VCAN\x01\x0b\xe9\x00\x0a\x01\x5b\x81\x0bVCAN\x01VCHR\x08\
    \x70\x0aAVCHR\x70\x0aCVCHR\x70\x0aPVCHR\x70\x0aIVCHR";
/// What then stands in the port's file.
const SUNG: &[u8] = b"ACPI";

/// The processor measures one command line, and the machine is started with another.
pub fn command_line_changed(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    refused_by_firmware(
        world,
        stage,
        "command-line-changed",
        "host boots another kernel command line than measured",
        OTHER_COMMAND_LINE,
    )
}

/// The processor measures one initrd, and the machine is started with one that has a byte more.
pub fn initrd_changed(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    refused_by_firmware(world, stage, "initrd-changed", "host boots another initrd than measured", OTHER_INITRD)
}

/// The host measures and starts a machine with two processors.
pub fn other_vcpus(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    let fatal = world.launch_refused(&Launch { vcpus: 2, ..Launch::default() })?;
    refused_by_broker(
        world,
        stage,
        "vcpus-changed",
        "host starts the machine with another number of processors",
        &fatal,
    )
}

/// The image gets an initrd that has a byte more, and a manifest that says so: all is measured as it is.
pub fn image_changed(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    let folder = "host/image";
    copy_image(world, folder)?;
    let fatal = world.launch_refused(&Launch { image: Some(folder), ..Launch::default() })?;
    refused_by_broker(world, stage, "image-changed", "host changes one byte of the guest image", &fatal)
}

/// Hostile strings beside the machine change nothing: the same measurement, mode and answer.
pub fn hostile_strings(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    let qemu = hostile_qemu(world, "strings", STRINGS)?;
    let running = world.launch(&Launch { qemu: Some(&qemu), ..Launch::default() })?;
    let policy = world.at("customer/policy.toml");
    let told = world.call(&["verify", &running.address, "--policy", &policy])?;
    let same = |name: &str| told.get(name).is_some() && told.get(name) == stage.verdict.get(name);
    let code = match left_behind(&running)? {
        false => "NOT_TRIED",
        true if same("mode") && same("tee") && same("measurement") => "NO_EFFECT",
        true => "TAKEN_FOR_SETTINGS",
    };
    Ok(Played {
        name: "hostile-strings",
        title: "host leaves settings in SMBIOS and fw_cfg strings",
        refused_by: "enclave",
        pid: running.enclave_pid,
        program: program_of(&running),
        code: code.to_owned(),
        expected: "NO_EFFECT",
        control: control(world, stage)?,
        facts: json!({ "mode": told.get("mode"), "measurement": told.get("measurement") }),
    })
}

/// Whether the machine that runs was really started with the strings: a script with a mistake leaves none.
fn left_behind(running: &Running) -> Result<bool, Failure> {
    let path = format!("/proc/{}/cmdline", running.enclave_pid);
    let arguments = fs::read(&path).map_err(|e| Failure::file(path.as_ref(), "read", &e))?;
    let arguments = String::from_utf8_lossy(&arguments);
    let count = |option| arguments.split('\0').filter(|word| *word == option).count();
    Ok((count("-smbios"), count("-fw_cfg")) == (2, 2))
}

/// A table of the host's is no program for this kernel: the measured command line turns its interpreter off.
pub fn acpi_table(world: &mut World, _: &mut Stage) -> Result<Played, Failure> {
    let table = world.dir.join("host/canary.aml");
    fs::write(&table, CANARY).map_err(|e| Failure::file(&table, "written", &e))?;
    let words = |port: &Path| {
        let (table, port) = (table.display(), port.display());
        [
            "-acpitable".to_owned(),
            format!("sig=SSDT,rev=2,data={table}"),
            "-chardev".to_owned(),
            format!("file,id=canary,path={port}"),
            "-device".to_owned(),
            "isa-debugcon,iobase=0xe9,chardev=canary".to_owned(),
        ]
    };
    let (heard, control) = (world.dir.join("host/canary.enclave"), world.dir.join("host/canary.control"));
    let add = words(&heard).join(" ");
    let change = format!("case \"$n\" in 0) set -- \"$@\" \"$a\" {add}; a=-no-reboot ;;\nesac");
    let qemu = hostile_qemu(world, "acpi", &change)?;
    let running = world.launch(&Launch { qemu: Some(&qemu), ..Launch::default() })?;
    // QEMU made the file, so it took the table; one byte in it is one too many.
    let code = if song(&heard)?.is_empty() { "NO_EFFECT" } else { "HOST_CODE_IN_THE_KERNEL" };
    // Control: the very same kernel and table, without the measured command line. Now the host's code does run.
    interpret(world, &words(&control))?;
    let control = if song(&control)? == SUNG { "accepted" } else { "TABLE_NOT_RUN" };
    Ok(Played {
        name: "acpi-table",
        title: "host hands the guest's kernel a program in an ACPI table",
        refused_by: "enclave",
        pid: running.enclave_pid,
        program: program_of(&running),
        code: code.to_owned(),
        expected: "NO_EFFECT",
        control: control.to_owned(),
        facts: json!({ "control": "the same kernel without acpi=off runs the host's table" }),
    })
}

/// What was written to a port's file.
pub fn song(port: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(port).map_err(|e| Failure::file(port, "read", &e))
}

/// Boots the image's kernel with its ACPI interpreter until it finds no root file system.
fn interpret(world: &World, words: &[String]) -> Result<(), Failure> {
    let kernel = world.image.clone().unwrap_or_default().join("kernel");
    let mut own: Vec<OsString> = ["-append", "quiet panic=-1", "-kernel"].map(OsString::from).to_vec();
    own.push(kernel.into());
    own.extend(words.iter().map(OsString::from));
    boot(&own, || false)
}

/// Runs QEMU without a launcher until it ends, or `done`, or a minute has passed.
pub fn boot(words: &[OsString], done: impl Fn() -> bool) -> Result<(), Failure> {
    let mut qemu = Command::new(qemu()?);
    qemu.args(["-machine", "q35", "-accel", "tcg", "-m", "512", "-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none"])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let failed = |e: &std::io::Error| Failure::file("qemu-system-x86_64".as_ref(), "started", e);
    let mut child = ending::spawn(&mut qemu).map_err(|e| failed(&e))?;
    let end = Instant::now() + Duration::from_secs(60);
    while child.try_wait().map_err(|e| failed(&e))?.is_none() && Instant::now() < end && !done() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    ending::ended(&child);
    Ok(())
}

fn refused_by_firmware(
    world: &mut World,
    stage: &mut Stage,
    name: &'static str,
    title: &'static str,
    change: &str,
) -> Result<Played, Failure> {
    // First: a slow host must not pass for a refusal.
    let control = control(world, stage)?;
    let silence = silence(stage);
    let qemu = hostile_qemu(world, name, change)?;
    let fatal = world.launch_refused(&Launch { qemu: Some(&qemu), silence, ..Launch::default() })?;
    Ok(Played {
        name,
        title,
        refused_by: "firmware",
        pid: fatal.pid,
        program: fatal.program,
        code: fatal.code,
        expected: "GUEST_SILENT",
        control,
        facts: json!({ "control": "the same script in front of QEMU, changing nothing", "seconds_of_silence": silence }),
    })
}

/// How long a machine of this host may be silent, once the control was tried.
pub fn silence(stage: &Stage) -> u64 {
    SILENT.max(3 * stage.control.as_ref().map_or(0, |(_, first_word)| first_word.as_secs() + 1))
}

fn refused_by_broker(
    world: &mut World,
    stage: &mut Stage,
    name: &'static str,
    title: &'static str,
    fatal: &crate::demo::world::Fatal,
) -> Result<Played, Failure> {
    Ok(Played {
        name,
        title,
        refused_by: "broker",
        pid: u64::from(stage.broker.pid()),
        program: program_sha256(stage.broker.pid()),
        code: ledger_code(world, fatal.ticket.as_deref())?,
        expected: "MEASUREMENT_NOT_ALLOWED",
        control: control(world, stage)?,
        facts: json!({ "enclave_said": fatal.code, "ticket": fatal.ticket }),
    })
}

/// The same launch through a script that changes nothing: it serves. It is tried once, since a machine takes its time.
pub fn control(world: &World, stage: &mut Stage) -> Result<String, Failure> {
    if let Some((outcome, _)) = &stage.control {
        return Ok(outcome.clone());
    }
    let qemu = hostile_qemu(world, "control", HONEST)?;
    let running = world.launch(&Launch { qemu: Some(&qemu), ..Launch::default() })?;
    stage.control = Some(("accepted".to_owned(), running.first_word));
    Ok("accepted".to_owned())
}

pub fn program_of(running: &Running) -> Option<String> {
    u32::try_from(running.enclave_pid).ok().and_then(program_sha256)
}

/// A program that changes some of its arguments and becomes QEMU; its path inside the world.
pub fn hostile_qemu(world: &World, name: &str, change: &str) -> Result<String, Failure> {
    let text = format!(
        "#!/bin/sh\n# Each argument goes round once.\nn=$# prev=\nwhile [ \"$n\" -gt 0 ]; do\n\
         a=$1; shift; n=$((n - 1)); was=$a\n{change}\nset -- \"$@\" \"$a\"; prev=$was\ndone\n\
         exec {} \"$@\"\n",
        qemu()?.display()
    );
    let inside = format!("host/qemu-{name}");
    let path = world.dir.join(&inside);
    if !path.exists() {
        let executable = || fs::set_permissions(&path, fs::Permissions::from_mode(0o755));
        fs::write(&path, text).and_then(|()| executable()).map_err(|e| Failure::file(&path, "written", &e))?;
    }
    Ok(inside)
}

/// Copies the image, one byte longer, with a manifest that fits.
fn copy_image(world: &World, folder: &str) -> Result<(), Failure> {
    let (from, to) = (world.image.clone().unwrap_or_default(), world.dir.join(folder));
    fs::create_dir_all(&to).map_err(|e| Failure::file(&to, "created", &e))?;
    for name in ["kernel", "firmware.fd", "initrd", "image.json"] {
        fs::copy(from.join(name), to.join(name)).map_err(|e| Failure::file(&from.join(name), "copied", &e))?;
    }
    let initrd = to.join("initrd");
    let mut bytes = fs::read(&initrd).map_err(|e| Failure::file(&initrd, "read", &e))?;
    let before = hex::encode(sha256(&bytes));
    let length = bytes.len();
    // The kernel passes over zeros after an archive, so this image works as well.
    bytes.extend([0; 4]);
    fs::write(&initrd, &bytes).map_err(|e| Failure::file(&initrd, "changed", &e))?;
    let manifest = to.join("image.json");
    let text = fs::read_to_string(&manifest).map_err(|e| Failure::file(&manifest, "read", &e))?;
    let mut value: Value = serde_json::from_str(&text)
        .map_err(|_| Failure::new("IMAGE_MISMATCH", 6, "image.json is not JSON", "build the image again"))?;
    adapt(&mut value, (&before, length as u64), (&hex::encode(sha256(&bytes)), bytes.len() as u64));
    write_json(&manifest, &value)
}

/// Replaces a digest, and the length beside it, wherever it stands.
fn adapt(value: &mut Value, old: (&str, u64), new: (&str, u64)) {
    match value {
        Value::Object(map) => {
            let here = map.values().any(|v| v.as_str() == Some(old.0));
            for item in map.values_mut() {
                if item.as_str() == Some(old.0) {
                    *item = json!(new.0);
                } else if here && item.as_u64() == Some(old.1) {
                    *item = json!(new.1);
                } else {
                    adapt(item, old, new);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| adapt(item, old, new)),
        _ => {}
    }
}

fn write_json(path: &Path, value: &Value) -> Result<(), Failure> {
    fs::write(path, format!("{value:#}\n")).map_err(|e| Failure::file(path, "written", &e))
}
