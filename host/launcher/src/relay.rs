//! Turns connections to the public address into connections to a machine's listener: TCP bytes, nothing else.
//! TLS ends inside the enclave; the relay sees sizes, times and addresses, and can only deny service. A process accepts by itself.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

const BUFFER: usize = 32 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds of the relay.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections at once; more are closed on arrival.
    pub max_connections: usize,
    /// When a connection without traffic in either direction is closed.
    pub idle: Duration,
}

/// Who gets the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nobody: they are closed on arrival.
    Nobody,
    /// A guest that holds the same listener and accepts.
    Itself,
    /// Whoever listens there.
    At(SocketAddr),
}

/// Accepts for ever, unless the guest does, and sees that connections go to wherever `target` says.
pub async fn serve(listener: TcpListener, mut target: watch::Receiver<Target>, limits: Limits) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    while target.wait_for(|target| *target != Target::Itself).await.is_ok() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = target.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok((client, _)) = accepted else {
            // Out of descriptors, most likely: let some connections end.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (Ok(slot), Target::At(address)) = (Arc::clone(&slots).try_acquire_owned(), *target.borrow()) else {
            continue;
        };
        tokio::spawn(async move {
            // How a connection ends is the business of its two ends.
            let _ = relay(client, address, limits.idle).await;
            drop(slot);
        });
    }
}

async fn relay(client: TcpStream, address: SocketAddr, idle: Duration) -> io::Result<()> {
    let enclave = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    join(client, enclave, idle).await
}

/// Makes one connection of two, until both directions have ended or no byte has moved for so long.
pub(crate) async fn join(one: TcpStream, other: TcpStream, idle: Duration) -> io::Result<()> {
    one.set_nodelay(true)?;
    other.set_nodelay(true)?;
    let clock = Clock { start: Instant::now(), last_ms: Arc::new(AtomicU64::new(0)) };
    let mut one = Watched { inner: one, clock: clock.clone() };
    let mut other = Watched { inner: other, clock: clock.clone() };
    tokio::select! {
        // Copies both ways, hands on each end's half-close, and returns when both directions have ended.
        outcome = copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER, BUFFER) => outcome.map(|_| ()),
        () = clock.idle(idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// When bytes last moved.
#[derive(Clone)]
struct Clock {
    start: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Clock {
    fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    async fn idle(&self, limit: Duration) {
        loop {
            let due = self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + limit;
            if Instant::now() >= due {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// A stream that winds the clock whenever bytes move.
struct Watched {
    inner: TcpStream,
    clock: Clock,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if outcome.is_ready() {
            self.clock.touch();
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if outcome.is_ready() {
            self.clock.touch();
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start(limits: Limits) -> (SocketAddr, TcpListener, watch::Sender<Target>) {
        let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let enclave = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = public.local_addr().unwrap();
        let (sender, target) = watch::channel(Target::At(enclave.local_addr().unwrap()));
        tokio::spawn(serve(public, target, limits));
        (address, enclave, sender)
    }

    async fn is_closed(stream: &mut TcpStream) -> bool {
        matches!(timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await, Ok(Ok(0) | Err(_)))
    }

    #[tokio::test]
    async fn a_half_close_is_handed_on() {
        let (address, enclave, _target) = start(Limits { max_connections: 2, idle: Duration::from_secs(30) }).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut peer, _) = enclave.accept().await.unwrap();
        let mut question = Vec::new();
        peer.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        peer.write_all(b"answer").await.unwrap();
        drop(peer);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    }

    #[tokio::test]
    async fn the_cap_and_a_missing_enclave_close_connections() {
        let (address, enclave, target) = start(Limits { max_connections: 1, idle: Duration::from_secs(30) }).await;
        let first = TcpStream::connect(address).await.unwrap();
        let _peer = enclave.accept().await.unwrap();
        assert!(is_closed(&mut TcpStream::connect(address).await.unwrap()).await);
        drop(first);
        target.send(Target::Nobody).unwrap();
        assert!(is_closed(&mut TcpStream::connect(address).await.unwrap()).await);
    }

    #[tokio::test]
    async fn a_guest_that_accepts_gets_every_connection_until_it_is_gone() {
        let public = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        public.set_nonblocking(true).unwrap();
        let address = public.local_addr().unwrap();
        let guest = TcpListener::from_std(public.try_clone().unwrap()).unwrap();
        let (target, watched) = watch::channel(Target::Nobody);
        let limits = Limits { max_connections: 1, idle: Duration::from_millis(100) };
        tokio::spawn(serve(TcpListener::from_std(public).unwrap(), watched, limits));
        for _ in 0..3 {
            assert!(is_closed(&mut TcpStream::connect(address).await.unwrap()).await);
            target.send(Target::Itself).unwrap();
            for _ in 0..20 {
                let mut client = TcpStream::connect(address).await.unwrap();
                let (mut peer, _) =
                    timeout(Duration::from_secs(5), guest.accept()).await.expect("not taken away").unwrap();
                peer.write_all(b"x").await.unwrap();
                assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 1);
            }
            // It has gone and left one waiting.
            let mut left = TcpStream::connect(address).await.unwrap();
            target.send(Target::Nobody).unwrap();
            assert!(is_closed(&mut left).await);
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let (address, enclave, _target) = start(Limits { max_connections: 1, idle: Duration::from_millis(100) }).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let _peer = enclave.accept().await.unwrap();
        assert!(is_closed(&mut client).await);
    }
}
