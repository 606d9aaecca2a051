//! Turns one TLS session and many leaves into the 64 bytes of REPORT_DATA (RFC 9162 section 2.1 for the tree).
//! It does not verify evidence: it says which REPORT_DATA genuine evidence must carry to speak for this session.

use serde::{Deserialize, Serialize};

use crate::{
    EncodingError, EvidenceEnvelope, Mode, Tee,
    encoding::{from_b64url, serde_b64url, serde_b64url_array},
    lp::{Transcript, sha256, sha512},
};

/// RFC 5705 label of the exporter; `EXPERIMENTAL` since the name is not registered.
pub const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL-vouchsafe-attest-v1";
/// RFC 5705 context of the exporter: who attests.
pub const EXPORTER_CONTEXT: &[u8] = b"server";
/// A tree has at most so many leaves (2^20).
pub const MAX_TREE: u32 = 1 << 20;
const MAX_PATH: usize = 20;

/// `POST /v1/attest`, request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestRequest {
    /// Format version: 1.
    pub v: u32,
    /// 32 random bytes of the verifier's.
    #[serde(with = "serde_b64url_array")]
    pub nonce: [u8; 32],
    /// Technologies the verifier can verify.
    pub accept: Vec<Tee>,
}

/// `POST /v1/attest`, response.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestResponse {
    /// Format version: 1.
    pub v: u32,
    /// Technology of the evidence.
    pub tee: Tee,
    /// Exact bytes of the claims.
    #[serde(with = "serde_b64url")]
    pub claims: Vec<u8>,
    /// Where this session stands in the tree.
    pub merkle: MerklePath,
    /// Evidence and its collateral.
    pub evidence: EvidenceEnvelope,
}

/// An inclusion proof: index < size <= 2^20, at most 20 nodes of 64 bytes, leaf side first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerklePath {
    /// Position of the leaf.
    pub index: u32,
    /// Number of leaves.
    pub size: u32,
    /// Sibling hashes, base64url.
    #[serde(serialize_with = "path_out", deserialize_with = "path_in")]
    pub path: Vec<[u8; 64]>,
}

fn path_out<S: serde::Serializer>(path: &[[u8; 64]], s: S) -> Result<S::Ok, S::Error> {
    path.iter().map(|n| crate::encoding::b64url(n)).collect::<Vec<_>>().serialize(s)
}

fn path_in<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<[u8; 64]>, D::Error> {
    use serde::de::Error as _;
    let texts = Vec::<String>::deserialize(d)?;
    let node = |t: &String| {
        let bytes = from_b64url(t, "path node").map_err(D::Error::custom)?;
        <[u8; 64]>::try_from(bytes).map_err(|_| D::Error::custom("a path node is 64 bytes"))
    };
    texts.iter().map(node).collect()
}

/// What one session commits to: technology and mode, the verifier's nonce, this TLS session, its key, the claims.
#[must_use]
pub fn session_digest(
    mode: Mode,
    tee: Tee,
    nonce: &[u8; 32],
    ekm: &[u8; 32],
    spki_sha256: &[u8; 32],
    claims: &[u8],
) -> [u8; 64] {
    Transcript::<64>::new("vouchsafe/1 session")
        .lp(mode.as_str().as_bytes())
        .lp(tee.as_str().as_bytes())
        .lp(EXPORTER_CONTEXT)
        .lp(b"tls-exporter")
        .lp(nonce)
        .lp(ekm)
        .lp(spki_sha256)
        .lp(&sha256(claims))
        .finish()
}

/// REPORT_DATA for a tree: binds mode and technology once more, the root and the number of leaves.
#[must_use]
pub fn report_data(mode: Mode, tee: Tee, root: &[u8; 64], size: u64) -> [u8; 64] {
    Transcript::<64>::new("vouchsafe/1 report-data")
        .lp(mode.as_str().as_bytes())
        .lp(tee.as_str().as_bytes())
        .lp(root)
        .u64be(size)
        .finish()
}

/// Leaf hash: `SHA-512(0x00 || session_digest)`.
#[must_use]
pub fn leaf(session_digest: &[u8; 64]) -> [u8; 64] {
    let mut bytes = [0; 65];
    bytes[1..].copy_from_slice(session_digest);
    sha512(&bytes)
}

/// Inner hash: `SHA-512(0x01 || left || right)`.
#[must_use]
pub fn node(left: &[u8; 64], right: &[u8; 64]) -> [u8; 64] {
    let mut bytes = [1; 129];
    bytes[1..65].copy_from_slice(left);
    bytes[65..].copy_from_slice(right);
    sha512(&bytes)
}

/// The tree over one window of sessions, kept level by level. An odd last node rises unchanged, as in RFC 9162.
pub struct Tree {
    levels: Vec<Vec<[u8; 64]>>,
}

