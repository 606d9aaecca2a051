//! Turns the words of the shared index of genuine evidence into this project's codes and exit statuses.
//! The index judges by other verifiers; where ours is stricter on purpose, the row says why.

/// A word of the index's column "strict", our code, its exit status.
pub const WORDS: [(&str, &str, i32); 8] = [
    // Verification stops at the first of these; nothing is appraised.
    ("VekExpired", "LEAF_EXPIRED", 3),
    // Appraisal collects all of these.
    ("VersionTooOld", "VERSION_TOO_OLD", 4),
    ("DebugAllowed", "DEBUG_ALLOWED", 4),
    ("AliasCheckIncomplete", "ALIAS_CHECK_INCOMPLETE", 4),
    ("TcbBelowMinimum", "TCB_BELOW_FLOOR", 4),
    ("ProvisionalFirmware", "FIRMWARE_PROVISIONAL", 4),
    ("VlekNotAllowed", "VLEK_NOT_ALLOWED", 4),
    ("VmplNotAllowed", "VMPL_NOT_ALLOWED", 4),
];

/// Every leaf but one is in force, and every revocation list.
pub const IN_FORCE: &str = "2026-03-01T00:00:00Z";
/// The one other leaf, a VLEK, was in force then.
pub const VLEK_IN_FORCE: &str = "2025-12-01T00:00:00Z";
/// Every revocation list is past its next update.
pub const LISTS_EXPIRED: &str = "2026-11-21T00:00:00Z";

/// A quote, a collateral file, two hours after that was issued, our codes, the exit status.
pub type TdxRow = (&'static str, &'static str, &'static str, &'static [&'static str], i32);

const EVAL_18: &str = "90c06f000000_2026-04-24_eval18.json";
const EVAL_19: &str = "90c06f000000_2026-06-29_eval19.json";
const OTHER: &str = "b0c06f000000_2026-06-29_eval19.json";
const AT_18: &str = "2026-04-24T03:35:26Z";
const AT_19: &str = "2026-06-29T03:42:47Z";
const AT_OTHER: &str = "2026-06-29T03:49:37Z";

/// Quotes of the index's TDX table.
pub const QUOTES: [TdxRow; 16] = [
    // "no collateral": the families of these two are in no bundle. The first lacks SEPT_VE_DISABLE, the second is a debug TD.
    ("tdx-v4-bt2-00806f050000-a187b0da", EVAL_19, AT_19, &["FMSPC_MISMATCH"], 2),
    ("tdx-v4-bt2-50806f000000-12b401a8", EVAL_19, AT_19, &["FMSPC_MISMATCH"], 2),
    // "UpToDate, strict+flags=OK".
    ("tdx-v4-bt2-90c06f000000-509f50f8", EVAL_19, AT_19, &[], 0),
    ("tdx-v4-bt2-b0c06f000000-f1c85033", OTHER, AT_OTHER, &[], 0),
    ("tdx-v5-bt3-90c06f000000-cf77a6e9", EVAL_19, AT_19, &[], 0),
    // The same, but what its host bound is no digest followed by zeros, and our policies want that shape.
    ("tdx-v4-bt2-b0c06f000000-0c699dd4", OTHER, AT_OTHER, &["MR_CONFIG_ID_SHAPE"], 4),
    // "OutOfDate" with five advisories.
    ("tdx-v4-bt2-90c06f000000-afb2d8f7", EVAL_19, AT_19, &["TCB_STATUS_NOT_ALLOWED", "TCB_ADVISORY_NOT_ALLOWED"], 4),
    // "eval18 under a floor of 19 is the rollback case".
    ("tdx-v4-bt2-90c06f000000-509f50f8", EVAL_18, AT_18, &["TCB_EVALUATION_BELOW_FLOOR"], 3),
    ("tdx-v5-bt3-90c06f000000-cf77a6e9", EVAL_18, AT_18, &["TCB_EVALUATION_BELOW_FLOOR"], 3),
    (
        "tdx-v4-bt2-90c06f000000-afb2d8f7",
        EVAL_18,
        AT_18,
        &["TCB_STATUS_NOT_ALLOWED", "TCB_ADVISORY_NOT_ALLOWED", "TCB_EVALUATION_BELOW_FLOOR"],
        4,
    ),
    // "a bundle of the other FMSPC is the mismatch case".
    ("tdx-v4-bt2-90c06f000000-509f50f8", OTHER, AT_OTHER, &["FMSPC_MISMATCH"], 2),
    ("tdx-v4-bt2-90c06f000000-afb2d8f7", OTHER, AT_OTHER, &["FMSPC_MISMATCH"], 2),
    ("tdx-v4-bt2-b0c06f000000-0c699dd4", EVAL_19, AT_19, &["FMSPC_MISMATCH"], 2),
    ("tdx-v4-bt2-b0c06f000000-f1c85033", EVAL_19, AT_19, &["FMSPC_MISMATCH"], 2),
    // Long after: every item but the root's list has run out; and before it was issued.
    ("tdx-v4-bt2-b0c06f000000-f1c85033", OTHER, "2026-11-21T00:00:00Z", &["TCB_INFO_EXPIRED"], 3),
    ("tdx-v4-bt2-b0c06f000000-f1c85033", OTHER, "2026-06-28T00:00:00Z", &["TCB_INFO_NOT_YET_VALID"], 3),
];
