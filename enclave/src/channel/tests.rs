//! Turns both kinds of host channel into tests: a socket pair plays the host, and stands for a port too.
//! They do not show a real port: the VM tests do.

use super::*;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use vouchsafe_attestation::encoding::b64url;

fn pair() -> (UnixStream, HostChannel) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours, HostChannel::of_socket(theirs.into()))
}

/// A socket pair stands for a port: both are byte streams that end when the other side goes.
fn port() -> (UnixStream, HostChannel) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours, HostChannel::of_port(Port::new(theirs.into()).unwrap()))
}

fn frame(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn send_with(socket: &UnixStream, bytes: &[u8], count: usize) {
    let borrowed = vec![socket.as_fd(); count];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn the_first_frame_brings_five_descriptors() {
    let (host, channel) = pair();
    send_with(&host, &frame("{\"v\":1}"), 5);
    assert!(channel.receive_hello().is_ok());
    send_with(&host, &frame("{\"v\":1}"), 4);
    assert_eq!(channel.receive_hello().err().unwrap().code(), "HOST_CHANNEL");
}

#[test]
fn a_collateral_file_is_announced_and_comes_last() {
    let (host, channel) = pair();
    for (text, count, expected) in [
        ("{\"v\":1,\"collateral\":true}", 6, Some(true)),
        ("{\"v\":1,\"collateral\":false}", 5, Some(false)),
        ("{\"v\":1,\"collateral\":true}", 5, None),
        ("{\"v\":1}", 6, None),
        ("{\"v\":1,\"collateral\":1}", 6, None),
    ] {
        send_with(&host, &frame(text), count);
        let hello = channel.receive_hello();
        let collateral = hello.ok().map(|hello| matches!(hello, Hello::Descriptors(all) if all.collateral.is_some()));
        assert_eq!(collateral, expected, "{text} with {count}");
    }
    for (text, count, expected) in [
        ("{\"reload\":{\"collateral\":true}}", 1, Some(true)),
        ("{\"reload\":{}}", 1, None),
        ("{\"reload\":{\"collateral\":true}}", 2, None),
        ("{\"stop\":{}}", 1, None),
    ] {
        send_with(&host, &frame(text), count);
        let file = match channel.receive_request() {
            Ok(HostRequest::Reload(file)) => Some(file.is_some()),
            _ => None,
        };
        assert_eq!(file, expected, "{text} with {count}");
    }
    (&host).write_all(&frame("{\"reload\":{\"collateral\":true}}")).unwrap();
    assert!(channel.receive_request().is_err(), "announced, but not there");
}

#[test]
fn requests_are_exact_and_the_end_is_noticed() {
    let (mut host, channel) = pair();
    host.write_all(&frame("{\"reload\":{}}")).unwrap();
    host.write_all(&frame("{\"stop\":{}}")).unwrap();
    host.write_all(&frame("{\"exec\":{}}")).unwrap();
    assert!(matches!(channel.receive_request(), Ok(HostRequest::Reload(None))));
    assert!(matches!(channel.receive_request(), Ok(HostRequest::Stop)));
    assert!(channel.receive_request().is_err());
    drop(host);
    assert!(matches!(channel.receive_request(), Ok(HostRequest::Gone)));
}

#[test]
fn a_huge_frame_is_refused_before_it_is_read() {
    let (mut host, channel) = pair();
    host.write_all(&u32::MAX.to_be_bytes()).unwrap();
    assert_eq!(channel.receive_request().err(), Some(EnclaveError::Channel("a frame is larger than 1 MiB")));
}

#[test]
fn a_machine_is_handed_the_bytes_themselves() {
    let (mut host, channel) = port();
    let (config, collateral) = (vec![7; 256 * 1024], vec![9; 1 << 20]);
    let both = format!("{{\"v\":1,\"config\":\"{}\",\"collateral\":\"{}\"}}", b64url(&config), b64url(&collateral));
    let alone = format!("{{\"v\":1,\"config\":\"{}\"}}", b64url(&config));
    let writer = std::thread::spawn(move || {
        host.write_all(&[frame(&both), frame(&alone)].concat()).unwrap();
        host
    });
    for expected in [Some(&collateral), None] {
        let Ok(Hello::Bytes { config: got, collateral }) = channel.receive_hello() else { panic!("no hello") };
        assert!(got == config && collateral.as_ref() == expected);
    }
    let mut host = writer.join().unwrap();
    for bad in [
        "{\"v\":2,\"config\":\"AA\"}",
        "{\"v\":1}",
        "{\"v\":1,\"config\":\"A\"}",
        "{\"v\":1,\"config\":\"AA==\"}",
        "{\"v\":1,\"config\":\"AA\",\"collateral\":true}",
        "{\"v\":1,\"config\":\"AA\",\"models\":\"AA\"}",
        "{\"v\":1,\"config\":\"AA\",\"config\":\"AA\"}",
    ] {
        host.write_all(&frame(bad)).unwrap();
        assert_eq!(channel.receive_hello().err().map(|e| e.code()), Some("HOST_CHANNEL"), "{bad}");
    }
    drop(host);
    assert_eq!(channel.receive_hello().err(), Some(EnclaveError::Channel("it closed before the first frame")));
}

#[test]
fn a_machine_is_asked_with_the_same_words() {
    let (mut host, channel) = port();
    let asked = ["{\"reload\":{}}", "{\"reload\":{\"collateral\":\"AQI\"}}", "{\"stop\":{}}"];
    host.write_all(&asked.map(frame).concat()).unwrap();
    assert!(matches!(channel.receive_request(), Ok(HostRequest::Reload(None))));
    let Ok(HostRequest::Reload(Some(handed))) = channel.receive_request() else { panic!("no collateral") };
    assert_eq!(handed.read(10).unwrap(), [1, 2]);
    assert!(matches!(channel.receive_request(), Ok(HostRequest::Stop)));
    for bad in ["{\"exec\":{}}", "{\"reload\":{\"collateral\":true}}", "{\"stop\":{},\"reload\":{}}", ""] {
        host.write_all(&frame(bad)).unwrap();
        assert_eq!(channel.receive_request().err().map(|e| e.code()), Some("HOST_CHANNEL"), "{bad}");
    }
    drop(host);
    assert!(matches!(channel.receive_request(), Ok(HostRequest::Gone)));
}

#[test]
fn a_frame_on_a_port_is_bounded_and_whole() {
    for (bytes, fact) in [
        (&u32::MAX.to_be_bytes()[..], "a frame is larger than 2 MiB"),
        (&[0, 0], "it closed inside a frame"),
        (&[0, 0, 0, 2, b'{'], "it closed inside a frame"),
    ] {
        let (mut host, channel) = port();
        host.write_all(bytes).unwrap();
        drop(host);
        assert_eq!(channel.receive_request().err(), Some(EnclaveError::Channel(fact)));
    }
}

#[test]
fn states_and_the_last_word_leave_alike_on_both() {
    for (mut host, channel) in [pair(), port()] {
        channel.send_state("booting");
        channel.send_fatal(&EnclaveError::KeyRefused { ticket: "ab".into() });
        let expected =
            [frame("{\"state\":\"booting\"}"), frame("{\"fatal\":{\"code\":\"KEY_REFUSED\",\"ticket\":\"ab\"}}")];
        let mut got = vec![0; expected.concat().len()];
        host.read_exact(&mut got).unwrap();
        assert_eq!(got, expected.concat());
        drop(host);
        channel.send_state("serving");
    }
}

#[test]
fn what_is_handed_over_is_read_one_byte_beyond_the_cap_at_most() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[5; 100]).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    assert_eq!(Handed::File(file.into()).read(10).unwrap(), [5; 11]);
    assert_eq!(Handed::Bytes(vec![5; 100]).read(10).unwrap(), [5; 11]);
    assert_eq!(Handed::Bytes(vec![5; 10]).read(10).unwrap(), [5; 10]);
}
