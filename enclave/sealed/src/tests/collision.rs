//! Turns two keys into one ciphertext and tag that AES-256-GCM opens under both, and shows what the format makes of it.
//! GCM alone never says which of two plaintexts was meant: it binds no key. The commitment does, and the signature on it.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use tempfile::TempDir;
use vouchsafe_attestation::lp::sha256;

use super::{
    support::{Files, Fixture, blob, list, pattern, payload, sign, store},
    ways::in_sequence,
};
use crate::{
    HEADER_LEN, Manifest, ModelKey, Package, SealedError,
    chunk::ChunkKey,
    commitment,
    digest_list::entry,
    key::{FileContext, file_okm},
};

const BLOCK: usize = 16;
/// Blocks of the crafted file; the last but one is solved for, so that it is none of the border cases.
const BLOCKS: usize = 32;
const SOLVED: usize = BLOCKS - 2;
const LEN: usize = BLOCKS * BLOCK;
const OTHER_KEY: [u8; 32] = [0x12; 32];
const HONEST: &[u8] = b"the weights that everybody has read and agreed to";
const OTHER: &[u8] = b"the weights that one customer alone is served";

/// The identity of GCM's field: its first bit is the highest.
const ONE: u128 = 1 << 127;

/// The product in GF(2^128), as NIST SP 800-38D defines it.
fn times(x: u128, y: u128) -> u128 {
    let (mut product, mut shifted) = (0, y);
    for i in 0..128 {
        if x >> (127 - i) & 1 == 1 {
            product ^= shifted;
        }
        let carry = shifted & 1;
        shifted >>= 1;
        if carry == 1 {
            shifted ^= 0xe1 << 120;
        }
    }
    product
}

fn power(x: u128, exponent: u128) -> u128 {
    let (mut out, mut square) = (ONE, x);
    for i in 0..128 {
        if exponent >> i & 1 == 1 {
            out = times(out, square);
        }
        square = times(square, square);
    }
    out
}

/// x^(2^128 - 2); of zero, zero.
fn inverse(x: u128) -> u128 {
    power(x, u128::MAX - 1)
}

fn block(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(bytes.try_into().unwrap())
}

/// GHASH of whole blocks of ciphertext without associated data.
fn ghash(h: u128, ciphertext: &[u8]) -> u128 {
    let lengths = ciphertext.len() as u128 * 8;
    ciphertext.chunks(BLOCK).map(block).chain([lengths]).fold(0, |hash, block| times(hash ^ block, h))
}

/// One key and nonce, as an attacker who has both sees them: by calls of GCM alone.
struct Gcm {
    cipher: Aes256Gcm,
    nonce: [u8; 12],
}

impl Gcm {
    /// Of chunk 0 of the fixture's first file.
    fn of(model: &[u8; 32], context: &FileContext<'_>) -> Self {
        let okm = file_okm(&ModelKey::from_bytes(*model), context);
        Self { cipher: Aes256Gcm::new_from_slice(&okm[..32]).unwrap(), nonce: okm[32..].try_into().unwrap() }
    }

    fn seal(&self, msg: &[u8], aad: &[u8]) -> Vec<u8> {
        self.cipher.encrypt(&self.nonce.into(), Payload { msg, aad }).unwrap()
    }

    fn open(&self, ciphertext: &[u8], tag: &[u8; 16]) -> Option<Vec<u8>> {
        self.cipher.decrypt(&self.nonce.into(), &[ciphertext, tag].concat()[..]).ok()
    }

    fn stream(&self) -> Vec<u8> {
        self.seal(&[0; LEN], &[])[..LEN].to_vec()
    }

    /// What is added to every GHASH under this nonce: the tag of nothing.
    fn mask(&self) -> u128 {
        block(&self.seal(&[], &[]))
    }

    /// The hash key: the tags of two blocks of associated data, one and zero, differ by its square.
    fn hash_key(&self) -> u128 {
        let tag = |aad: u128| block(&self.seal(&[], &aad.to_be_bytes()));
        power(tag(ONE) ^ tag(0), 1 << 127)
    }

