//! Turns an image and its owner's key into the signed ID block that a launch of it must carry.
//! The key signs and is forgotten; the program that launches holds no such code and needs no key.

use std::path::{Path, PathBuf};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::json;
use vouchsafe_attestation::encoding::from_hex;
use vouchsafe_measurement::{
    CpuModel,
    id_block::{IdAuth, IdBlock, IdKey, Signed},
};
use zeroize::Zeroizing;

use super::asked::{Asked, Backend, hex_number};
use crate::{
    failure::{Failure, Outcome},
    files,
};

/// What is signed, and with which keys.
#[derive(clap::Args)]
pub struct Args {
    /// The image, a folder of `vouchsafe image build`.
    #[arg(long, value_name = "DIR")]
    image: PathBuf,
    /// Firmware to start with instead of the image's.
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// SHA-256 of a firmware that you answer for, 64 hex digits, where it is none of the known.
    #[arg(long, value_name = "HEX")]
    firmware_sha256: Option<String>,
    /// How many virtual processors.
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: u32,
    /// QEMU's name of their model.
    #[arg(long, value_name = "NAME", default_value_t = CpuModel::default())]
    cpu: CpuModel,
    /// The SEV_FEATURES word of every processor, in hex.
    #[arg(long, value_name = "HEX", default_value = "0x1", value_parser = hex_number)]
    guest_features: u64,
    /// The guest policy of the launch, in hex; it must be the launch's own.
    #[arg(long, value_name = "HEX", default_value = "0x30000", value_parser = hex_number)]
    guest_policy: u64,
    /// The version of the guest: reports carry it as GUEST_SVN.
    #[arg(long, value_name = "N", default_value_t = 0)]
    svn: u32,
    /// A name for the family of guests, 32 hex digits [default: zeros].
    #[arg(long, value_name = "HEX")]
    family_id: Option<String>,
    /// A name for the image, 32 hex digits [default: zeros].
    #[arg(long, value_name = "HEX")]
    image_id: Option<String>,
    /// The ID key: P-384, PKCS#8 in PEM, readable by its owner only.
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    /// An author key that signs the ID key, of the same form; without one the launch has no author.
    #[arg(long, value_name = "PEM")]
    author_key: Option<PathBuf>,
    /// Where to write id-block and id-auth; made when it is not there, its files never overwritten.
    #[arg(long, value_name = "DIR")]
    out_dir: PathBuf,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let (block_path, auth_path) = (args.out_dir.join("id-block"), args.out_dir.join("id-auth"));
    files::absent(&block_path)?;
    files::absent(&auth_path)?;
    let id = key(&args.key)?;
    let author = args.author_key.as_deref().map(key).transpose()?;
    let values = Asked {
        backend: Backend::Snp,
        tee: None,
        image: Some(args.image.clone()),
        firmware: args.firmware.clone(),
        firmware_sha256: args.firmware_sha256.clone(),
        vcpus: args.vcpus,
        cpu: args.cpu,
        guest_features: args.guest_features,
        rtmr0: None,
        enclave: None,
        onnxruntime: None,
    }
    .measure(None)?;
    let block = IdBlock {
        launch_digest: values.measurement,
        family_id: name(args.family_id.as_deref(), "--family-id")?,
        image_id: name(args.image_id.as_deref(), "--image-id")?,
        guest_svn: args.svn,
        policy: args.guest_policy,
    };
    let signed = sign(&id, &block.to_bytes())?;
    let author = author.map(|author| sign(&author, &signed.key.to_bytes())).transpose()?;
    let auth = IdAuth { id: signed, author };
    // What was made is verified as its reader will, before it is written.
    auth.verify(&block)?;

    std::fs::create_dir_all(&args.out_dir).map_err(|e| Failure::file(&args.out_dir, "made", &e))?;
    files::write_new(&block_path, format!("{}\n", block.to_base64()).as_bytes(), 0o644)?;
    files::write_new(&auth_path, format!("{}\n", auth.to_base64()).as_bytes(), 0o644)?;
    let (measurement, id_key) = (hex::encode(values.measurement), hex::encode(auth.id.key.digest()));
    let author_key = auth.author.map(|author| hex::encode(author.key.digest()));
    if json {
        let all = json!({ "measurement": measurement, "id_key_digest": id_key, "author_key_digest": author_key,
            "guest_policy": format!("{:#x}", block.policy), "guest_svn": block.guest_svn });
        println!("{all}");
    } else {
        println!("measurement        {measurement}");
        println!("guest policy       {:#x}", block.policy);
        println!("guest svn          {}", block.guest_svn);
        println!("id key digest      {id_key}");
        println!("author key digest  {}", author_key.as_deref().unwrap_or("none"));
        println!("written to {} and {}", block_path.display(), auth_path.display());
    }
    Ok(())
}

fn name(text: Option<&str>, option: &'static str) -> Result<[u8; 16], Failure> {
    text.map_or(Ok([0; 16]), |text| {
        from_hex(text, option).map_err(|_| Failure::usage(format!("{option} is not 32 hex digits"), "copy it whole"))
    })
}

fn sign(pair: &EcdsaKeyPair, message: &[u8]) -> Result<Signed, Failure> {
    let failed = || Failure::new("RUNTIME", 9, "the operating system gave no random bytes", "try again");
    let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| failed())?;
    let signature = signature.as_ref().try_into().map_err(|_| failed())?;
    Ok(Signed { key: IdKey::from_point(pair.public_key().as_ref())?, signature })
}

/// Reads a private key. One that others of this machine can read is not used.
fn key(path: &Path) -> Result<EcdsaKeyPair, Failure> {
    let pem = Zeroizing::new(files::read(path, 16 << 10)?);
    let wrong = || {
        let fact = format!("{} is not a P-384 private key in PKCS#8 and PEM", path.display());
        Failure::new("KEY_FILE", 9, fact, "convert it: openssl pkcs8 -topk8 -nodes -in KEY -out KEY.pem")
    };
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| wrong())?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der.secret_pkcs8_der(), &SystemRandom::new())
        .map_err(|_| wrong())?;
    files::owner_only(path)?;
    Ok(pair)
}
