//! Turns dial requests of a guest that may not connect out into TCP connections to its brokers.
//! TLS with pinned keys runs inside: the carrier sees sizes, times and addresses, and can only deny service.
//!
//! The guest's only network is what its host connects to it. So the host keeps a few connections to the guest's carrier port
//! lying idle; the guest takes one when it needs a broker, writes a big-endian length of two bytes and `A.B.C.D:PORT`, and gets
//! one byte: 0 and from then on the broker's bytes, or 1 and the end.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use crate::relay;

/// How many connections lie idle.
pub const IDLE: u32 = 4;
/// How many dials are under way at once; more are refused.
const MAX_DIALS: usize = 16;
/// The longest address: an IPv6 address with scope and port.
const MAX_ADDRESS: usize = 64;
/// The answer: what follows are the broker's bytes.
const CONNECTED: u8 = 0;
/// The answer: not allowed, or not reachable.
const REFUSED: u8 = 1;

/// How patient a carrier is.
#[derive(Clone, Copy)]
struct Pace {
    /// The pause after a connection that came to nothing, at first and, doubled each time, at last.
    pause: (Duration, Duration),
    /// How long an unused connection is kept before the guest has ever asked: while it may still boot, and later. QEMU accepts for
    /// a guest that does not listen yet, tries more and more rarely to reach it, and gives up after more than a minute: a new
    /// connection gets through before an old one.
    keep: (Duration, Duration),
    /// How long a guest may still boot.
    boot: Duration,
    /// How long a dial may take, and the rest of a request once it has begun.
    dial: Duration,
    /// When a dialled connection without traffic ends.
    idle: Duration,
}

const PACE: Pace = Pace {
    pause: (Duration::from_millis(100), Duration::from_secs(2)),
    keep: (Duration::from_secs(2), Duration::from_secs(60)),
    boot: Duration::from_secs(120),
    dial: Duration::from_secs(5),
    idle: Duration::from_secs(300),
};

/// Keeps idle connections to the guest's carrier port and serves one dial request on each, to `allowed` addresses only.
/// Aborting the handle ends everything that it started.
#[must_use = "without the handle the carrier runs until the runtime ends"]
pub fn run(guest: SocketAddr, allowed: Vec<SocketAddr>) -> AbortHandle {
    start(guest, allowed, PACE)
}

fn start(guest: SocketAddr, allowed: Vec<SocketAddr>, pace: Pace) -> AbortHandle {
    let carrier = Arc::new(Carrier {
        guest,
        allowed,
        pace,
        asked: AtomicBool::new(false),
        dials: Arc::new(Semaphore::new(MAX_DIALS)),
        refused: Mutex::default(),
    });
    // The set belongs to the task: whatever ends the task ends every connection.
    let all = async move {
        let mut slots = JoinSet::new();
        for number in 0..IDLE {
            slots.spawn(slot(Arc::clone(&carrier), number));
        }
        while slots.join_next().await.is_some() {}
    };
    tokio::spawn(all).abort_handle()
}

struct Carrier {
    guest: SocketAddr,
    allowed: Vec<SocketAddr>,
    pace: Pace,
    /// Whether the guest has asked once: then its port is served, and unused connections may lie as long as they like.
    asked: AtomicBool,
    dials: Arc<Semaphore>,
    /// What was refused and told.
    refused: Mutex<BTreeSet<SocketAddr>>,
}

/// How one connection to the guest ended before it carried anything.
enum Unused {
    /// Not accepted, closed, or garbage.
    Lost,
    /// Nobody asked for longer than it is kept.
    Old,
}

/// One idle connection after the other; those that were taken go on beside.
async fn slot(carrier: Arc<Carrier>, number: u32) {
    // Not all at once: a guest that has just come up finds a new connection sooner.
    sleep(carrier.pace.keep.0 * number / IDLE).await;
    let mut taken = JoinSet::new();
    let (pace, begun) = (carrier.pace, Instant::now());
    let mut pause = pace.pause.0;
    loop {
        let keep = if begun.elapsed() < pace.boot { pace.keep.0 } else { pace.keep.1 };
        let kept = (!carrier.asked.load(Ordering::Relaxed)).then_some(keep);
        match carrier.wait_for_request(kept).await {
            Ok((stream, request)) => {
                carrier.asked.store(true, Ordering::Relaxed);
                pause = pace.pause.0;
                let carrier = Arc::clone(&carrier);
                // How a connection ends is the business of its two ends.
                taken.spawn(async move { carrier.serve(stream, &request).await.is_ok() });
            }
            Err(Unused::Old) => {}
            Err(Unused::Lost) => {
                sleep(pause).await;
                pause = (pause * 2).min(pace.pause.1);
            }
        }
        while taken.try_join_next().is_some() {}
        // The guest cannot ask faster than this, whatever it does.
        if !taken.is_empty() {
            sleep(pace.pause.0 / 10).await;
        }
    }
}

impl Carrier {
    /// Connects to the guest and lies idle until it asks.
    async fn wait_for_request(&self, kept: Option<Duration>) -> Result<(TcpStream, Vec<u8>), Unused> {
        let lost = |_| Unused::Lost;
        let connecting = timeout(self.pace.dial, TcpStream::connect(self.guest));
        let mut stream = connecting.await.map_err(|_| Unused::Lost)?.map_err(lost)?;
        let mut first = [0; 1];
        let read = stream.read_exact(&mut first);
        match kept {
            Some(kept) => timeout(kept, read).await.map_err(|_| Unused::Old)?,
            None => read.await,
        }
        .map_err(lost)?;
        let request = timeout(self.pace.dial, rest_of_request(&mut stream, first[0])).await;
        let request = request.map_err(|_| Unused::Lost)?.map_err(lost)?;
        Ok((stream, request))
    }

    /// Answers one request and relays, when the answer is yes.
    async fn serve(&self, mut guest: TcpStream, request: &[u8]) -> io::Result<()> {
        let slot = Arc::clone(&self.dials).try_acquire_owned();
        let broker = match (self.allowed_address(request), &slot) {
            (Some(address), Ok(_)) => {
                timeout(self.pace.dial, TcpStream::connect(address)).await.ok().and_then(Result::ok)
            }
            _ => None,
        };
        let Some(broker) = broker else {
            // A guest that only asks for what it does not get shall not keep its host busy.
            sleep(self.pace.pause.0).await;
            guest.write_all(&[REFUSED]).await?;
            return guest.shutdown().await;
        };
        guest.write_all(&[CONNECTED]).await?;
        relay::join(guest, broker, self.pace.idle).await
    }

    fn allowed_address(&self, request: &[u8]) -> Option<SocketAddr> {
        let address: SocketAddr = core::str::from_utf8(request).ok()?.parse().ok()?;
        if self.allowed.contains(&address) {
            return Some(address);
        }
        // Told once per address, and for so many only: the guest chooses them.
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < MAX_DIALS && refused.insert(address) {
            use std::io::Write as _;
            let _ = writeln!(
                io::stderr().lock(),
                "carrier | not dialled, since it is none of the brokers of this launch: {address}"
            );
        }
        None
    }
}

async fn rest_of_request(stream: &mut TcpStream, first: u8) -> io::Result<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([first, stream.read_u8().await?]));
    if length > MAX_ADDRESS {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut request = vec![0; length];
    stream.read_exact(&mut request).await?;
    Ok(request)
}

#[cfg(test)]
mod tests;