    fn tag(&self, ciphertext: &[u8]) -> u128 {
        self.mask() ^ ghash(self.hash_key(), ciphertext)
    }
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// A ciphertext and its one tag under both keys; it begins with `HONEST` under the first and holds `OTHER` under the second.
fn collide(one: &Gcm, other: &Gcm) -> (Vec<u8>, [u8; 16]) {
    let mut ciphertext = pattern(LEN);
    let half = LEN / 2;
    ciphertext[..HONEST.len()].copy_from_slice(&xor(&one.stream(), HONEST));
    ciphertext[half..half + OTHER.len()].copy_from_slice(&xor(&other.stream()[half..], OTHER));
    // Both tags are sums over the blocks, so the difference of the tags is a linear function of any one block.
    let solved = SOLVED * BLOCK..(SOLVED + 1) * BLOCK;
    ciphertext[solved.clone()].fill(0);
    let exponent = (BLOCKS - SOLVED + 1) as u128;
    let slope = power(one.hash_key(), exponent) ^ power(other.hash_key(), exponent);
    let value = times(one.tag(&ciphertext) ^ other.tag(&ciphertext), inverse(slope));
    ciphertext[solved].copy_from_slice(&value.to_be_bytes());
    let tag = one.tag(&ciphertext);
    assert_eq!(tag, other.tag(&ciphertext));
    (ciphertext, tag.to_be_bytes())
}

/// Uid, sequence and salt as the fixture's.
fn context<'a>(uid: &'a [u8; 32], salt: &'a [u8; 32]) -> FileContext<'a> {
    FileContext { uid, sequence: Fixture::small().sequence, index: 0, padded_len: LEN as u64, salt }
}

fn opened(files: &Files) -> (TempDir, Package) {
    let dir = TempDir::new().unwrap();
    store(dir.path(), files);
    let package = Package::open(dir.path(), &Fixture::small().vendor_keys()).unwrap();
    (dir, package)
}

#[test]
fn the_arithmetic_is_that_of_gcm() {
    let x = block(&pattern(BLOCK * 3)[BLOCK..BLOCK * 2]);
    assert_eq!((times(x, ONE), times(ONE, x), times(x, inverse(x))), (x, x, ONE));
    assert_eq!(power(times(x, x), 1 << 127), x, "a square root");
    let (uid, salt) = (Fixture::small().uid, sha256(&[0, 1]));
    let gcm = Gcm::of(&[0x11; 32], &context(&uid, &salt));
    let sealed = gcm.seal(&pattern(LEN), &[]);
    assert_eq!(gcm.tag(&sealed[..LEN]), block(&sealed[LEN..]));
}

#[test]
fn one_ciphertext_of_two_keys_is_one_plaintext_of_this_format() {
    let (uid, salt) = (Fixture::small().uid, sha256(&[0, 1]));
    let key = Fixture::small().key;
    let (one, other) = (Gcm::of(&key, &context(&uid, &salt)), Gcm::of(&OTHER_KEY, &context(&uid, &salt)));
    let (ciphertext, tag) = collide(&one, &other);

    // GCM alone: both keys open it, each to its own text.
    let plain = one.open(&ciphertext, &tag).expect("under the first key");
    let equivocal = other.open(&ciphertext, &tag).expect("under the second key");
    assert!(plain.starts_with(HONEST) && equivocal[LEN / 2..].starts_with(OTHER) && plain != equivocal);
    let mut damaged = ciphertext.clone();
    damaged[0] ^= 1;
    assert!(one.open(&damaged, &tag).is_none() && other.open(&damaged, &tag).is_none(), "control");

    // The package of the first text holds exactly this ciphertext and tag.
    let fixture = Fixture::of_graph(plain.clone(), 1);
    let files = fixture.files();
    assert!(files["0000.blob"][HEADER_LEN..] == ciphertext);
    assert!(files["0000.list"] == entry(&ciphertext, &tag), "the list names the ciphertext, and with it no key");
    assert!(fixture.judge(&files).unwrap() == [plain]);

    // The second key is another key: refused before anything is decrypted.
    let (_dir, package) = opened(&files);
    let second = ModelKey::from_bytes(OTHER_KEY);
    assert_eq!(in_sequence(&package, &second, 0), (Err(SealedError::KeyCommitment), Vec::new()));
    assert_eq!(package.unseal_to_vec(&second, 0).err(), Some(SealedError::KeyCommitment));

    // A vendor who commits to the second key signs another manifest, with another name for the weights. It shows that the
    // commitment, and nothing else, refused: the chunk opens to the second text.
    let mut manifest = Manifest::parse(payload(&files).as_bytes()).unwrap();
    manifest.model_commitment = commitment(&second, &uid);
    manifest.files[0].sealed_len = ChunkKey::derive(&second, &context(&uid, &salt)).seal_length(LEN as u64);
    let mut equivocating = files.clone();
    sign(&mut equivocating, &fixture.seeds, std::str::from_utf8(&manifest.to_bytes()).unwrap());
    let (_dir, forged) = opened(&equivocating);
    assert!(in_sequence(&forged, &second, 0) == (Ok(LEN as u64), equivocal), "control: the collision is real");
    assert_eq!(forged.manifest().files[0].list_digest, package.manifest().files[0].list_digest);
    assert_ne!(forged.manifest_digest(), package.manifest_digest());
    assert_eq!(in_sequence(&forged, &fixture.model_key(), 0).0, Err(SealedError::KeyCommitment));
}

/// Whoever knows the model key can make a valid tag for other bytes; GCM takes them, the signed list does not.
#[test]
fn a_key_holder_without_the_vendors_signature_changes_nothing() {
    let fixture = Fixture::of_graph(pattern(LEN), 1);
    let files = fixture.files();
    let (uid, salt) = (fixture.uid, sha256(&[0, 1]));
    let gcm = Gcm::of(&fixture.key, &context(&uid, &salt));
    let sealed = gcm.seal(&[7; LEN], &[]);
    let (ciphertext, tag) = sealed.split_at(LEN);
    let tag: [u8; 16] = tag.try_into().unwrap();
    assert_eq!(gcm.open(ciphertext, &tag).unwrap(), [7_u8; LEN], "control: GCM takes it");
    let mut forged = files.clone();
    blob(&mut forged, 0)[HEADER_LEN..].copy_from_slice(ciphertext);
    assert_eq!(fixture.judge(&forged).unwrap_err(), SealedError::BlobChunk(0, 0));
    *list(&mut forged, 0) = entry(ciphertext, &tag).to_vec();
    assert_eq!(fixture.judge(&forged).unwrap_err(), SealedError::BlobList(0));
}
