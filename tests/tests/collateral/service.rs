//! A vendor's service of our own, on this machine: answers by path, one after the other, and remembers what was asked.
//! It speaks as much HTTP as the tests need, and breaks it where they want.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

/// One answer.
#[derive(Clone)]
pub struct Reply {
    head: String,
    body: Vec<u8>,
    /// What the head says of the length.
    length: usize,
    before: Duration,
    raw: bool,
}

impl Reply {
    fn new(status: u16, body: Vec<u8>) -> Self {
        let length = body.len();
        Self { head: format!("HTTP/1.1 {status} X\r\n"), body, length, before: Duration::ZERO, raw: false }
    }

    pub fn ok(body: Vec<u8>) -> Self {
        Self::new(200, body)
    }

    pub fn status(status: u16) -> Self {
        Self::new(status, Vec::new())
    }

    /// Bytes that are no HTTP.
    pub fn raw(bytes: Vec<u8>) -> Self {
        Self { raw: true, ..Self::new(200, bytes) }
    }

    /// Comes late.
    pub fn slow(before: Duration) -> Self {
        Self { before, ..Self::new(200, Vec::new()) }
    }

    /// Says that more comes than does.
    pub fn half(body: Vec<u8>) -> Self {
        Self { length: 2 * body.len(), ..Self::new(200, body) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }
}

/// A certificate for localhost that nobody but the test believes, and the service's side of TLS.
pub struct Tls {
    /// The certificate, PEM.
    pub authority: String,
    config: Arc<ServerConfig>,
}

impl Tls {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self { authority: made.cert.pem(), config: Arc::new(config) }
    }
}

type Answers = Arc<Mutex<BTreeMap<String, Vec<Reply>>>>;

/// The service; it ends with the test's process.
pub struct Service {
    port: u16,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    pub fn new() -> Self {
        Self::on(None)
    }

    /// The same over https.
    pub fn https(tls: &Tls) -> Self {
        Self::on(Some(Arc::clone(&tls.config)))
    }

    fn on(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answers, asked) = (Answers::default(), Arc::new(Mutex::new(Vec::new())));
        let (for_thread, memory) = (Arc::clone(&answers), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, asked) = (Arc::clone(&for_thread), Arc::clone(&memory));
                let tls = tls.clone();
                std::thread::spawn(move || match tls {
                    None => serve(stream, &answers, &asked),
                    Some(config) => {
                        serve(StreamOwned::new(ServerConnection::new(config).unwrap(), stream), &answers, &asked);
                    }
                });
            }
        });
        Self { port, answers, asked }
    }

    /// A service that is not there.
    pub fn gone() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port, answers: Answers::default(), asked: Arc::default() }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a path answers: one reply after the other, the last one for ever.
    pub fn answer(&self, path: &str, replies: Vec<Reply>) {
        self.answers.lock().unwrap().insert(path.to_owned(), replies);
    }

    /// What a path answers next.
    pub fn reply(&self, path: &str) -> Reply {
        self.answers.lock().unwrap()[path][0].clone()
    }

    /// Every path that was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve<S: Read + Write>(stream: S, answers: &Answers, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut first = Vec::new();
    // Anything that is no GET is not remembered, such as the beginning of a TLS handshake.
    if reader.read_until(b'\n', &mut first).is_err() || !first.starts_with(b"GET ") {
        let _ = reader.get_mut().write_all(b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    let line = String::from_utf8_lossy(&first).into_owned();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|n| n > 2) {
        header.clear();
    }
    asked.lock().unwrap().push(path.clone());
    let reply = match answers.lock().unwrap().get_mut(&path) {
        Some(replies) if replies.len() > 1 => replies.remove(0),
        Some(replies) => replies[0].clone(),
        None => Reply::status(404),
    };
    std::thread::sleep(reply.before);
    let stream = reader.get_mut();
    if !reply.raw {
        let _ = write!(stream, "{}Content-Length: {}\r\nConnection: close\r\n\r\n", reply.head, reply.length);
    }
    let _ = stream.write_all(&reply.body);
    let _ = stream.flush();
}
