//! Turns a machine into QEMU's argument list. A pure function: what it writes is compared with golden files.
//! The arguments are the host's: the measurement covers firmware, kernel, initrd, command line and processors, nothing else.
//!
//! Files and sockets are inherited descriptors with fixed numbers, so no argument depends on a path, and nothing lies in a
//! folder that somebody could change meanwhile or that would stay behind.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::spec::QuoteService;

/// The guest's address in QEMU's user-mode network (its documented default for the first guest).
const GUEST: &str = "10.0.2.15";
/// The guest's port of the service.
const SERVICE_PORT: u16 = 8443;
/// The guest's port of the carrier.
const CARRIER_PORT: u16 = 8444;
/// The port that carries the host channel.
pub const HOST_PORT_NAME: &str = "vouchsafe.host";
/// The port that carries the simulated processor.
pub const TEE_PORT_NAME: &str = "vouchsafe.tee";
/// The first number of an inherited descriptor: QEMU itself opens nothing before these are there.
pub const FIRST_DESCRIPTOR: i32 = 100;
/// All of QEMU's seccomp filters (qemu(1), `-sandbox`).
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// What the board leaves out: nothing that the guest needs, and less for it to reach. The keyboard controller stays: Linux
/// resets through it when there is no ACPI.
const BOARD: &str = "q35,usb=off,vmport=off,smbus=off,sata=off,hpet=off,graphics=off,smm=off";
/// All devices speak virtio 1 and reach memory through the DMA API, as shared pages demand.
const VIRTIO: &str = "disable-legacy=on,iommu_platform=on";

/// A descriptor that QEMU inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inherited {
    /// The host channel's socket.
    Host,
    /// The serial console's socket.
    Console,
    /// The firmware.
    Firmware,
    /// The kernel.
    Kernel,
    /// The initial RAM disk.
    Initrd,
    /// The volume of sealed packages.
    Models,
    /// The table of kernel hashes (simulated machines).
    Table,
    /// The simulated processor's socket (simulated machines).
    Processor,
}

impl Inherited {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Host,
        Self::Console,
        Self::Firmware,
        Self::Kernel,
        Self::Initrd,
        Self::Models,
        Self::Table,
        Self::Processor,
    ];

    /// Its number in QEMU.
    #[must_use]
    pub const fn number(self) -> i32 {
        FIRST_DESCRIPTOR + self as i32
    }

    fn path(self) -> String {
        format!("/proc/self/fd/{}", self.number())
    }
}

/// A machine, as QEMU is to run it.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    /// What protects it, or who plays that.
    pub protection: Protection<'a>,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// How many virtual processors.
    pub vcpus: u32,
    /// How much memory, in MiB.
    pub memory_mib: u32,
    /// The loopback ports that lead to the guest's service and carrier.
    pub ports: [u16; 2],
}

/// What protects a machine.
#[derive(Clone, Debug)]
pub enum Protection<'a> {
    /// Nothing: a rehearsal.
    Simulated {
        /// KVM, or QEMU's interpreter.
        accel: Accel,
        /// Where the firmware looks for the table of kernel hashes.
        table_address: u32,
    },
    /// SEV-SNP.
    Snp {
        /// The processor model whose signature is measured.
        cpu: &'a str,
        /// The guest policy.
        policy: u64,
        /// The page-table bit that marks encrypted memory on this host.
        c_bit: u32,
        /// HOST_DATA: the config digest.
        host_data: &'a [u8; 32],
        /// The ID block and what authenticates it.
        identity: Option<&'a Identity>,
    },
    /// TDX.
    Tdx {
        /// MRCONFIGID: the config digest and zeros.
        config_id: &'a [u8; 48],
        /// Where the quote generation service listens.
        quotes: &'a QuoteService,
    },
}

/// What an SEV-SNP guest must be, for the processor to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The ID block, in base64.
    pub block: String,
    /// The ID authentication information, in base64.
    pub authentication: String,
    /// Whether an author key signed the ID key: the processor looks at it only when it is told so.
    pub has_author: bool,
}

/// What executes a simulated machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The kernel's virtual machines.
    Kvm,
    /// QEMU's interpreter.
    Tcg,
}

