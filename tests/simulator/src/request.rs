//! Turns the JSON of a launch request into one of two kinds of guest: a process of two files, or a machine of three.
//! It opens no file, and it does not say whether the technology or the mode is one that is simulated.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de::Error};
use vouchsafe_attestation::encoding::serde_hex;

/// What the launcher asks for.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawRequest")]
pub struct LaunchRequest {
    /// The technology: `sev-snp` or `tdx`.
    pub tee: String,
    /// The mode: `simulation`.
    pub mode: String,
    /// What is to be measured.
    pub guest: GuestFiles,
    /// The host's 32 bytes: the config digest.
    pub host_data: [u8; 32],
}

/// What a guest is made of.
#[derive(Debug)]
pub enum GuestFiles {
    /// A process that plays the guest.
    Process {
        /// Where the enclave's program is.
        enclave: PathBuf,
        /// Where ONNX Runtime's library is.
        onnxruntime: PathBuf,
    },
    /// A virtual machine that QEMU boots.
    Machine(MachineFiles),
}

/// The parts of a machine that its launch digest covers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineFiles {
    /// Where the firmware is.
    pub firmware: PathBuf,
    /// Where the kernel is.
    pub kernel: PathBuf,
    /// Where the initial RAM disk is.
    pub initrd: PathBuf,
    /// The kernel's command line, exactly as QEMU is given it.
    pub command_line: String,
    /// How many virtual processors.
    pub vcpus: u32,
    /// Their model, by QEMU's name.
    pub cpu: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    tee: String,
    mode: String,
    #[serde(default, deserialize_with = "written")]
    enclave: Option<PathBuf>,
    #[serde(default, deserialize_with = "written")]
    onnxruntime: Option<PathBuf>,
    #[serde(default, deserialize_with = "written")]
    vm: Option<MachineFiles>,
    #[serde(with = "serde_hex")]
    host_data: [u8; 32],
}

/// A field that is there has a value: `null` is no way to leave it out.
fn written<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl TryFrom<RawRequest> for LaunchRequest {
    type Error = serde_json::Error;

    fn try_from(raw: RawRequest) -> Result<Self, Self::Error> {
        let guest = match (raw.enclave, raw.onnxruntime, raw.vm) {
            (Some(enclave), Some(onnxruntime), None) => GuestFiles::Process { enclave, onnxruntime },
            (None, None, Some(machine)) => GuestFiles::Machine(machine),
            _ => return Err(Self::Error::custom("either `enclave` and `onnxruntime`, or `vm`")),
        };
        Ok(Self { tee: raw.tee, mode: raw.mode, guest, host_data: raw.host_data })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn vm() -> Value {
        json!({ "firmware": "/f", "kernel": "/k", "initrd": "/i", "command_line": "quiet", "vcpus": 1, "cpu": "EPYC-v4" })
    }

    /// A request with these fields besides the three that every request has.
    fn with(fields: &[(&str, Value)]) -> Value {
        let mut request = json!({ "tee": "sev-snp", "mode": "simulation", "host_data": "00".repeat(32) });
        for (name, value) in fields {
            request[*name] = value.clone();
        }
        request
    }

    fn parse(request: Value) -> Option<GuestFiles> {
        serde_json::from_value::<LaunchRequest>(request).ok().map(|request| request.guest)
    }

    #[test]
    fn there_are_two_forms() {
        let process = with(&[("enclave", json!("/e")), ("onnxruntime", json!("/o"))]);
        assert!(matches!(parse(process), Some(GuestFiles::Process { .. })));
        let Some(GuestFiles::Machine(machine)) = parse(with(&[("vm", vm())])) else { panic!("not a machine") };
        assert_eq!((machine.kernel, machine.vcpus, machine.cpu), (PathBuf::from("/k"), 1, "EPYC-v4".to_owned()));
    }

    #[test]
    fn mixed_partial_and_unknown_forms_are_refused() {
        let (e, o) = (("enclave", json!("/e")), ("onnxruntime", json!("/o")));
        for fields in [
            vec![],
            vec![e.clone()],
            vec![o.clone()],
            vec![e.clone(), o.clone(), ("vm", vm())],
            vec![e.clone(), ("vm", vm())],
            vec![o.clone(), ("vm", vm())],
            vec![e.clone(), o.clone(), ("vm", Value::Null)],
            vec![("enclave", Value::Null), ("onnxruntime", Value::Null), ("vm", vm())],
            vec![("vm", vm()), ("kernel", json!("/k"))],
            vec![("vm", json!("/image"))],
        ] {
            assert!(parse(with(&fields)).is_none(), "{fields:?}");
        }
        for field in ["firmware", "kernel", "initrd", "command_line", "vcpus", "cpu"] {
            let mut missing = vm();
            missing.as_object_mut().unwrap().remove(field);
            assert!(parse(with(&[("vm", missing)])).is_none(), "{field} missing");
        }
        for (field, value) in [
            ("vcpus", json!(-1)),
            ("vcpus", json!("1")),
            ("vcpus", json!(1.5)),
            ("vcpus", json!(u64::from(u32::MAX) + 1)),
            ("command_line", json!(["quiet"])),
            ("memory", json!(512)),
            ("command-line", json!("")),
        ] {
            let mut other = vm();
            other[field] = value;
            assert!(parse(with(&[("vm", other)])).is_none(), "{field}");
        }
        let twice = r#"{"tee":"sev-snp","mode":"simulation","host_data":"00","enclave":"/e","enclave":"/e"}"#;
        assert!(serde_json::from_str::<LaunchRequest>(twice).is_err());
    }
}
