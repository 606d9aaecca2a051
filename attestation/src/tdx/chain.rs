//! Turns the names in certificates and lists into one tree under the relying party's root, and a refused tree into a reason.
//! It does not accept a chain: the crate `dcap-qvl` does, with the rules of RFC 5280.

use super::{
    Item, TdxError,
    collateral::{Chains, Items},
};
use crate::{
    Mode,
    anchors::SIMULATED_MARKER,
    snp::x509::{Certificate, Signed},
};

/// Step 7: the marker is on every certificate below a simulated root, and on none below another.
pub(crate) fn marker(items: &Items<'_>, mode: Mode) -> Result<(), TdxError> {
    for certificate in [&items.pck, &items.pck_ca, &items.tcb_signer, &items.qe_signer] {
        let marked = certificate.extension(SIMULATED_MARKER).is_some();
        match mode {
            Mode::Hardware if marked => return Err(TdxError::Simulated),
            Mode::Simulation if !marked => return Err(TdxError::NotSimulated),
            Mode::Hardware | Mode::Simulation => {}
        }
    }
    Ok(())
}

/// Step 7: where a chain brings its root along, it is the relying party's, byte for byte.
pub(crate) fn roots(chains: &Chains, root: &[u8]) -> Result<(), TdxError> {
    if chains.roots().any(|brought| brought != root) {
        return Err(TdxError::ChainRoot);
    }
    Ok(())
}

/// Step 8: who says that it was issued by whom. Exactly: root, signers; root, PCK authority, PCK certificate.
pub(crate) fn names(items: &Items<'_>) -> Result<(), TdxError> {
    let root = items.root.subject;
    if items.root_crl.issuer != root {
        return Err(TdxError::RootCrlSignature);
    }
    if items.tcb_signer.issuer != root {
        return Err(TdxError::TcbSignerChain);
    }
    if items.qe_signer.issuer != root {
        return Err(TdxError::QeSignerChain);
    }
    if items.pck_ca.issuer != root || items.pck.issuer != items.pck_ca.subject {
        return Err(TdxError::PckChain);
    }
    let (ca, named) = (&items.pck_ca, &items.pck_crl_issuer);
    if items.pck_crl.issuer != ca.subject || (named.subject, named.spki) != (ca.subject, ca.spki) {
        return Err(TdxError::PckCrlIssuer);
    }
    Ok(())
}

/// Step 8: the issuer chain of the PCK list, which decides nothing: `dcap-qvl` verifies the list with the authority that
/// the quote brings. It names that authority; here it must do so in the same certificate, or in another that the root signed.
pub(crate) fn list_issuer(items: &Items<'_>, chains: &Chains) -> Result<(), TdxError> {
    if !chains.same_issuer() && !signed_by(&items.pck_crl_issuer.signed, &items.root) {
        return Err(TdxError::PckCrlIssuer);
    }
    Ok(())
}

/// Step 8, after a refusal: which signature is wrong, or what is revoked.
///
/// Only for the code: it makes no refusal an acceptance.
pub(crate) fn explain(items: &Items<'_>) -> TdxError {
    signatures(items).err().or_else(|| revoked(items).err()).unwrap_or(TdxError::ChainRefused)
}

fn signatures(items: &Items<'_>) -> Result<(), TdxError> {
    let root = &items.root;
    if !signed_by(&items.root_crl.signed, root) {
        return Err(TdxError::RootCrlSignature);
    }
    if !signed_by(&items.tcb_signer.signed, root) {
        return Err(TdxError::TcbSignerChain);
    }
    if !signed_by(&items.qe_signer.signed, root) {
        return Err(TdxError::QeSignerChain);
    }
    if !signed_by(&items.pck_ca.signed, root) || !signed_by(&items.pck.signed, &items.pck_ca) {
        return Err(TdxError::PckChain);
    }
    if !signed_by(&items.pck_crl.signed, &items.pck_ca) {
        return Err(TdxError::PckCrlSignature);
    }
    Ok(())
}

fn revoked(items: &Items<'_>) -> Result<(), TdxError> {
    for (item, list, certificate) in [
        (Item::Root, &items.root_crl, &items.root),
        (Item::TcbSigner, &items.root_crl, &items.tcb_signer),
        (Item::QeSigner, &items.root_crl, &items.qe_signer),
        (Item::PckCa, &items.root_crl, &items.pck_ca),
        (Item::Pck, &items.pck_crl, &items.pck),
    ] {
        if list.revokes(certificate.serial) {
            return Err(TdxError::Revoked { item });
        }
    }
    Ok(())
}

/// Whether the content as received is signed with the key of this certificate.
fn signed_by(signed: &Signed<'_>, issuer: &Certificate<'_>) -> bool {
    issuer.p256_key().is_ok_and(|key| signed.verify_p256(key).is_ok())
}
