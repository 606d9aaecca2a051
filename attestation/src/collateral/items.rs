//! Turns collateral into a list of its items: what each says of itself, when it was issued, when it runs out.
//! It establishes nothing: no signature is verified, so every word here is the file's own.

use der::{
    Decode, Tag,
    asn1::{AnyRef, ObjectIdentifier},
};
use serde::Deserialize;
use x509_cert::{ext::Extension, name::Name};

use crate::{
    Collateral, Mode, UnixTime,
    evidence::TdxCollateral,
    snp::{
        Product, Tcb,
        leaf::{self, Owner},
        x509::{Certificate, Fields, Malformed, Signed},
    },
};

/// One item of a collateral file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it stands in the file.
    pub name: &'static str,
    /// What it says of itself.
    pub about: About,
    /// When it was issued.
    pub issued: UnixTime,
    /// When it runs out, or the next one is due.
    pub expires: UnixTime,
    /// Its size.
    pub bytes: usize,
}

/// What an item says of itself. Texts are printable ASCII of at most 64 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A certificate.
    Certificate {
        /// Common name of its holder.
        subject: String,
        /// Common name of its issuer.
        issuer: String,
    },
    /// The certificate of the key that signs reports.
    Leaf {
        /// Common name of its holder.
        subject: String,
        /// Common name of its issuer.
        issuer: String,
        /// The product line.
        product: Product,
        /// Whose key it is.
        holder: Holder,
        /// The versions that the key was derived for.
        tcb: Tcb,
    },
    /// A revocation list.
    RevocationList {
        /// Common name of its issuer.
        issuer: String,
        /// Its number: grows with every list.
        number: u64,
        /// How many certificates it revokes.
        revoked: usize,
    },
    /// Intel's TCB levels of one family of processors.
    TcbInfo {
        /// The family, in hex.
        fmspc: String,
        /// The provisioning certification enclave, in hex.
        pce_id: String,
        /// Number of the assessment: grows with every one.
        evaluation_number: u32,
    },
    /// Intel's identity of the quoting enclave.
    QeIdentity {
        /// Which one.
        id: String,
        /// Number of the assessment: grows with every one.
        evaluation_number: u32,
    },
}

/// Who holds the key of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// One chip, in hex as reports spell it.
    Chip(String),
    /// A cloud provider.
    Provider(String),
}

/// The item, by name, that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable(pub &'static str);

/// Lists every item; a certificate that stands in several chains is listed once.
///
/// # Errors
/// The first item that cannot be read.
pub fn items(collateral: &Collateral) -> Result<Vec<Item>, Unreadable> {
    match collateral {
        Collateral::SevSnp { leaf, crl, asvk } => {
            let mut items = Vec::new();
            items.push(leaf_of(leaf)?);
            if !asvk.is_empty() {
                items.push(certificate("asvk", asvk)?);
            }
            items.push(revocation_list("crl", crl)?);
            Ok(items)
        }
        Collateral::Tdx(tdx) => of_tdx(tdx),
    }
}

fn of_tdx(tdx: &TdxCollateral) -> Result<Vec<Item>, Unreadable> {
    let mut items = vec![
        tcb_info("tcb_info", &tdx.tcb_info)?,
        qe_identity("qe_identity", &tdx.qe_identity)?,
        revocation_list("pck_crl", &tdx.pck_crl)?,
        revocation_list("root_ca_crl", &tdx.root_ca_crl)?,
    ];
    for (name, chain) in [
        ("pck_crl_issuer_chain", &tdx.pck_crl_issuer_chain),
        ("tcb_info_issuer_chain", &tdx.tcb_info_issuer_chain),
        ("qe_identity_issuer_chain", &tdx.qe_identity_issuer_chain),
    ] {
        for der in pem_chain(chain).ok_or(Unreadable(name))? {
            let item = certificate(name, &der)?;
            let known = items
                .iter()
                .any(|other| other.about == item.about && other.issued == item.issued && other.expires == item.expires);
            if !known {
                items.push(item);
            }
        }
    }
    Ok(items)
}

fn certificate(name: &'static str, der: &[u8]) -> Result<Item, Unreadable> {
    let read = || {
        let certificate = Certificate::parse(der)?;
        let about =
            About::Certificate { subject: common_name(certificate.subject)?, issuer: common_name(certificate.issuer)? };
        Ok((about, UnixTime(certificate.not_before), UnixTime(certificate.not_after)))
    };
    let (about, issued, expires) = read().map_err(|Malformed| Unreadable(name))?;
    Ok(Item { name, about, issued, expires, bytes: der.len() })
}

