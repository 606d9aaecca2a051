//! Turns two fixed interfaces and one fixed address into a network, by the kernel's route socket.
//! There is no route to anywhere and no resolver: peers are the host's end of the link, and trust comes from TLS alone.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::{InitError, appearing};

/// Where the attested service listens inside the machine.
pub const SERVICE_PORT: u16 = 8443;
/// Where the launcher's idle connections arrive, on which the enclave reaches its brokers.
pub const CARRIER_PORT: u16 = 8444;

/// The guest's address on QEMU's user-mode network (its documented default), and the length of its prefix.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PREFIX: u8 = 24;

/// include/uapi/linux/netlink.h: requests that are answered, and those that must make something new.
const REQUEST_ACK: u16 = 0x1 | 0x4;
const EXCL_CREATE: u16 = 0x200 | 0x400;
/// include/uapi/linux/rtnetlink.h and netlink.h: types of messages.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLMSG_ERROR: u16 = 2;
/// include/uapi/linux/if.h, if_addr.h, socket.h.
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const AF_INET: u8 = 2;
/// What a message begins with: length, type, flags, sequence, sender.
const HEADER: usize = 16;

/// Brings up the loopback interface, and `eth0` with its address. `interfaces` is the kernel's list of them.
///
/// # Errors
/// `INIT_NETWORK`.
pub fn bring_up(interfaces: &Path, patience: Duration) -> Result<(), InitError> {
    let index = |name: &str| {
        let text = std::fs::read_to_string(interfaces.join(name).join("ifindex")).ok()?;
        text.trim_end().parse::<u32>().ok()
    };
    let lo = index("lo").ok_or(InitError::Interface("lo"))?;
    let eth0 = appearing(patience, || index("eth0")).ok_or(InitError::Interface("eth0"))?;
    let steps = [
        ("lo cannot be brought up", up(lo, 1)),
        ("eth0 gets no address", address(eth0, 2)),
        ("eth0 cannot be brought up", up(eth0, 3)),
    ];
    let route = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None);
    let route = route.map_err(|errno| InitError::Network("there is no route socket", errno.raw_os_error()))?;
    for (sequence, (what, message)) in (1..).zip(steps) {
        let failed = |errno: i32| InitError::Network(what, errno);
        send(&route, &message, SendFlags::empty()).map_err(|errno| failed(errno.raw_os_error()))?;
        let mut answer = [0; 1024];
        let (_, length) =
            recv(&route, &mut answer, RecvFlags::empty()).map_err(|errno| failed(errno.raw_os_error()))?;
        match outcome(answer.get(..length).unwrap_or_default(), sequence) {
            Some(0) => {}
            Some(errno) => return Err(failed(errno)),
            None => return Err(InitError::Network(what, 0)),
        }
    }
    Ok(())
}

/// A listening socket on every address of the machine.
///
/// # Errors
/// `INIT_LISTEN`.
pub fn listen(port: u16) -> Result<TcpListener, InitError> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|_| InitError::Listen(port))?;
    listener.set_nonblocking(true).map_err(|_| InitError::Listen(port))?;
    Ok(listener)
}

/// struct ifinfomsg: family, padding, type, index, flags, and which of the flags are meant.
fn up(index: u32, sequence: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [index, IFF_UP, IFF_UP] {
        body.extend(word.to_ne_bytes());
    }
    message(RTM_NEWLINK, REQUEST_ACK, sequence, &body)
}

/// struct ifaddrmsg: family, prefix length, flags, scope, index; then the attributes (struct rtattr: length, type, value).
fn address(index: u32, sequence: u32) -> Vec<u8> {
    let mut body = vec![AF_INET, PREFIX, 0, 0];
    body.extend(index.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend(8_u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(ADDRESS.octets());
    }
    message(RTM_NEWADDR, REQUEST_ACK | EXCL_CREATE, sequence, &body)
}

/// struct nlmsghdr and what follows it. The sender is left to the kernel.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

/// The error number in the kernel's answer to this request (struct nlmsgerr), zero when it was done.
fn outcome(answer: &[u8], sequence: u32) -> Option<i32> {
    let half = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let is_answer = half(4)? == NLMSG_ERROR && word(8)? == sequence;
    is_answer.then_some(())?;
    Some(i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?).wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_the_kernel_reads_them() {
        // Little-endian, as on every machine this is built for.
        let up = up(2, 7);
        assert_eq!(
            up,
            [32, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]
        );
        let address = address(2, 8);
        assert_eq!(address[..16], [40, 0, 0, 0, 20, 0, 5, 6, 8, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(address[16..24], [2, 24, 0, 0, 2, 0, 0, 0]);
        assert_eq!(address[24..], [8, 0, 2, 0, 10, 0, 2, 15, 8, 0, 1, 0, 10, 0, 2, 15]);
    }

    #[test]
    fn an_answer_is_read_only_when_it_answers() {
        let answer = |kind: u16, sequence: u32, errno: i32| message(kind, 0, sequence, &errno.to_ne_bytes());
        assert_eq!(outcome(&answer(NLMSG_ERROR, 3, 0), 3), Some(0));
        assert_eq!(outcome(&answer(NLMSG_ERROR, 3, -17), 3), Some(17));
        assert_eq!(outcome(&answer(NLMSG_ERROR, 2, 0), 3), None, "to another request");
        assert_eq!(outcome(&answer(RTM_NEWLINK, 3, 0), 3), None, "of another type");
        for cut in 0..20 {
            assert_eq!(outcome(&answer(NLMSG_ERROR, 3, 0)[..cut], 3), None, "{cut}");
        }
    }

    #[test]
    fn a_machine_without_the_interface_is_refused_and_an_ordinary_process_changes_nothing() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(bring_up(empty.path(), Duration::ZERO), Err(InitError::Interface("lo")));
        for (name, index) in [("lo", "4000001\n"), ("eth0", "4000002\n")] {
            std::fs::create_dir(empty.path().join(name)).unwrap();
            std::fs::write(empty.path().join(name).join("ifindex"), index).unwrap();
        }
        // No such interface, or no right to touch one: the kernel's own answer either way.
        let refused = bring_up(empty.path(), Duration::ZERO);
        assert!(
            matches!(refused, Err(InitError::Network("lo cannot be brought up", 1 | 19))),
            "the kernel reads the message and refuses it: {refused:?}"
        );
        std::fs::remove_dir_all(empty.path().join("eth0")).unwrap();
        assert_eq!(bring_up(empty.path(), Duration::ZERO), Err(InitError::Interface("eth0")));
    }

    #[test]
    fn a_port_that_is_taken_is_refused() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(listen(port).err(), Some(InitError::Listen(port)));
    }
}
