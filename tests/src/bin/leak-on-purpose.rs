//! Turns the byte strings on standard input into leaks, by every way a program can leak: the canary scan's control.
//! It is part of no release; a scan that does not find all that it leaks is no scan.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{ffi::OsStrExt, net::UnixStream, process::CommandExt},
    path::Path,
    process::Command,
    time::Duration,
};

use rustix::fs::{MemfdFlags, memfd_create};

fn main() {
    let mut words = std::env::args_os().skip(1);
    match words.next().as_deref().and_then(OsStr::to_str) {
        // A process whose arguments or environment are the leak: long enough for whoever looks into /proc.
        Some("stay") => std::thread::sleep(Duration::from_millis(300)),
        Some("leak") => leak(Path::new(&words.next().unwrap())),
        Some("enclave") => misbehave(Path::new(&words.next().unwrap())),
        Some("reach") => reach(Path::new(&words.next().unwrap())),
        _ => panic!("leak DIR | enclave DIR | reach DIR | stay …"),
    }
}

/// What must be leaked, each with its bits inverted so that its way here is no leak itself.
fn plan() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    std::io::stdin().read_to_end(&mut all).unwrap();
    let (mut items, mut rest) = (Vec::new(), all.as_slice());
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (item, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        items.push(item.iter().map(|b| !b).collect());
        rest = tail;
    }
    items
}

fn leak(dir: &Path) {
    let items = plan();
    let mut file = File::create(dir.join("file")).unwrap();
    let mut removed = File::create(dir.join("removed")).unwrap();
    let mut halves = File::create(dir.join("halves")).unwrap();
    let mut log = OpenOptions::new().create(true).append(true).open(dir.join("program.log")).unwrap();
    let mut memory = File::from(memfd_create("leak", MemfdFlags::CLOEXEC).unwrap());
    let (mut socket, mut peer) = UnixStream::pair().unwrap();
    let (mut from, mut pipe) = std::io::pipe().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut other = listener.accept().unwrap().0;
    for item in &items {
        file.write_all(item).unwrap();
        file.write_all(b"\n").unwrap();
        removed.write_all(item).unwrap();
        let (first, second) = item.split_at(item.len() / 2);
        halves.write_all(first).unwrap();
        halves.write_all(second).unwrap();
        writeln!(log, "a public line with {}", String::from_utf8_lossy(item)).unwrap();
        log.write_all(item).unwrap();
        memory.write_all(item).unwrap();
        let mut sink = vec![0; item.len()];
        socket.write_all(item).unwrap();
        peer.read_exact(&mut sink).unwrap();
        pipe.write_all(item).unwrap();
        from.read_exact(&mut sink).unwrap();
        tcp.write_all(item).unwrap();
        other.read_exact(&mut sink).unwrap();
        if item.len() <= 255 && !item.contains(&0) && !item.contains(&b'/') {
            File::create(dir.join("names").join(OsStr::from_bytes(item))).unwrap();
        }
    }
    fs::remove_file(dir.join("removed")).unwrap();
    // The kernel ends an argument at its first zero byte.
    let words: Vec<&OsStr> = items.iter().filter(|i| !i.contains(&0)).map(|i| OsStr::from_bytes(i)).collect();
    let me = std::env::current_exe().unwrap();
    assert!(Command::new(&me).arg("stay").args(&words).status().unwrap().success());
    let variables = words.iter().enumerate().map(|(n, word)| (format!("LEAK_{n}"), word));
    assert!(Command::new(&me).arg("stay").envs(variables).status().unwrap().success());
}

/// Calls itself an enclave and does what an enclave never does.
fn misbehave(dir: &Path) {
    File::create(dir.join("plaintext")).unwrap().write_all(b"x").unwrap();
    memfd_create("plaintext", MemfdFlags::CLOEXEC).unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    fs::rename(dir.join("plaintext"), dir.join("renamed")).unwrap();
    fs::remove_file(dir.join("renamed")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    drop(listener);
    assert!(Command::new(std::env::current_exe().unwrap()).arg0("child").arg("stay").status().unwrap().success());
}

/// Gets data past a reader of system calls: too much at once, a copy inside the kernel, a file elsewhere.
fn reach(dir: &Path) {
    File::create(dir.join("big")).unwrap().write_all(&vec![b'x'; 100_000]).unwrap();
    fs::copy(dir.join("big"), dir.join("copied")).unwrap();
    let elsewhere = dir.parent().unwrap().join("elsewhere");
    File::create(&elsewhere).unwrap();
    fs::remove_file(elsewhere).unwrap();
}
