//! Turns P-256 keys into the authorities and certificates that Intel's provisioning has: root, PCK CA, PCK, TCB signing.
//! They chain to a root made on this machine and carry the simulation marker: no hardware policy can accept them.

use std::sync::Arc;

use vouchsafe_attestation::{anchors::SIMULATED_TDX_ROOT_NAME, lp};

use crate::{
    SimulatorError, der,
    keys::{EcKey, Key, Scheme},
    x509::{CertificateSpec, CrlSpec, Extension, Name, USAGE_CERTIFICATES_AND_LISTS, USAGE_SIGNATURES},
};

type Result<T> = core::result::Result<T, SimulatorError>;

const DAY: u64 = 86_400;
const HOUR: u64 = 3_600;
const MINUTE: u64 = 60;
/// How long everything that Intel would issue monthly lasts.
pub const COLLATERAL_DAYS: u64 = 30;

/// Common name of the authority of PCK certificates.
pub const PCK_CA_NAME: &str = "SGX-PCK-CA-SIM";
/// Common name of a PCK certificate.
pub const PCK_NAME: &str = "SGX-PCK-SIM";
/// Common name of the certificate that signs TCB info and QE identity.
pub const TCB_SIGNING_NAME: &str = "SGX-TCB-SIGNING-SIM";

/// Serial of the root.
pub const ROOT_SERIAL: [u8; 1] = [1];
/// Serial of the PCK authority.
pub const PCK_CA_SERIAL: [u8; 1] = [2];
/// Serial of the TCB signing certificate.
pub const TCB_SIGNING_SERIAL: [u8; 1] = [3];
/// Serial of the platform's PCK certificate.
pub const PCK_SERIAL: [u8; 2] = [1, 1];
/// Serial of a PCK certificate that never was and is revoked.
pub const REVOKED_PCK_SERIAL: [u8; 2] = [1, 0];

/// Family, model, stepping, platform type and custom SKU of the simulated processor: no processor of Intel's has it.
pub const FMSPC: [u8; 6] = [0x51, 0x4d, 0x6f, 0, 0, 0];
/// Identity of the simulated provisioning certification enclave.
pub const PCE_ID: [u8; 2] = [0, 0];
/// Its security version.
pub const PCE_SVN: u16 = 13;
/// Security versions of the simulated processor: equal to the best level of the simulated TCB info.
pub const CPU_SVN: [u8; 16] = [4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];

/// Intel's SGX extension.
pub const SGX_EXTENSION: &str = "1.2.840.113741.1.13.1";

/// The two values that tell one simulated platform from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Platform provisioning identifier.
    pub ppid: [u8; 16],
    /// Identifier of a platform with several packages.
    pub instance: [u8; 16],
}

impl Platform {
    /// The platform of a provisioning identifier.
    #[must_use]
    pub fn new(ppid: [u8; 16]) -> Self {
        let digest = lp::Transcript::<32>::new("vouchsafe/1 simulated platform instance").lp(&ppid).finish();
        let mut instance = [0; 16];
        instance.copy_from_slice(digest.get(..16).unwrap_or(&[0; 16]));
        Self { ppid, instance }
    }
}

/// What a PCK certificate says of its platform: Intel SGX PCK Certificate and CRL Profile Specification, section 1.3.5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SgxExtension {
    /// Platform provisioning identifier: 16 bytes.
    pub ppid: Vec<u8>,
    /// SGX TCB component SVNs.
    pub components: [u8; 16],
    /// Security version of the provisioning certification enclave.
    pub pce_svn: u16,
    /// CPUSVN: on genuine platforms of this kind equal to the components.
    pub cpu_svn: Vec<u8>,
    /// Identity of the provisioning certification enclave: 2 bytes.
    pub pce_id: Vec<u8>,
    /// FMSPC: 6 bytes.
    pub fmspc: Vec<u8>,
    /// 0 standard, 1 scalable, 2 scalable with integrity.
    pub sgx_type: u8,
    /// Only in certificates of a Platform CA.
    pub platform_instance: Option<Vec<u8>>,
    /// Dynamic platform, cached keys, SMT enabled: only in certificates of a Platform CA.
    pub configuration: Option<[bool; 3]>,
    /// Further entries, DER, such as a second FMSPC.
    pub more: Vec<Vec<u8>>,
}

impl SgxExtension {
    /// What an honest simulated platform's certificate says.
    #[must_use]
    pub fn honest(platform: &Platform) -> Self {
        Self {
            ppid: platform.ppid.to_vec(),
            components: CPU_SVN,
            pce_svn: PCE_SVN,
            cpu_svn: CPU_SVN.to_vec(),
            pce_id: PCE_ID.to_vec(),
            fmspc: FMSPC.to_vec(),
            sgx_type: 1,
            platform_instance: Some(platform.instance.to_vec()),
            configuration: Some([false, true, true]),
            more: Vec::new(),
        }
    }

