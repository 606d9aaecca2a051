//! Turns an async role into a blocking command that ends cleanly on Ctrl-C, SIGTERM or with its parent.
//! It does not decide what a role does at its end: roles get a shutdown future.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Runs a future on one thread.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
        Failure::new("RUNTIME", 9, format!("the event loop cannot start: {}", e.kind()), "free some memory")
    })?;
    runtime.block_on(future)
}

/// Like [`block_on`], but Ctrl-C or SIGTERM ends the command with status 130.
pub fn block_on_interruptible<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    block_on(async {
        tokio::select! {
            result = future => result,
            () = shutdown(false) => Err(Failure::new("INTERRUPTED", 130, "interrupted", "")),
        }
    })
}

/// Completes on Ctrl-C or SIGTERM, and with `exit_with_stdin` also when standard input ends: a service that a killed
/// demo started does not outlive it.
pub async fn shutdown(exit_with_stdin: bool) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    let (ended, stdin) = tokio::sync::oneshot::channel();
    if exit_with_stdin {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = ended.send(());
        });
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        Ok(()) = stdin => {}
    }
}

/// Says where a service listens.
pub fn listening(what: &str, address: &str, json: bool) {
    if json {
        println!("{}", serde_json::json!({ "event": "listening", "address": address, "pid": std::process::id() }));
    } else {
        println!("{what} listens on {address}; Ctrl-C stops it");
    }
}
