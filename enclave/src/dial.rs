//! Turns a broker's address into a TCP connection: its own where it may connect, or one that the launcher carries out of the machine.
//! It does not say who answers there: pinned TLS runs inside, and a carrier can only deny.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::error::EnclaveError;

/// So many idle connections are kept, the newest: twice what a launcher keeps, since old ones may have died unnoticed.
const KEPT: usize = 8;
/// Out of descriptors or the like: the next attempt to accept comes after a pause.
const PAUSE: Duration = Duration::from_millis(50);
/// The carrier's answers: the broker is connected, or it is not.
const CONNECTED: u8 = 0;
const REFUSED: u8 = 1;

/// How brokers are reached, before there is a runtime.
pub enum Way {
    /// By connecting to them.
    Direct,
    /// By idle connections that arrive here: a machine has no route to anywhere.
    Carried(std::net::TcpListener),
}

/// Reaches brokers.
pub enum Dialer {
    /// Connects to them.
    Direct,
    /// Writes the broker's address on a connection that the launcher keeps ready, and waits until the broker is behind it.
    Carrier(Carrier),
}

/// The connections that the launcher keeps ready. They are taken in as they come, so that dead ones do not fill the queue.
pub struct Carrier {
    idle: Arc<Idle>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct Idle {
    /// The newest last.
    streams: Mutex<VecDeque<TcpStream>>,
    arrived: Notify,
}

impl Way {
    /// The ports to which this process itself connects, out of those of the brokers.
    #[must_use]
    pub fn ports(&self, brokers: impl Iterator<Item = u16>) -> Vec<u16> {
        match self {
            Self::Direct => brokers.collect(),
            Self::Carried(_) => Vec::new(),
        }
    }

    /// Begins to reach brokers. Must be called within the runtime.
    ///
    /// # Errors
    /// `SYSTEM`.
    pub fn open(self) -> Result<Dialer, EnclaveError> {
        match self {
            Self::Direct => Ok(Dialer::Direct),
            Self::Carried(listener) => {
                let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
                let listener = listener.map_err(|_| EnclaveError::System("listen"))?;
                let idle = Arc::new(Idle::default());
                let accepting = tokio::spawn(accept(listener, idle.clone())).abort_handle();
                Ok(Dialer::Carrier(Carrier { idle, accepting }))
            }
        }
    }
}

impl Dialer {
    /// A connection to `address`. Waits for ever for a carrier that is not there: the caller has a patience.
    ///
    /// # Errors
    /// `BROKER_UNREACHABLE`; `BROKER_PROTOCOL` when the carrier answers something else.
    pub async fn dial(&self, address: SocketAddr) -> Result<TcpStream, EnclaveError> {
        let carrier = match self {
            Self::Direct => return TcpStream::connect(address).await.map_err(|_| EnclaveError::BrokerUnreachable),
            Self::Carrier(carrier) => carrier,
        };
        loop {
            let mut stream = carrier.take().await;
            match ask(&mut stream, address).await {
                Ok(CONNECTED) => return Ok(stream),
                Ok(REFUSED) => return Err(EnclaveError::BrokerUnreachable),
                Ok(_) => return Err(EnclaveError::BrokerProtocol("the launcher's carrier")),
                // It died idle. Others are here, or come.
                Err(_) => {}
            }
        }
    }
}

impl Carrier {
    /// The newest idle connection, or the next that comes.
    async fn take(&self) -> TcpStream {
        loop {
            let arrived = self.idle.arrived.notified();
            tokio::pin!(arrived);
            // Registered before the look: what comes in between wakes it.
            arrived.as_mut().enable();
            let newest = self.idle.streams.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
            match newest {
                Some(stream) => return stream,
                None => arrived.await,
            }
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, idle: Arc<Idle>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut streams = idle.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() == KEPT {
            streams.pop_front();
        }
        streams.push_back(stream);
        drop(streams);
        // Whoever waits is woken; a permit that nobody needs costs one more look.
        idle.arrived.notify_one();
    }
}

/// `u16be length || address`, answered by one byte.
async fn ask(stream: &mut TcpStream, address: SocketAddr) -> std::io::Result<u8> {
    let text = address.to_string();
    let length = u16::try_from(text.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let mut request = length.to_be_bytes().to_vec();
    request.extend_from_slice(text.as_bytes());
    stream.set_nodelay(true)?;
    stream.write_all(&request).await?;
    stream.read_u8().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: &str = "192.0.2.7:8601";

    fn carried() -> (Dialer, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let way = Way::Carried(listener);
        assert_eq!(way.ports([8601].into_iter()), [] as [u16; 0], "behind the fence it connects to nothing");
        (way.open().unwrap(), address)
    }

    /// What a launcher reads on one idle connection; then it answers with this byte.
    async fn carry(guest: SocketAddr, answer: u8) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(guest).await.unwrap();
        let mut text = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut text).await.unwrap();
        stream.write_all(&[answer]).await.unwrap();
        (String::from_utf8(text).unwrap(), stream)
    }

