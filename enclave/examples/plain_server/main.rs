//! Turns ONNX files into what `cargo xtask bench serve` compares the enclave with: the same server over plain TCP, with and without walls.
//! It keeps no secret, attests nothing and is no way to serve anybody: whoever connects counts as attested.
//!
//! `plain_server serve here|runner LIBRARY FOLDER THREADS` prints `{"plain","tls"}`, two addresses, and serves until standard input ends:
//! with `runner` by the enclave's own router, each model behind its walls; with `here` by a bare handler and sessions in this process.
//! `plain_server time LIBRARY FOLDER THREADS` runs MiniLM in a bare loop: each line `still|spin LENGTH MILLISECONDS` of standard input is
//! answered with one line of what was measured.

mod bare;
mod gate;
mod time;

use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use vouchsafe_enclave::serve::accept::BUFFER;
use vouchsafe_enclave::serve::patient::Patient;
use vouchsafe_enclave::serve::session::Session;
use vouchsafe_enclave::serve::strict::{Refused, Strict};
use vouchsafe_enclave::tls::Identity;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const USAGE: &str = "plain_server serve here|runner LIBRARY FOLDER THREADS | plain_server time LIBRARY FOLDER THREADS";
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", place @ ("here" | "runner"), library, folder, threads] => {
            // As the enclave begins, whatever is compared with it.
            if !vouchsafe_system::wipe_freed_memory() {
                return Err("the allocator does not wipe".into());
            }
            let (library, models) = (Path::new(library), models(Path::new(folder))?);
            let identity = Identity::generate()?;
            let acceptor = TlsAcceptor::from(identity.server.clone());
            if *place == "here" {
                keep()?;
                serve(acceptor, || bare::prepare(library, &models, threads.parse()?))
            } else {
                // The nursery is forked while there is one thread, before there is a runtime.
                let runners = gate::runners(library, &models)?;
                keep()?;
                serve(acceptor, || gate::prepare(identity, runners))
            }
        }
        ["time", library, folder, threads] => {
            time::run(Path::new(library), &Path::new(folder).join("minilm.onnx"), threads.parse()?)
        }
        _ => Err(USAGE.into()),
    }
}

/// As the enclave does once its nursery is forked.
fn keep() -> Outcome {
    if vouchsafe_system::keep_freed_memory() { Ok(()) } else { Err("the allocator keeps nothing".into()) }
}

/// What answers on a new connection: a router, and a session where its handlers want one.
pub struct Prepared {
    router: Router,
    session: Box<dyn Fn() -> Option<Arc<Session>>>,
}

/// The ONNX files of a folder by their names.
fn models(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut models = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".onnx"));
        if let Some(name) = name {
            models.push((name.to_owned(), path.clone()));
        }
    }
    Ok(models)
}

/// One thread for all connections, as in the enclave.
fn serve(acceptor: TlsAcceptor, prepare: impl FnOnce() -> Outcome<Prepared>) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let prepared = prepare()?;
        let (plain, tls) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        say(&json!({ "plain": plain.local_addr()?.to_string(), "tls": tls.local_addr()?.to_string() }))?;
        let (end, mut ended) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            drop(end);
        });
        loop {
            let (accepted, acceptor) = tokio::select! {
                accepted = plain.accept() => (accepted, None),
                accepted = tls.accept() => (accepted, Some(acceptor.clone())),
                _ = &mut ended => return Ok(()),
            };
            let (stream, _) = accepted?;
            stream.set_nodelay(true)?;
            let stream = Patient::new(stream, PATIENCE);
            let (router, session) = (prepared.router.clone(), (prepared.session)());
            tokio::spawn(async move {
                match acceptor {
                    None => answer(router, session, stream).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            answer(router, session, stream).await;
                        }
                    }
                }
            });
        }
    })
}

/// One connection, as the enclave serves it, without its farewells.
async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send>(router: Router, session: Option<Arc<Session>>, stream: S) {
    let stream = Strict::new(stream, Refused::default());
    let requests = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (router, session) = (router.clone(), session.clone());
        Box::pin(async move {
            let mut request = request.map(Body::new);
            if let Some(session) = session {
                request.extensions_mut().insert(session);
            }
            router.oneshot(request).await
        })
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), requests)
        .await;
}

fn say(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}