impl Tree {
    /// Builds the tree over leaf hashes.
    ///
    /// # Errors
    /// `MERKLE_PATH` for no leaf or more than 2^20.
    pub fn new(leaves: Vec<[u8; 64]>) -> Result<Self, EncodingError> {
        if leaves.is_empty() || leaves.len() > MAX_TREE as usize {
            return Err(EncodingError::MerklePath);
        }
        let mut levels = vec![leaves];
        while let Some(last) = levels.last().filter(|l| l.len() > 1) {
            let next = last
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node(left, right),
                    rest => rest[0],
                })
                .collect();
            levels.push(next);
        }
        Ok(Self { levels })
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u32 {
        // `new` refused more than 2^20.
        self.levels[0].len() as u32
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> [u8; 64] {
        self.levels[self.levels.len() - 1][0]
    }

    /// The inclusion proof of leaf `index`.
    ///
    /// # Errors
    /// `MERKLE_PATH` for an index outside the tree.
    pub fn path(&self, index: u32) -> Result<MerklePath, EncodingError> {
        if index >= self.size() {
            return Err(EncodingError::MerklePath);
        }
        let mut at = index as usize;
        let mut path = Vec::new();
        for level in &self.levels[..self.levels.len() - 1] {
            if let Some(sibling) = level.get(at ^ 1) {
                path.push(*sibling);
            }
            at >>= 1;
        }
        Ok(MerklePath { index, size: self.size(), path })
    }
}

/// The root that `path` leads to from `leaf` (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// `MERKLE_PATH` when the proof is longer or shorter than index and size demand, or out of range.
pub fn root_from_path(leaf: &[u8; 64], path: &MerklePath) -> Result<[u8; 64], EncodingError> {
    if path.size > MAX_TREE || path.index >= path.size || path.path.len() > MAX_PATH {
        return Err(EncodingError::MerklePath);
    }
    let (mut at, mut last) = (path.index, path.size - 1);
    let mut hash = *leaf;
    for sibling in &path.path {
        if last == 0 {
            return Err(EncodingError::MerklePath);
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok(hash) } else { Err(EncodingError::MerklePath) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: u32) -> Vec<[u8; 64]> {
        (0..n).map(|i| leaf(&sha512(&i.to_be_bytes()))).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_proves_itself_and_nothing_else() {
        for n in 1..=33 {
            let all = leaves(n);
            let tree = Tree::new(all.clone()).unwrap();
            for i in 0..n {
                let path = tree.path(i).unwrap();
                assert_eq!(root_from_path(&all[i as usize], &path), Ok(tree.root()), "{i} of {n}");
                let other = MerklePath { index: (i + 1) % n, ..path.clone() };
                assert!(n == 1 || root_from_path(&all[i as usize], &other) != Ok(tree.root()), "{i} of {n}");
                let mut long = path.clone();
                long.path.push([0; 64]);
                assert_ne!(root_from_path(&all[i as usize], &long), Ok(tree.root()));
                let mut short = path;
                if short.path.pop().is_some() {
                    assert_ne!(root_from_path(&all[i as usize], &short), Ok(tree.root()));
                }
            }
        }
    }

    #[test]
    fn ranges_are_refused() {
        let bad = |index, size, n| root_from_path(&[0; 64], &MerklePath { index, size, path: vec![[0; 64]; n] });
        for (index, size, n) in [(0, 0, 0), (1, 1, 0), (0, MAX_TREE + 1, 20), (0, 2, 0), (0, 1, 1), (0, 2, 21)] {
            assert_eq!(bad(index, size, n), Err(EncodingError::MerklePath), "{index} {size} {n}");
        }
        assert!(Tree::new(Vec::new()).is_err());
    }

    #[test]
    fn every_input_of_the_session_digest_counts() {
        let base = session_digest(Mode::Simulation, Tee::SevSnp, &[1; 32], &[2; 32], &[3; 32], b"c");
        let others = [
            session_digest(Mode::Hardware, Tee::SevSnp, &[1; 32], &[2; 32], &[3; 32], b"c"),
            session_digest(Mode::Simulation, Tee::Tdx, &[1; 32], &[2; 32], &[3; 32], b"c"),
            session_digest(Mode::Simulation, Tee::SevSnp, &[9; 32], &[2; 32], &[3; 32], b"c"),
            session_digest(Mode::Simulation, Tee::SevSnp, &[1; 32], &[9; 32], &[3; 32], b"c"),
            session_digest(Mode::Simulation, Tee::SevSnp, &[1; 32], &[2; 32], &[9; 32], b"c"),
            session_digest(Mode::Simulation, Tee::SevSnp, &[1; 32], &[2; 32], &[3; 32], b"d"),
        ];
        assert!(others.iter().all(|o| *o != base));
    }
}