impl Accel {
    /// QEMU's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl Arguments<'_> {
    /// The argument list, without the program itself.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let mut list = List(Vec::with_capacity(64));
        list.0.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
        list.add("-name", "vouchsafe");
        list.add("-display", "none");
        list.add("-sandbox", SANDBOX);
        self.processor_and_memory(&mut list);
        list.add("-smp", self.vcpus.to_string());
        list.add("-m", format!("size={}M", self.memory_mib));
        list.add("-bios", Inherited::Firmware.path());
        list.add("-kernel", Inherited::Kernel.path());
        list.add("-initrd", Inherited::Initrd.path());
        list.add("-append", self.command_line);
        self.devices(&mut list);
        list.0
    }

    fn processor_and_memory(&self, list: &mut List) {
        match &self.protection {
            Protection::Simulated { accel, table_address } => {
                list.add("-machine", BOARD);
                list.add("-accel", accel.as_str());
                // Not the measured model: what this host can execute. A rehearsal differs in this, and only in this.
                list.add("-cpu", if *accel == Accel::Kvm { "host" } else { "max" });
                let table = Inherited::Table.path();
                list.add("-device", format!("loader,file={table},addr={table_address:#x},force-raw=on"));
            }
            Protection::Snp { cpu, policy, c_bit, host_data, identity } => {
                list.add("-machine", format!("{BOARD},confidential-guest-support=sev0,memory-backend=ram0"));
                list.add("-accel", "kvm");
                list.add("-cpu", *cpu);
                list.private_memory(self.memory_mib);
                let mut guest = format!(
                    "sev-snp-guest,id=sev0,policy={policy:#x},cbitpos={c_bit},reduced-phys-bits=1,kernel-hashes=on,host-data={}",
                    STANDARD.encode(host_data)
                );
                if let Some(Identity { block, authentication, has_author }) = identity {
                    // Standard base64 has no comma, so nothing needs to be escaped.
                    guest.push_str(&format!(",id-block={block},id-auth={authentication}"));
                    guest.push_str(if *has_author { ",author-key-enabled=on" } else { "" });
                }
                list.add("-object", guest);
            }
            Protection::Tdx { config_id, quotes } => {
                list.add(
                    "-machine",
                    format!("{BOARD},kernel-irqchip=split,confidential-guest-support=tdx0,memory-backend=ram0"),
                );
                list.add("-accel", "kvm");
                list.add("-cpu", "host");
                list.private_memory(self.memory_mib);
                let quotes = match quotes {
                    QuoteService::Vsock { cid, port } => {
                        json!({ "type": "vsock", "cid": cid.to_string(), "port": port.to_string() })
                    }
                    QuoteService::Unix(path) => json!({ "type": "unix", "path": path }),
                };
                let guest = json!({
                    "qom-type": "tdx-guest",
                    "id": "tdx0",
                    "mrconfigid": STANDARD.encode(config_id),
                    "quote-generation-socket": quotes,
                });
                list.add("-object", guest.to_string());
            }
        }
    }

    fn devices(&self, list: &mut List) {
        let socket = |id: &str, socket: Inherited| format!("socket,id={id},fd={}", socket.number());
        list.add("-chardev", socket("console", Inherited::Console));
        list.add("-serial", "chardev:console");
        list.add("-device", format!("virtio-serial-pci,id=ports,max_ports=3,{VIRTIO}"));
        list.add("-chardev", socket("host", Inherited::Host));
        list.add("-device", format!("virtserialport,bus=ports.0,nr=1,chardev=host,name={HOST_PORT_NAME}"));
        if matches!(self.protection, Protection::Simulated { .. }) {
            list.add("-chardev", socket("tee", Inherited::Processor));
            list.add("-device", format!("virtserialport,bus=ports.0,nr=2,chardev=tee,name={TEE_PORT_NAME}"));
        }
        // No lock: the file has no name, and the launcher writes it no more.
        let volume = Inherited::Models.path();
        list.add(
            "-blockdev",
            format!(
                "driver=raw,node-name=models,read-only=on,file.driver=file,file.locking=off,file.filename={volume}"
            ),
        );
        list.add("-device", format!("virtio-blk-pci,drive=models,{VIRTIO}"));
        let [service, carrier] = self.ports;
        list.add(
            "-netdev",
            format!(
                "user,id=net,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:{service}-{GUEST}:{SERVICE_PORT},hostfwd=tcp:127.0.0.1:{carrier}-{GUEST}:{CARRIER_PORT}"
            ),
        );
        list.add("-device", format!("virtio-net-pci,netdev=net,romfile=,{VIRTIO}"));
    }
}

struct List(Vec<String>);

impl List {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.to_owned());
        self.0.push(value.into());
    }

    /// Memory that the host can share with the guest page by page; private pages come from the kernel.
    fn private_memory(&mut self, mib: u32) {
        self.add("-object", format!("memory-backend-memfd,id=ram0,size={mib}M,share=on,prealloc=off"));
    }
}
