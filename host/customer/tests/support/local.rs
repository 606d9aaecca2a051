//! A running proxy and a plain local client of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use vouchsafe_customer::{CustomerError, Listen, ProxyOptions, proxy};
use vouchsafe_policies::Policy;

use super::short;

pub struct Running {
    listen: Listen,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), CustomerError>>,
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        match &self.listen {
            Listen::Tcp(address) => *address,
            Listen::Unix(_) => panic!("a Unix socket"),
        }
    }

    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

pub fn options_under(policy: Arc<Policy>, upstream: impl ToString) -> ProxyOptions {
    let mut options = ProxyOptions::new("127.0.0.1:0".parse().unwrap(), upstream.to_string(), policy);
    options.connect = short();
    options.max_request_bytes = 64 * 1024;
    options.body_timeout = Duration::from_millis(400);
    options
}

pub async fn start(options: ProxyOptions) -> Running {
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, is_ready) = oneshot::channel();
    let task = tokio::spawn(proxy(options, move |address| ready.send(address.clone()).unwrap(), async move {
        let _ended = stopped.await;
    }));
    Running { listen: is_ready.await.unwrap(), stop, task }
}

pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &str) -> (u16, String, Value) {
    let (status, head, body) = exchange(&mut stream, request.as_bytes()).await;
    (status, head, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// One request and its whole answer: status, head in lower case, body.
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &[u8]) -> (u16, String, Vec<u8>) {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk).await.unwrap();
        answer.extend_from_slice(&chunk[..n]);
        if let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let length = length.expect("a declared length");
            if answer.len() >= end + 4 + length {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return (status, head, answer[end + 4..].to_vec());
            }
        }
        assert_ne!(n, 0, "closed before a whole answer: {}", String::from_utf8_lossy(&answer));
    }
}

pub async fn get(address: SocketAddr, path: &str, host: &str) -> (u16, String, Value) {
    let stream = TcpStream::connect(address).await.unwrap();
    ask(stream, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}