    /// Another CPUSVN, in both of its places.
    pub fn set_cpu_svn(&mut self, cpu_svn: [u8; 16]) {
        self.components = cpu_svn;
        self.cpu_svn = cpu_svn.to_vec();
    }

    /// One entry: identifier below Intel's extension, and a finished element.
    ///
    /// # Errors
    /// For text that is no identifier.
    pub fn entry(below: &str, element: &[u8]) -> Result<Vec<u8>> {
        Ok(der::sequence(&[&der::oid(&format!("{SGX_EXTENSION}.{below}"))?, element]))
    }

    /// The extension.
    ///
    /// # Errors
    /// Never.
    pub fn to_extension(&self) -> Result<Extension> {
        let octets = |bytes: &[u8]| der::tlv(der::OCTET_STRING, bytes);
        let mut tcb = Vec::new();
        for (number, component) in (1..).zip(self.components) {
            tcb.extend(Self::entry(&format!("2.{number}"), &der::integer(component.into()))?);
        }
        tcb.extend(Self::entry("2.17", &der::integer(self.pce_svn.into()))?);
        tcb.extend(Self::entry("2.18", &octets(&self.cpu_svn))?);

        let mut entries = Self::entry("1", &octets(&self.ppid))?;
        entries.extend(Self::entry("2", &der::tlv(der::SEQUENCE, &tcb))?);
        entries.extend(Self::entry("3", &octets(&self.pce_id))?);
        entries.extend(Self::entry("4", &octets(&self.fmspc))?);
        entries.extend(Self::entry("5", &der::tlv(der::ENUMERATED, &[self.sgx_type]))?);
        if let Some(instance) = &self.platform_instance {
            entries.extend(Self::entry("6", &octets(instance))?);
        }
        if let Some(flags) = self.configuration {
            let mut configuration = Vec::new();
            for (number, flag) in (1..).zip(flags) {
                let flag = der::tlv(der::BOOLEAN, &[if flag { 0xff } else { 0 }]);
                configuration.extend(Self::entry(&format!("7.{number}"), &flag)?);
            }
            entries.extend(Self::entry("7", &der::tlv(der::SEQUENCE, &configuration))?);
        }
        entries.extend(self.more.concat());
        Ok(Extension::new(SGX_EXTENSION, der::tlv(der::SEQUENCE, &entries)))
    }
}

/// The simulated Intel and one platform: every key, and the certificates in use.
pub struct Pki {
    /// Signs the intermediates and the root's list.
    pub root: Key,
    /// Signs PCK certificates and their list.
    pub pck_ca: Key,
    /// Signs TCB info and QE identity.
    pub tcb_signing: Arc<EcKey>,
    /// The platform's provisioning key: signs the quoting enclave's report.
    pub pck: Arc<EcKey>,
    /// The quoting enclave's key: signs quotes.
    pub attestation: Arc<EcKey>,
    /// The root, DER.
    pub root_der: Vec<u8>,
    /// PCK, PCK CA and root, PEM: what a quote carries.
    pub pck_chain: String,
    /// PCK CA and root, PEM.
    pub pck_ca_chain: String,
    /// TCB signing certificate and root, PEM.
    pub tcb_signing_chain: String,
    /// The platform.
    pub platform: Platform,
}

