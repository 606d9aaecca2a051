//! Turns a guest and brokers on the loopback interface into dials, refusals and ends.
//! QEMU is between the two in earnest: see the VM tests.

use tokio::net::TcpListener;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const FAST: Pace = Pace {
    pause: (Duration::from_millis(10), Duration::from_millis(80)),
    keep: (Duration::from_millis(100), Duration::from_secs(60)),
    boot: Duration::from_secs(60),
    dial: SECOND,
    idle: Duration::from_secs(30),
};

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Takes connections as a guest does until one answers.
async fn ask(guest: &TcpListener, request: &[u8]) -> (TcpStream, u8) {
    loop {
        let (mut stream, _) = timeout(5 * SECOND, guest.accept()).await.unwrap().unwrap();
        let mut bytes = u16::try_from(request.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(request);
        if stream.write_all(&bytes).await.is_err() {
            continue;
        }
        if let Ok(Ok(answer)) = timeout(5 * SECOND, stream.read_u8()).await {
            return (stream, answer);
        }
    }
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(timeout(5 * SECOND, stream.read(&mut [0; 1])).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn a_broker_is_reached_and_a_half_close_handed_on() {
    let ((guest, at), (broker, address)) = (listener().await, listener().await);
    let carrier = start(at, vec![address], FAST);
    for _ in 0..3 * IDLE {
        let answering = async {
            let (mut peer, _) = broker.accept().await.unwrap();
            let mut question = Vec::new();
            peer.read_to_end(&mut question).await.unwrap();
            question.reverse();
            peer.write_all(&question).await.unwrap();
        };
        let asking = async {
            let (mut stream, answer) = ask(&guest, address.to_string().as_bytes()).await;
            assert_eq!(answer, CONNECTED);
            stream.write_all(b"abc").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut text = Vec::new();
            stream.read_to_end(&mut text).await.unwrap();
            assert_eq!(text, b"cba");
        };
        timeout(10 * SECOND, async { tokio::join!(answering, asking) }).await.unwrap();
    }
    carrier.abort();
}

#[tokio::test]
async fn what_is_not_allowed_is_refused() {
    let ((guest, at), (broker, address), (other, elsewhere)) = (listener().await, listener().await, listener().await);
    let carrier = start(at, vec![address], FAST);
    let same_port = format!("127.0.0.2:{}", address.port());
    for request in
        [elsewhere.to_string().as_bytes(), same_port.as_bytes(), b"", b"localhost:1", b"\xff\xfe", &[b'1'; MAX_ADDRESS]]
    {
        let (mut stream, answer) = ask(&guest, request).await;
        assert_eq!(answer, REFUSED);
        assert!(is_closed(&mut stream).await);
    }
    for idle in [&broker, &other] {
        assert!(timeout(SECOND / 5, idle.accept()).await.is_err(), "nobody was dialled");
    }
    drop(broker);
    let (_, answer) = ask(&guest, address.to_string().as_bytes()).await;
    assert_eq!(answer, REFUSED, "a broker that is gone");
    carrier.abort();
}

#[tokio::test]
async fn a_request_that_is_too_long_or_never_ends_is_dropped() {
    let (guest, at) = listener().await;
    let carrier = start(at, Vec::new(), Pace { dial: SECOND / 10, ..FAST });
    for bytes in [&b"\xff\xff1.2.3.4:5"[..], b"\x00\x41", b"\x00", b"\x00\x08only"] {
        let (mut stream, _) = guest.accept().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert!(is_closed(&mut stream).await);
    }
    carrier.abort();
}

#[tokio::test]
async fn a_guest_that_is_not_there_is_not_pestered() {
    // Like QEMU before its guest listens: everything is accepted, and closed at once.
    let (guest, at) = listener().await;
    let carrier = start(at, Vec::new(), FAST);
    let mut count = 0;
    let _ = timeout(SECOND, async {
        loop {
            drop(guest.accept().await.unwrap());
            count += 1;
        }
    })
    .await;
    // Each slot: pauses of 10, 20, 40 and then 80 ms.
    assert!((IDLE..=IDLE * 16).contains(&count), "{count} connections in a second");
    carrier.abort();
}

#[tokio::test]
async fn unused_connections_are_renewed_until_the_guest_asks_and_not_after() {
    let ((guest, at), (_broker, address)) = (listener().await, listener().await);
    let carrier = start(at, vec![address], FAST);
    let mut first = Vec::new();
    for _ in 0..IDLE {
        first.push(guest.accept().await.unwrap().0);
    }
    for stream in &mut first {
        assert!(is_closed(stream).await, "an unused connection gives way to a new one");
    }
    let (_taken, answer) = ask(&guest, address.to_string().as_bytes()).await;
    assert_eq!(answer, CONNECTED);
    // What was begun before the guest asked may still be renewed; what comes after lies still.
    sleep(SECOND).await;
    let mut streams = Vec::new();
    while let Ok(Ok((stream, _))) = timeout(SECOND / 2, guest.accept()).await {
        streams.push(stream);
    }
    let mut lying = 0;
    for stream in &mut streams {
        lying += u32::from(timeout(SECOND / 50, stream.read(&mut [0; 1])).await.is_err());
    }
    assert_eq!(lying, IDLE);
    carrier.abort();
}

#[tokio::test]
async fn no_more_dials_than_allowed_at_once() {
    let ((guest, at), (broker, address)) = (listener().await, listener().await);
    let carrier = start(at, vec![address], FAST);
    let mut held = Vec::new();
    for _ in 0..MAX_DIALS {
        let (stream, answer) = ask(&guest, address.to_string().as_bytes()).await;
        assert_eq!(answer, CONNECTED);
        held.push((stream, broker.accept().await.unwrap()));
    }
    assert_eq!(ask(&guest, address.to_string().as_bytes()).await.1, REFUSED);
    held.pop();
    sleep(SECOND / 5).await;
    assert_eq!(ask(&guest, address.to_string().as_bytes()).await.1, CONNECTED);
    carrier.abort();
}

#[tokio::test]
async fn the_end_of_the_launch_ends_every_connection() {
    let ((guest, at), (broker, address)) = (listener().await, listener().await);
    let carrier = start(at, vec![address], FAST);
    let (mut stream, _) = ask(&guest, address.to_string().as_bytes()).await;
    let (mut peer, _) = broker.accept().await.unwrap();
    let (mut idle, _) = guest.accept().await.unwrap();
    carrier.abort();
    for stream in [&mut stream, &mut peer, &mut idle] {
        assert!(is_closed(stream).await);
    }
}