    #[tokio::test]
    async fn a_carried_connection_is_the_brokers_from_the_answer_on() {
        let (dialer, guest) = carried();
        let carrier = tokio::spawn(async move {
            let (asked, mut stream) = carry(guest, CONNECTED).await;
            // The broker's first bytes may come in one piece with the answer.
            stream.write_all(b"hello").await.unwrap();
            let mut said = [0; 3];
            stream.read_exact(&mut said).await.unwrap();
            (asked, said)
        });
        let mut stream = dialer.dial(BROKER.parse().unwrap()).await.unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(b"bye").await.unwrap();
        assert_eq!(&heard, b"hello");
        assert_eq!(carrier.await.unwrap(), (BROKER.to_owned(), *b"bye"));
    }

    #[tokio::test]
    async fn a_refusal_is_an_unreachable_broker_and_another_answer_breaks_the_protocol() {
        let (dialer, guest) = carried();
        for (answer, code) in [(REFUSED, "BROKER_UNREACHABLE"), (2, "BROKER_PROTOCOL"), (255, "BROKER_PROTOCOL")] {
            let carrier = tokio::spawn(carry(guest, answer));
            let error = dialer.dial(BROKER.parse().unwrap()).await.err().unwrap();
            assert_eq!(error.code(), code, "{answer}");
            carrier.await.unwrap();
        }
    }

    #[tokio::test]
    async fn connections_that_died_idle_are_passed_over_however_many() {
        let (dialer, guest) = carried();
        for _ in 0..200 {
            drop(TcpStream::connect(guest).await.unwrap());
        }
        let carrier = tokio::spawn(carry(guest, CONNECTED));
        assert!(dialer.dial(BROKER.parse().unwrap()).await.is_ok());
        carrier.await.unwrap();
    }

    #[tokio::test]
    async fn only_the_newest_idle_connections_are_kept() {
        let (dialer, guest) = carried();
        let mut idle = Vec::new();
        for _ in 0..3 * KEPT {
            idle.push(TcpStream::connect(guest).await.unwrap());
            tokio::task::yield_now().await;
        }
        // The last one is told about the broker, whatever came before it.
        let mut newest = idle.pop().unwrap();
        let oldest = idle.first_mut().unwrap();
        assert_eq!(oldest.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
        let answer = tokio::spawn(async move {
            let length = newest.read_u16().await.unwrap();
            newest.write_all(&[CONNECTED]).await.unwrap();
            usize::from(length)
        });
        assert!(dialer.dial(BROKER.parse().unwrap()).await.is_ok());
        assert_eq!(answer.await.unwrap(), BROKER.len());
    }

    #[tokio::test]
    async fn several_dials_take_a_connection_each_and_without_one_they_wait() {
        let (dialer, guest) = carried();
        let broker = BROKER.parse().unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(50), dialer.dial(broker)).await;
        assert!(nothing.is_err(), "no carrier");
        let carriers = [tokio::spawn(carry(guest, CONNECTED)), tokio::spawn(carry(guest, CONNECTED))];
        let (first, second) = tokio::join!(dialer.dial(broker), dialer.dial(broker));
        assert_ne!(first.unwrap().peer_addr().unwrap(), second.unwrap().peer_addr().unwrap());
        for carrier in carriers {
            carrier.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_process_connects_by_itself() {
        let broker = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = broker.local_addr().unwrap();
        assert_eq!(Way::Direct.ports([address.port()].into_iter()), [address.port()]);
        let dialer = Way::Direct.open().unwrap();
        assert_eq!(dialer.dial(address).await.unwrap().peer_addr().unwrap(), address);
        drop(broker);
        assert_eq!(dialer.dial(address).await.err(), Some(EnclaveError::BrokerUnreachable));
    }
}