/// More of a leaf than of other certificates, where it has the form of one.
fn leaf_of(der: &[u8]) -> Result<Item, Unreadable> {
    let mut item = certificate("leaf", der)?;
    let read = |mode| leaf::read(der, mode, None).ok();
    if let (About::Certificate { subject, issuer }, Some(leaf)) =
        (&item.about, read(Mode::Hardware).or_else(|| read(Mode::Simulation)))
        && let Ok(tcb) = Tcb::read(leaf.tcb, leaf.product)
    {
        let holder = match leaf.owner {
            Owner::Chip(id) => Holder::Chip(hex::encode(id)),
            Owner::Provider(name) => Holder::Provider(printable(name)),
        };
        item.about =
            About::Leaf { subject: subject.clone(), issuer: issuer.clone(), product: leaf.product, holder, tcb };
    }
    Ok(item)
}

fn revocation_list(name: &'static str, der: &[u8]) -> Result<Item, Unreadable> {
    let (about, issued, expires) = list(der).map_err(|Malformed| Unreadable(name))?;
    Ok(Item { name, about, issued, expires, bytes: der.len() })
}

/// RFC 5280 section 5.1.
fn list(der: &[u8]) -> Result<(About, UnixTime, UnixTime), Malformed> {
    const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
    let signed = Signed::parse(der)?;
    let mut tbs = Fields::of(Tag::Sequence, signed.content)?;
    tbs.raw(Tag::Integer)?;
    tbs.raw(Tag::Sequence)?;
    let issuer = common_name(tbs.raw(Tag::Sequence)?)?;
    let (issued, expires) = (UnixTime(tbs.time()?), UnixTime(tbs.time()?));
    let mut revoked = 0;
    if tbs.peek() == Some(Tag::Sequence) {
        let mut entries = Fields::of(Tag::Sequence, tbs.raw(Tag::Sequence)?)?;
        while !entries.is_finished() {
            entries.raw(Tag::Sequence)?;
            revoked += 1;
        }
    }
    let extensions = Vec::<Extension>::from_der(tbs.explicit(0)?)?;
    let number = extensions.iter().find(|e| e.extn_id == CRL_NUMBER).ok_or(Malformed)?;
    let number = u64::from_der(number.extn_value.as_bytes())?;
    Ok((About::RevocationList { issuer, number, revoked }, issued, expires))
}

/// What both of Intel's signed texts begin with. Other fields are for the verifier.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedText {
    id: String,
    issue_date: String,
    next_update: String,
    tcb_evaluation_data_number: u32,
    #[serde(default)]
    fmspc: String,
    #[serde(default)]
    pce_id: String,
}

fn tcb_info(name: &'static str, text: &str) -> Result<Item, Unreadable> {
    let (said, issued, expires) = signed_text(name, text)?;
    let about = About::TcbInfo {
        fmspc: printable(&said.fmspc).to_ascii_lowercase(),
        pce_id: printable(&said.pce_id).to_ascii_lowercase(),
        evaluation_number: said.tcb_evaluation_data_number,
    };
    Ok(Item { name, about, issued, expires, bytes: text.len() })
}

fn qe_identity(name: &'static str, text: &str) -> Result<Item, Unreadable> {
    let (said, issued, expires) = signed_text(name, text)?;
    let about = About::QeIdentity { id: printable(&said.id), evaluation_number: said.tcb_evaluation_data_number };
    Ok(Item { name, about, issued, expires, bytes: text.len() })
}

fn signed_text(name: &'static str, text: &str) -> Result<(SignedText, UnixTime, UnixTime), Unreadable> {
    let said: SignedText = serde_json::from_str(text).map_err(|_| Unreadable(name))?;
    let time = |text: &str| UnixTime::parse_rfc3339(text).map_err(|_| Unreadable(name));
    let (issued, expires) = (time(&said.issue_date)?, time(&said.next_update)?);
    Ok((said, issued, expires))
}

/// The certificates of a PEM text, with nothing but white space between them.
pub(super) fn pem_chain(text: &str) -> Option<Vec<Vec<u8>>> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut chain = Vec::new();
    for part in text.trim_matches(['\0', ' ', '\n', '\r', '\t']).split_inclusive(END) {
        match der::Document::from_pem(part.trim()) {
            Ok(("CERTIFICATE", document)) => chain.push(document.into_vec()),
            _ => return None,
        }
    }
    (!chain.is_empty()).then_some(chain)
}

/// The first common name of a distinguished name, made fit for a terminal.
pub(super) fn common_name(name: &[u8]) -> Result<String, Malformed> {
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let name = Name::from_der(name)?;
    let attribute = name.iter().find(|a| a.oid == COMMON_NAME).ok_or(Malformed)?;
    let text = AnyRef::from(&attribute.value);
    Ok(printable(core::str::from_utf8(text.value()).map_err(|_| Malformed)?))
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~')).take(64).collect()
}
