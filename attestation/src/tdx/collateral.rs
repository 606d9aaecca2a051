//! Turns the nine items of collateral and the quote's PCK chain into parsed pieces, with their windows.
//! It does not verify a signature: whoever brought the items may have written them.

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Item, TdxError,
    certificate::{Crl, split},
    levels,
};
use crate::{
    UnixTime, VerifyError,
    evidence::{MAX_QUOTE, MAX_TDX_ITEM, TdxCollateral},
    snp::x509::{Certificate, Malformed},
};

/// r || s of ECDSA P-256.
const SIGNATURE_LEN: usize = 64;

/// Step 1: nothing is missing, nothing above its cap.
pub(crate) fn sizes(quote: &[u8], collateral: &TdxCollateral) -> Result<(), TdxError> {
    if quote.is_empty() || quote.len() > MAX_QUOTE {
        return Err(TdxError::QuoteLength { actual: quote.len() });
    }
    let items = items(collateral);
    if let Some((item, _)) = items.iter().find(|(_, bytes)| bytes.is_empty()) {
        return Err(TdxError::Missing { item: *item });
    }
    if let Some((item, bytes)) = items.iter().find(|(_, bytes)| bytes.len() > MAX_TDX_ITEM) {
        return Err(TdxError::Length { item: *item, actual: bytes.len() });
    }
    for (item, signature) in [
        (Item::TcbInfoSignature, &collateral.tcb_info_signature),
        (Item::QeIdentitySignature, &collateral.qe_identity_signature),
    ] {
        if signature.len() != SIGNATURE_LEN {
            return Err(TdxError::Length { item, actual: signature.len() });
        }
    }
    Ok(())
}

fn items(collateral: &TdxCollateral) -> [(Item, &[u8]); 9] {
    [
        (Item::TcbInfo, collateral.tcb_info.as_bytes()),
        (Item::TcbInfoSignature, &collateral.tcb_info_signature),
        (Item::TcbSigner, collateral.tcb_info_issuer_chain.as_bytes()),
        (Item::QeIdentity, collateral.qe_identity.as_bytes()),
        (Item::QeIdentitySignature, &collateral.qe_identity_signature),
        (Item::QeSigner, collateral.qe_identity_issuer_chain.as_bytes()),
        (Item::RootCrl, &collateral.root_ca_crl),
        (Item::PckCrl, &collateral.pck_crl),
        (Item::PckCrlIssuer, collateral.pck_crl_issuer_chain.as_bytes()),
    ]
}

/// What this verifier itself reads of the TCB info: Intel PCS API version 4, TCB info version 3.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TcbInfo {
    id: String,
    version: u32,
    pub(crate) issue_date: String,
    pub(crate) next_update: String,
    fmspc: String,
    pce_id: String,
    tcb_type: u32,
}

/// What this verifier itself reads of the QE identity: Intel PCS API version 4, enclave identity version 2.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QeIdentity {
    id: String,
    version: u32,
    pub(crate) issue_date: String,
    pub(crate) next_update: String,
}

impl TcbInfo {
    /// The platforms that it is for: family, model, stepping; provisioning enclave.
    pub(crate) fn platforms(&self) -> Result<([u8; 6], [u8; 2]), TdxError> {
        let malformed = |_| TdxError::Malformed { item: Item::TcbInfo };
        let (mut fmspc, mut pce_id) = ([0; 6], [0; 2]);
        hex::decode_to_slice(&self.fmspc, &mut fmspc).map_err(malformed)?;
        hex::decode_to_slice(&self.pce_id, &mut pce_id).map_err(malformed)?;
        Ok((fmspc, pce_id))
    }
}

/// From and until when an item holds, in seconds since 1970; the last second is the last in which it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) item: Item,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// The chains, taken out of their PEM.
#[derive(Debug)]
pub(crate) struct Chains {
    tcb: Vec<Vec<u8>>,
    qe: Vec<Vec<u8>>,
    pck_crl: Vec<Vec<u8>>,
    pck: Vec<Vec<u8>>,
}

impl Chains {
    /// One or more certificates for each item, two or more in the quote; three at most.
    pub(crate) fn split(pck_chain: &[u8], collateral: &TdxCollateral) -> Result<Self, TdxError> {
        let chain = |item, pem: &[u8], min| split(pem, min).map_err(|Malformed| TdxError::Malformed { item });
        Ok(Self {
            tcb: chain(Item::TcbSigner, collateral.tcb_info_issuer_chain.as_bytes(), 1)?,
            qe: chain(Item::QeSigner, collateral.qe_identity_issuer_chain.as_bytes(), 1)?,
            pck_crl: chain(Item::PckCrlIssuer, collateral.pck_crl_issuer_chain.as_bytes(), 1)?,
            pck: chain(Item::Pck, pck_chain, 2)?,
        })
    }

    /// Whether the PCK list's issuer comes as the very certificate that the quote brings.
    pub(crate) fn same_issuer(&self) -> bool {
        self.pck_crl.first() == self.pck.get(1)
    }

