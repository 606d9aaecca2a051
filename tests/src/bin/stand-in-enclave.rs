//! A program for the launcher's tests: turns the host channel into states and TCP lines into answers, as its config says.
//! It is no enclave: it holds no key, serves no model, and no policy accepts its measurement.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    fs::File,
    io::{BufRead, BufReader, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

/// What every connection can ask for.
struct Shared {
    device: Mutex<UnixStream>,
    config: String,
    library: u64,
    models: Vec<String>,
    reloads: AtomicU32,
}

fn main() {
    let mut channel = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let [device, config, models, library, listener] = hello(&channel);
    let mut text = String::new();
    File::from(config).read_to_string(&mut text).unwrap();
    let models = std::fs::read_dir(format!("/proc/self/fd/{}", models.as_raw_fd())).unwrap();
    let shared = Arc::new(Shared {
        device: Mutex::new(UnixStream::from(device)),
        config: text.clone(),
        library: File::from(library).metadata().unwrap().len(),
        models: models.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect(),
        reloads: AtomicU32::new(0),
    });
    if text.contains("fatal") {
        send(&mut channel, &json!({ "fatal": { "code": "STAND_IN_FATAL", "ticket": "00ff" } }));
        std::process::exit(2);
    }
    if !text.contains("silent") {
        for state in ["booting", "attested", "unsealed", "serving"] {
            send(&mut channel, &json!({ "state": state }));
        }
    }
    let here = Arc::clone(&shared);
    std::thread::spawn(move || {
        let listener = TcpListener::from(listener);
        // The launcher has it too, and does not let it block.
        while poll(&mut [PollFd::new(&listener, PollFlags::IN)], None).is_ok() {
            let Ok((client, _)) = listener.accept() else { continue };
            let shared = Arc::clone(&here);
            std::thread::spawn(move || answer(client, &shared));
        }
    });
    println!("a public line\u{1b}[31m");
    while let Some(request) = receive(&mut channel) {
        if request.get("reload").is_some() {
            shared.reloads.fetch_add(1, Ordering::SeqCst);
        }
        if request.get("stop").is_some() && !text.contains("deaf") {
            return;
        }
    }
}

fn answer(mut client: TcpStream, shared: &Shared) {
    let mut line = String::new();
    BufReader::new(client.try_clone().unwrap()).read_line(&mut line).unwrap();
    let reply = match line.trim() {
        "crash" => std::process::exit(3),
        "report" => {
            let mut device = shared.device.lock().unwrap();
            send(
                &mut device,
                &json!({ "report_data": "d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3dw" }),
            );
            receive(&mut device).unwrap()
        }
        "facts" => json!({
            "environment": std::env::vars_os().count(),
            "directory": std::env::current_dir().unwrap(),
            "arguments": std::env::args().collect::<Vec<_>>(),
            "descriptors": std::fs::read_dir("/proc/self/fd").unwrap().count(),
            "config": shared.config,
            "library": shared.library,
            "models": shared.models,
            "reloads": shared.reloads.load(Ordering::SeqCst),
        }),
        other => json!({ "echo": other }),
    };
    writeln!(client, "{reply}").unwrap();
}

fn hello(channel: &UnixStream) -> [OwnedFd; 5] {
    let mut bytes = [0; 11];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let count =
        recvmsg(channel, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    assert_eq!(&bytes[..count], b"\0\0\0\x07{\"v\":1}");
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    descriptors.try_into().unwrap()
}

fn send(channel: &mut UnixStream, value: &Value) {
    let body = value.to_string();
    channel.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
    channel.write_all(body.as_bytes()).unwrap();
}

fn receive(channel: &mut UnixStream) -> Option<Value> {
    let mut length = [0; 4];
    channel.read_exact(&mut length).ok()?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    channel.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
