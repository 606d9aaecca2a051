//! Turns a chip and its versions into the addresses of AMD's key distribution service (57230 rev 0.51), and the answers into collateral.
//! It does not verify the answers: who verifies evidence with them does.

use std::fmt::Write as _;

use vouchsafe_attestation::{
    Collateral,
    collateral::{SnpSought, der_of, sought_by_report},
    evidence::SNP_REPORT_LEN,
    snp::{Product, Tcb},
};

use super::{Args, http::Client};
use crate::{failure::Failure, files};

/// What to ask for.
pub enum Wanted {
    /// A chip's own key.
    Vcek(SnpSought),
    /// The provider gave the certificate.
    Vlek { product: Product, leaf: Vec<u8> },
}

/// From a report, or from the options that say the same.
pub fn wanted(args: &Args) -> Result<Wanted, Failure> {
    let product = args.product.as_deref().and_then(Product::from_leaf_name);
    let needs_product = || Failure::usage("--product is missing", "one of Milan, Genoa, Turin");
    if let Some(path) = &args.vlek {
        let (leaf, _) = der_of(files::read_input(path, 1 << 20)?);
        return Ok(Wanted::Vlek { product: product.ok_or_else(needs_product)?, leaf });
    }
    if let Some(path) = &args.evidence {
        let report = files::read_input(path, SNP_REPORT_LEN as u64)?;
        let sought = sought_by_report(&report, product).map_err(|e| {
            Failure::usage(format!("--evidence: {e}"), "name the rest with --product, --hwid and --tcb, or use --vlek")
        })?;
        return Ok(Wanted::Vcek(sought));
    }
    let (Some(hwid), Some(tcb)) = (&args.hwid, &args.tcb) else {
        return Err(Failure::usage(
            "what shall be fetched?",
            "give --evidence, or --product, --hwid and --tcb, or --vlek",
        ));
    };
    let product = product.ok_or_else(needs_product)?;
    let length = if product == Product::Turin { 8 } else { 64 };
    let hwid = hex::decode(hwid).ok().filter(|bytes| bytes.len() == length).ok_or_else(|| {
        Failure::usage(format!("--hwid is not {} hex digits", 2 * length), "copy CHIP_ID; on Turin its first 8 bytes")
    })?;
    let mut bytes = [0; 8];
    hex::decode_to_slice(tcb, &mut bytes)
        .ok()
        .and_then(|()| Tcb::read(bytes, product).ok())
        .map(|tcb| Wanted::Vcek(SnpSought { product, hwid, tcb }))
        .ok_or_else(|| {
            Failure::usage(
                format!("--tcb is not a TCB version of {product}"),
                "the 8 bytes of REPORTED_TCB, 16 hex digits",
            )
        })
}

/// Certificate, list and, for a provider's key, its authority.
pub fn fetch(client: &Client, base: &str, wanted: &Wanted) -> Result<Collateral, Failure> {
    let der = |what, path: String| Ok::<_, Failure>(der_of(client.get(what, &format!("{base}{path}"), &[])?.body).0);
    match wanted {
        Wanted::Vcek(sought) => Ok(Collateral::SevSnp {
            leaf: der("the chip's certificate", vcek_path(sought))?,
            crl: der("the revocation list", format!("/vcek/v1/{}/crl", sought.product))?,
            asvk: Vec::new(),
        }),
        Wanted::Vlek { product, leaf } => {
            let what = "the chain of the provider's key";
            let chain = client.get(what, &format!("{base}/vlek/v1/{product}/cert_chain"), &[])?.body;
            // The authority first, then the root, which is compiled in.
            let end = "-----END CERTIFICATE-----";
            let first = String::from_utf8(chain).ok().and_then(|text| {
                let (first, _) = text.split_once(end)?;
                Some(format!("{first}{end}\n"))
            });
            let asvk = first.map(|text| der_of(text.into_bytes()).0).ok_or_else(|| super::http::malformed(what))?;
            let crl = der("the revocation list", format!("/vlek/v1/{product}/crl"))?;
            Ok(Collateral::SevSnp { leaf: leaf.clone(), crl, asvk })
        }
    }
}

/// Decimal versions of at least two digits; only Turin has an FMC.
fn vcek_path(sought: &SnpSought) -> String {
    let SnpSought { product, hwid, tcb } = sought;
    let mut path = format!("/vcek/v1/{product}/{}?", hex::encode(hwid));
    if let Some(fmc) = tcb.fmc {
        let _ = write!(path, "fmcSPL={fmc:02}&");
    }
    let Tcb { bootloader, tee, snp, microcode, .. } = tcb;
    let _ = write!(path, "blSPL={bootloader:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={microcode:02}");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_specification() {
        let tcb = |bytes, product| Tcb::read(bytes, product).unwrap();
        let genoa = SnpSought {
            product: Product::Genoa,
            hwid: vec![0xab; 64],
            tcb: tcb([10, 0, 0, 0, 0, 0, 0x19, 0x54], Product::Genoa),
        };
        assert_eq!(
            vcek_path(&genoa),
            format!("/vcek/v1/Genoa/{}?blSPL=10&teeSPL=00&snpSPL=25&ucodeSPL=84", "ab".repeat(64))
        );
        let turin = SnpSought {
            product: Product::Turin,
            hwid: vec![1; 8],
            tcb: tcb([1, 1, 1, 4, 0, 0, 0, 0x51], Product::Turin),
        };
        assert_eq!(
            vcek_path(&turin),
            "/vcek/v1/Turin/0101010101010101?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81"
        );
    }
}