    /// The last certificate of every chain that is longer than it needs to be: the root, as far as anybody says.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &[u8]> {
        let tails = [self.tcb.get(1..), self.qe.get(1..), self.pck_crl.get(1..), self.pck.get(2..)];
        tails.into_iter().flatten().flatten().map(Vec::as_slice)
    }
}

/// Every item, parsed.
#[derive(Debug)]
pub(crate) struct Items<'a> {
    pub(crate) tcb_info: TcbInfo,
    pub(crate) qe_identity: QeIdentity,
    pub(crate) root_crl: Crl<'a>,
    pub(crate) pck_crl: Crl<'a>,
    pub(crate) tcb_signer: Certificate<'a>,
    pub(crate) qe_signer: Certificate<'a>,
    pub(crate) pck_crl_issuer: Certificate<'a>,
    pub(crate) pck_ca: Certificate<'a>,
    pub(crate) pck: Certificate<'a>,
    pub(crate) root: Certificate<'a>,
}

impl<'a> Items<'a> {
    /// Reads everything; the root is the relying party's.
    pub(crate) fn read(chains: &'a Chains, collateral: &'a TdxCollateral, root: &'a [u8]) -> Result<Self, VerifyError> {
        let crl = |item, der| Crl::parse(der).map_err(|Malformed| TdxError::Malformed { item });
        levels::tcb_info(&collateral.tcb_info)?;
        levels::qe_identity(&collateral.qe_identity)?;
        Ok(Self {
            tcb_info: json(Item::TcbInfo, &collateral.tcb_info)?,
            qe_identity: json(Item::QeIdentity, &collateral.qe_identity)?,
            root_crl: crl(Item::RootCrl, &collateral.root_ca_crl)?,
            pck_crl: crl(Item::PckCrl, &collateral.pck_crl)?,
            tcb_signer: certificate(Item::TcbSigner, &chains.tcb, 0)?,
            qe_signer: certificate(Item::QeSigner, &chains.qe, 0)?,
            pck_ca: certificate(Item::PckCa, &chains.pck, 1)?,
            pck: certificate(Item::Pck, &chains.pck, 0)?,
            pck_crl_issuer: certificate(Item::PckCrlIssuer, &chains.pck_crl, 0)?,
            root: Certificate::parse(root).map_err(|Malformed| VerifyError::AnchorMalformed)?,
        })
    }

    /// Step 5: TCB info and QE identity are those of TDX, in the versions that this build knows.
    pub(crate) fn kinds(&self) -> Result<(), TdxError> {
        if self.tcb_info.id != "TDX" || self.tcb_info.version != 3 || self.tcb_info.tcb_type != 0 {
            return Err(TdxError::TcbInfoKind);
        }
        if self.qe_identity.id != "TD_QE" || !matches!(self.qe_identity.version, 2 | 3) {
            return Err(TdxError::QeIdentityKind);
        }
        Ok(())
    }

    /// The window of every item.
    pub(crate) fn windows(&self) -> Result<[Window; 9], TdxError> {
        let (tcb, qe) = (&self.tcb_info, &self.qe_identity);
        Ok([
            text_window(Item::TcbInfo, &tcb.issue_date, &tcb.next_update)?,
            text_window(Item::QeIdentity, &qe.issue_date, &qe.next_update)?,
            crl_window(Item::RootCrl, &self.root_crl),
            crl_window(Item::PckCrl, &self.pck_crl),
            certificate_window(Item::TcbSigner, &self.tcb_signer),
            certificate_window(Item::QeSigner, &self.qe_signer),
            certificate_window(Item::PckCa, &self.pck_ca),
            certificate_window(Item::Pck, &self.pck),
            certificate_window(Item::Root, &self.root),
        ])
    }
}

pub(crate) fn json<T: DeserializeOwned>(item: Item, text: &str) -> Result<T, TdxError> {
    serde_json::from_str(text).map_err(|_| TdxError::Malformed { item })
}

fn certificate(item: Item, chain: &[Vec<u8>], at: usize) -> Result<Certificate<'_>, TdxError> {
    let der = chain.get(at).ok_or(TdxError::Malformed { item })?;
    Certificate::parse(der).map_err(|Malformed| TdxError::Malformed { item })
}

fn text_window(item: Item, from: &str, until: &str) -> Result<Window, TdxError> {
    let time = |text| UnixTime::parse_rfc3339(text).map(|time| time.0).map_err(|_| TdxError::Malformed { item });
    Ok(Window { item, from: time(from)?, until: time(until)? })
}

/// A list ends with the second before its next update.
fn crl_window(item: Item, crl: &Crl<'_>) -> Window {
    Window { item, from: crl.this_update, until: crl.next_update.saturating_sub(1) }
}

fn certificate_window(item: Item, certificate: &Certificate<'_>) -> Window {
    Window { item, from: certificate.not_before, until: certificate.not_after }
}