impl Pki {
    /// A whole new simulated Intel with one platform: for self-made chains, and for a root's first day.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate(platform: Platform, now: u64) -> Result<Self> {
        let (root, pck_ca) = (Key::p256()?, Key::p256()?);
        let (tcb_signing, pck, attestation) = (EcKey::generate()?, EcKey::generate()?, EcKey::generate()?);
        let root_der = root_spec(&root, now)?.sign(&root)?;
        let mut pki = Self {
            root,
            pck_ca,
            tcb_signing: Arc::new(tcb_signing),
            pck: Arc::new(pck),
            attestation: Arc::new(attestation),
            root_der,
            pck_chain: String::new(),
            pck_ca_chain: String::new(),
            tcb_signing_chain: String::new(),
            platform,
        };
        let pck_ca = pki.pck_ca_spec(now)?.sign(&pki.root)?;
        let tcb_signing = pki.tcb_signing_spec(now)?.sign(&pki.root)?;
        let pck = pki.pck_spec(&SgxExtension::honest(&platform), now)?.sign(&pki.pck_ca)?;
        pki.pck_ca_chain = pki.chain(&[&pck_ca])?;
        pki.tcb_signing_chain = pki.chain(&[&tcb_signing])?;
        pki.pck_chain = pki.chain(&[&pck, &pck_ca])?;
        Ok(pki)
    }

    /// Certificates and then the root, PEM.
    ///
    /// # Errors
    /// Never.
    pub fn chain(&self, certificates: &[&[u8]]) -> Result<String> {
        let mut pem = String::new();
        for certificate in certificates.iter().chain([&self.root_der.as_slice()]) {
            pem.push_str(&der::certificate_pem(certificate)?);
        }
        Ok(pem)
    }

    /// The description of the PCK authority's certificate.
    ///
    /// # Errors
    /// Never.
    pub fn pck_ca_spec(&self, now: u64) -> Result<CertificateSpec> {
        let spki = self.pck_ca.spki()?;
        let extensions = vec![
            Extension::authority_key_id(&self.root.spki()?),
            Extension::subject_key_id(&spki),
            Extension::key_usage(USAGE_CERTIFICATES_AND_LISTS),
            Extension::basic_constraints(true, Some(0)),
            Extension::marker(),
        ];
        Ok(spec(SIMULATED_TDX_ROOT_NAME, PCK_CA_NAME, &PCK_CA_SERIAL, spki, extensions).for_years(now, 15))
    }

    /// The description of the TCB signing certificate.
    ///
    /// # Errors
    /// Never.
    pub fn tcb_signing_spec(&self, now: u64) -> Result<CertificateSpec> {
        let spki = self.tcb_signing.spki()?;
        let extensions = vec![
            Extension::authority_key_id(&self.root.spki()?),
            Extension::subject_key_id(&spki),
            Extension::key_usage(USAGE_SIGNATURES),
            Extension::basic_constraints(false, None),
            Extension::marker(),
        ];
        Ok(spec(SIMULATED_TDX_ROOT_NAME, TCB_SIGNING_NAME, &TCB_SIGNING_SERIAL, spki, extensions).for_years(now, 7))
    }

    /// The description of a PCK certificate of the platform's key.
    ///
    /// # Errors
    /// Never.
    pub fn pck_spec(&self, sgx: &SgxExtension, now: u64) -> Result<CertificateSpec> {
        let spki = self.pck.spki()?;
        let extensions = vec![
            Extension::authority_key_id(&self.pck_ca.spki()?),
            Extension::subject_key_id(&spki),
            Extension::key_usage(USAGE_SIGNATURES),
            Extension::basic_constraints(false, None),
            sgx.to_extension()?,
            Extension::marker(),
        ];
        Ok(spec(PCK_CA_NAME, PCK_NAME, &PCK_SERIAL, spki, extensions).for_years(now, 7))
    }

    /// The description of the root's revocation list: it revokes nothing.
    ///
    /// # Errors
    /// Never.
    pub fn root_crl_spec(&self, now: u64) -> Result<CrlSpec> {
        crl(SIMULATED_TDX_ROOT_NAME, &self.root, Vec::new(), now)
    }

    /// The description of the PCK authority's revocation list: it revokes one certificate that never was.
    ///
    /// # Errors
    /// Never.
    pub fn pck_crl_spec(&self, now: u64) -> Result<CrlSpec> {
        crl(PCK_CA_NAME, &self.pck_ca, vec![REVOKED_PCK_SERIAL.to_vec()], now)
    }
}

/// The description of the self-signed root.
///
/// # Errors
/// Never.
pub fn root_spec(root: &Key, now: u64) -> Result<CertificateSpec> {
    let spki = root.spki()?;
    let extensions = vec![
        Extension::authority_key_id(&spki),
        Extension::subject_key_id(&spki),
        Extension::key_usage(USAGE_CERTIFICATES_AND_LISTS),
        Extension::basic_constraints(true, Some(1)),
        Extension::marker(),
    ];
    let name = SIMULATED_TDX_ROOT_NAME;
    Ok(spec(name, name, &ROOT_SERIAL, spki, extensions).for_years(now, 20))
}

/// A list whose number is the minute of its making: it grows, and fits the 32 bits that readers give it.
fn crl(issuer: &str, key: &Key, revoked: Vec<Vec<u8>>, now: u64) -> Result<CrlSpec> {
    Ok(CrlSpec {
        scheme: Scheme::EcdsaP256,
        issuer: Name::simulated(issuer),
        this_update: now.saturating_sub(HOUR),
        next_update: Some(now + COLLATERAL_DAYS * DAY),
        revoked,
        extensions: vec![Extension::crl_number(now / MINUTE), Extension::authority_key_id(&key.spki()?)],
    })
}

fn spec(issuer: &str, subject: &str, serial: &[u8], spki: Vec<u8>, extensions: Vec<Extension>) -> CertificateSpec {
    CertificateSpec {
        serial: serial.to_vec(),
        scheme: Scheme::EcdsaP256,
        inner_scheme: None,
        issuer: Name::simulated(issuer),
        not_before: 0,
        not_after: 0,
        subject: Name::simulated(subject),
        spki,
        extensions,
    }
}
