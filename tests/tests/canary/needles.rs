//! Turns secrets into every form that a leak could give them, and finds those forms in bytes.
//! It does not find a secret that was transformed on purpose (encrypted, compressed): that is what sealing is.

use std::collections::{BTreeSet, HashMap};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

/// Something that must not be seen.
pub struct Canary {
    /// What it is.
    pub name: String,
    /// Its bytes.
    pub whole: Vec<u8>,
    /// Length of the pieces that are looked for: a leaked piece is a leak.
    pub piece: usize,
}

/// A canary in one form, seen in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub place: String,
    pub canary: String,
    pub form: &'static str,
}

/// The forms, in the words of a finding.
pub const FORMS: [&str; 6] = ["raw", "hex", "HEX", "base64", "base64url", "decimal"];

/// One whole canary in one form.
pub fn in_form(form: &str, bytes: &[u8]) -> Vec<u8> {
    match form {
        "raw" => bytes.to_vec(),
        "hex" => hex::encode(bytes).into_bytes(),
        "HEX" => hex::encode_upper(bytes).into_bytes(),
        "base64" => STANDARD.encode(bytes).into_bytes(),
        "base64url" => URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
        "decimal" => decimal(bytes, ", "),
        other => panic!("{other} is no form"),
    }
}

fn decimal(bytes: &[u8], between: &str) -> Vec<u8> {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(between).into_bytes()
}

/// The characters of Base64 that depend on these bytes alone, `shift` bytes after a multiple of three.
fn stable(encoded: impl Fn(&[u8]) -> String, bytes: &[u8], shift: usize) -> Vec<u8> {
    let text = encoded(&[&vec![0; shift], bytes].concat());
    let first = [0, 2, 3][shift];
    text.as_bytes()[first..(shift + bytes.len()) * 8 / 6].to_vec()
}

struct Needle {
    canary: usize,
    form: &'static str,
    bytes: Vec<u8>,
}

/// All forms of all canaries, ready to be searched for.
pub struct Scanner {
    names: Vec<String>,
    needles: Vec<Needle>,
    starts: Vec<bool>,
    by_start: HashMap<[u8; 8], Vec<usize>>,
}

impl Scanner {
    pub fn new(canaries: &[Canary]) -> Self {
        let mut needles = Vec::new();
        for (canary, about) in canaries.iter().enumerate() {
            for piece in about.whole.chunks_exact(about.piece) {
                let mut add = |form, bytes| needles.push(Needle { canary, form, bytes });
                for form in ["raw", "hex", "HEX", "decimal"] {
                    add(form, in_form(form, piece));
                }
                add("decimal", decimal(piece, ","));
                for shift in 0..3 {
                    add("base64", stable(|b| STANDARD.encode(b), piece, shift));
                    add("base64url", stable(|b| URL_SAFE_NO_PAD.encode(b), piece, shift));
                }
            }
        }
        let (mut starts, mut by_start) = (vec![false; 1 << 16], HashMap::<_, Vec<_>>::new());
        for (n, needle) in needles.iter().enumerate() {
            let start = *needle.bytes.first_chunk().expect("a needle is longer than its start");
            starts[usize::from(u16::from_be_bytes([start[0], start[1]]))] = true;
            by_start.entry(start).or_default().push(n);
        }
        Self { names: canaries.iter().map(|c| c.name.clone()).collect(), needles, starts, by_start }
    }

    /// How many byte strings are looked for.
    pub fn needles(&self) -> usize {
        self.needles.len()
    }

    /// Finds everything in one place.
    pub fn scan(&self, place: &str, bytes: &[u8], found: &mut BTreeSet<Finding>) {
        for (at, pair) in bytes.windows(2).enumerate() {
            if !self.starts[usize::from(u16::from_be_bytes([pair[0], pair[1]]))] {
                continue;
            }
            let Some(start) = bytes[at..].first_chunk::<8>() else { return };
            for needle in self.by_start.get(start).into_iter().flatten().map(|n| &self.needles[*n]) {
                if bytes[at..].starts_with(&needle.bytes) {
                    found.insert(Finding {
                        place: place.to_owned(),
                        canary: self.names[needle.canary].clone(),
                        form: needle.form,
                    });
                }
            }
        }
    }
}

#[test]
fn a_canary_is_found_in_every_form_at_every_alignment_and_never_beside_it() {
    let secret: Vec<u8> = (0..32).map(|n| (n * 7) ^ 0x5a).collect();
    let scanner = Scanner::new(&[Canary { name: "s".to_owned(), whole: secret.clone(), piece: 16 }]);
    let forms_in = |bytes: &[u8]| {
        let mut found = BTreeSet::new();
        scanner.scan("here", bytes, &mut found);
        found.into_iter().map(|f| f.form).collect::<BTreeSet<_>>()
    };
    for form in FORMS {
        for around in 0..4 {
            // The alignment of Base64 is that of what it encodes, so what lies around the secret is encoded too.
            let inside = [&vec![0x11; around], secret.as_slice(), b"after"].concat();
            let text = [b"{\"x\":\"", in_form(form, &inside).as_slice(), b"\"}"].concat();
            assert!(forms_in(&text).contains(form), "{form} {around}");
            let half = [vec![0x11; around], secret[16..].to_vec()].concat();
            assert!(forms_in(&in_form(form, &half)).contains(form), "half, {form} {around}");
        }
        let mut flipped = secret.clone();
        flipped[3] ^= 1;
        flipped[19] ^= 1;
        assert_eq!(forms_in(&in_form(form, &flipped)), BTreeSet::new(), "{form}: another secret");
    }
}
