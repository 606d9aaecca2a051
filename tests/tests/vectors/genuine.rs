//! Turns the index of shared, genuine vectors into names that COVERAGE.md can list.
//! It holds no evidence: the vectors are not part of this repository, and their own tests judge them.

/// Genuine SEV-SNP reports that verification accepts on 2026-03-01: `attestation/tests/genuine.rs`.
pub const SNP: [&str; 9] = [
    "genoa-v5-vcek-6d1ceffa",
    "genoa-v5-vcek-7ea4daeb",
    "milan-v2-vcek-377e6241",
    "milan-v2-vcek-597d1fae",
    "milan-v2-vcek-7c614616",
    "milan-v3-vcek-14fd2b6e",
    "milan-v3-vcek-8af4ab55",
    "milan-v3-vcek-e75e8d4e",
    "turin-v5-vcek-85da705e",
];

/// Genuine TDX quotes that verification accepts with the collateral beside them.
pub const TDX: [&str; 5] = [
    "tdx-v4-bt2-90c06f000000-509f50f8",
    "tdx-v4-bt2-90c06f000000-afb2d8f7",
    "tdx-v4-bt2-b0c06f000000-0c699dd4",
    "tdx-v4-bt2-b0c06f000000-f1c85033",
    "tdx-v5-bt3-90c06f000000-cf77a6e9",
];
