//! Turns names into wrong words of an SNP report: the processor of these machines signs what it should never say.
//! The certificates beside it are right, made anew where the report's words demand it.

use p384::ecdsa::SigningKey;
use rsa::rand_core::OsRng;

use super::{Named, Result, snp, snp_bytes};
use crate::snp::{SnpMaking, Tcb, report::SIGNED_LEN};

/// R stands at 0x2A0, S at 0x2E8, each in 72 bytes.
const R: usize = SIGNED_LEN;
const S: usize = SIGNED_LEN + 72;
const COMPONENT: usize = 48;

/// Faults of the report.
pub(super) const FAULTS: &[Named] = &[
    // ---- framing ----
    snp_bytes("report-empty", "no report at all", |e| e.report.clear()),
    snp_bytes("report-truncated", "a report without its last byte", |e| {
        e.report.pop();
    }),
    snp_bytes("report-trailing-byte", "a report with a byte more", |e| e.report.push(0)),
    snp("report-version-unknown", "report version 4, which is none", |m| said(|| m.report.version = 4)),
    snp("report-version-old", "report version 2, which names no processor", |m| said(|| m.report.set_version(2))),
    snp("report-algorithm", "another signature algorithm is named", |m| said(|| m.report.signature_algorithm = 2)),
    snp("report-reserved", "a reserved byte is set, and signed", |m| said(|| m.report.patches.push((0x24F, vec![1])))),
    snp("report-policy-reserved", "a guest policy without the bit that is always one", |m| {
        said(|| m.report.policy &= !(1 << 17))
    }),
    snp("report-cpu-unknown", "a processor that nobody knows", |m| said(|| m.report.cpuid = [0x19, 0x7f, 0])),
    snp_bytes("report-padding", "a byte after the signature is set", |e| set(&mut e.report, 0x49F, 1)),
    snp_bytes("signature-padding", "a byte between R and S is set", |e| set(&mut e.report, R + COMPONENT, 1)),
    // ---- signature ----
    snp_bytes("report-flipped", "one bit of the measurement flipped after signing", |e| flip(&mut e.report, 0x90)),
    snp_bytes("report-unsigned", "a signature of zeros", |e| {
        if let Some(signature) = e.report.get_mut(R..S + COMPONENT) {
            signature.fill(0);
        }
    }),
    snp_bytes("signature-big-endian", "R and S in the order of other formats", |e| {
        for at in [R, S] {
            if let Some(component) = e.report.get_mut(at..at + COMPONENT) {
                component.reverse();
            }
        }
    }),
    snp_bytes("signature-swapped", "R and S in each other's place", |e| {
        for at in 0..COMPONENT {
            e.report.swap(R + at, S + at);
        }
    }),
    snp("signature-other-key", "signed by a key that is not the leaf's", |m| {
        said(|| m.key = SigningKey::random(&mut OsRng))
    }),
    // ---- identity ----
    snp("chip-other", "another chip than the leaf's", |m| said(|| m.report.chip_id[0] ^= 1)),
    snp("chip-not-listed", "a genuine chip that no policy names", |m| {
        m.report.chip_id[63] ^= 1;
        m.certify()
    }),
    snp("chip-masked", "the host masks the chip's identity", |m| said(|| m.report.chip_id = [0; 64])),
    snp("chip-key-masked", "a chip key signs although the report says it is masked", |m| {
        said(|| m.report.key_info |= 1 << 1)
    }),
    snp("signer-vlek", "the report names a loaded key, the leaf is a chip's", |m| {
        said(|| m.report.key_info |= crate::snp::report::KEY_INFO_VLEK)
    }),
    snp("author-key", "an author key is announced that has no digest", |m| said(|| m.report.key_info |= 1)),
    // ---- security versions ----
    snp("tcb-reported-bootloader", "the reported boot loader is below the floor", |m| {
        reported(m, |t| t.bootloader -= 1)
    }),
    snp("tcb-reported-tee", "the reported processor software (TEE) is below the floor", |m| {
        reported(m, |t| t.tee -= 1)
    }),
    snp("tcb-reported-snp", "the reported SNP firmware is below the floor", |m| reported(m, |t| t.snp -= 1)),
    snp("tcb-reported-microcode", "the reported microcode is below the floor", |m| reported(m, |t| t.microcode -= 1)),
    snp("tcb-committed-bootloader", "the committed boot loader is below the floor", |m| {
        said(|| m.report.committed_tcb.bootloader -= 1)
    }),
    snp("tcb-committed-tee", "the committed processor software (TEE) is below the floor", |m| {
        said(|| m.report.committed_tcb.tee -= 1)
    }),
    snp("tcb-committed-snp", "the committed SNP firmware is below the floor", |m| {
        said(|| m.report.committed_tcb.snp -= 1)
    }),
    snp("tcb-committed-microcode", "the committed microcode is below the floor", |m| {
        said(|| m.report.committed_tcb.microcode -= 1)
    }),
    snp("tcb-launch-bootloader", "the guest was launched under a boot loader below the floor", |m| {
        said(|| m.report.launch_tcb.bootloader -= 1)
    }),
    snp("tcb-launch-tee", "the guest was launched under processor software (TEE) below the floor", |m| {
        said(|| m.report.launch_tcb.tee -= 1)
    }),
    snp("tcb-launch-snp", "the guest was launched under SNP firmware below the floor", |m| {
        said(|| m.report.launch_tcb.snp -= 1)
    }),
    snp("tcb-launch-microcode", "the guest was launched under microcode below the floor", |m| {
        said(|| m.report.launch_tcb.microcode -= 1)
    }),
    snp("tcb-provisional", "newer firmware runs that is not committed", |m| said(|| m.report.current_firmware[0] += 1)),
    snp("tcb-mismatch", "the leaf was issued for another security version", |m| {
        said(|| m.report.reported_tcb.microcode += 1)
    }),
    snp("tcb-reserved", "a reserved byte of the committed version is set", |m| {
        said(|| m.report.patches.push((0x1E4, vec![1])))
    }),
    snp("tcb-inconsistent", "more is committed than runs", |m| said(|| m.report.committed_tcb.microcode += 1)),
    snp("cpu-without-floor", "a Genoa of a model for which no floor is known", |m| {
        said(|| m.report.cpuid = [0x19, 0x1f, 0])
    }),
    snp("mitigation-missing", "a mitigation was not on at launch", |m| said(|| m.report.launch_mitigations = 0)),
    // ---- guest policy and platform ----
    snp("guest-debug", "the host may debug the guest", |m| said(|| m.report.policy |= 1 << 19)),
    snp("guest-migration", "a migration agent may take the guest elsewhere", |m| said(|| m.report.policy |= 1 << 18)),
    snp("guest-migration-agent", "a migration agent is bound against the guest policy", |m| {
        said(|| m.report.report_id_ma = [7; 32])
    }),
    snp("guest-cxl", "guest memory may lie on CXL devices", |m| said(|| m.report.policy |= 1 << 21)),
    snp("guest-vmpl", "asked for at a lower privilege level", |m| said(|| m.report.vmpl = 1)),
    snp("guest-vmpl-range", "a privilege level that is none", |m| said(|| m.report.vmpl = 4)),
    snp("host-requested", "the host asked, not the guest", |m| said(|| m.report.vmpl = u32::MAX)),
    snp("alias-check", "the firmware did not look for aliased memory", |m| {
        said(|| m.report.platform_info &= !(1 << 5))
    }),
    // ---- claims ----
    snp("measurement-other", "other code was launched", |m| said(|| m.report.measurement[47] ^= 1)),
    snp("host-data-other", "the report names another configuration", |m| said(|| m.report.host_data[31] ^= 1)),
    snp("report-data-last-byte", "REPORT_DATA differs in its last byte", |m| said(|| m.report.report_data[63] ^= 1)),
    snp("report-data-first-32-only", "REPORT_DATA is right in its first 32 bytes only", |m| {
        said(|| m.report.report_data[32..48].iter_mut().for_each(|b| *b ^= 0xa5))
    }),
];

/// The processor says something else; nothing else has to change.
fn said(change: impl FnOnce()) -> Result<()> {
    change();
    Ok(())
}

/// Another reported version, with the leaf that the vendor issues for it.
fn reported(making: &mut SnpMaking<'_>, change: impl FnOnce(&mut Tcb)) -> Result<()> {
    change(&mut making.report.reported_tcb);
    making.certify()
}

fn set(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

fn flip(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}
