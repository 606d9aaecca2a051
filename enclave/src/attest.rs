//! Turns the challenges of one short window into one quote: a Merkle tree over session digests, whose root the evidence carries.
//! It does not verify anything and quotes no caller-chosen bytes: a verifier's nonce goes in under two hashes only.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use vouchsafe_attestation::EvidenceEnvelope;
use vouchsafe_attestation::session::{MerklePath, Tree, leaf, report_data};

use crate::device::{EvidenceDevice, Words};
use crate::error::EnclaveError;

type Answer = Result<(MerklePath, EvidenceEnvelope), EnclaveError>;

struct Waiting {
    session_digest: [u8; 64],
    reply: oneshot::Sender<Answer>,
}

/// Collects sessions into windows. One device quote serves a whole window.
#[derive(Clone)]
pub struct Window(mpsc::Sender<Waiting>);

impl Window {
    /// Starts collecting: a window ends `wait` after its first session, or when it has `leaves` sessions.
    #[must_use]
    pub fn start(device: Arc<dyn EvidenceDevice>, words: Words, wait: Duration, leaves: usize) -> Self {
        let (send, mut receive) = mpsc::channel::<Waiting>(leaves.max(1));
        tokio::spawn(async move {
            while let Some(first) = receive.recv().await {
                let mut window = vec![first];
                let end = tokio::time::sleep(wait);
                tokio::pin!(end);
                while window.len() < leaves {
                    tokio::select! {
                        next = receive.recv() => match next {
                            Some(next) => window.push(next),
                            None => break,
                        },
                        () = &mut end => break,
                    }
                }
                // Who went away meanwhile needs no quote.
                window.retain(|waiting| !waiting.reply.is_closed());
                if window.is_empty() {
                    continue;
                }
                let device = device.clone();
                // The next window fills while this quote is taken: however many ask, there is one quote at a time.
                let _ = tokio::task::spawn_blocking(move || quote(&*device, words, window)).await;
            }
        });
        Self(send)
    }

    /// Evidence for one session, and where the session stands in it.
    ///
    /// # Errors
    /// `EVIDENCE_DEVICE`.
    pub async fn attest(&self, session_digest: [u8; 64]) -> Answer {
        let (reply, answer) = oneshot::channel();
        let gone = EnclaveError::Device("the window closed");
        self.0.send(Waiting { session_digest, reply }).await.map_err(|_| gone.clone())?;
        answer.await.map_err(|_| gone)?
    }
}

fn quote(device: &dyn EvidenceDevice, words: Words, window: Vec<Waiting>) {
    let made = Tree::new(window.iter().map(|w| leaf(&w.session_digest)).collect())
        .map_err(|_| EnclaveError::Device("the window is empty"))
        .and_then(|tree| {
            let data = report_data(words.mode, words.tee, &tree.root(), u64::from(tree.size()));
            Ok((device.quote(data)?, tree))
        });
    for (index, waiting) in (0_u32..).zip(window) {
        let answer = match &made {
            Ok((evidence, tree)) => tree
                .path(index)
                .map(|path| (path, evidence.clone()))
                .map_err(|_| EnclaveError::Device("the window is too large")),
            Err(error) => Err(error.clone()),
        };
        // A verifier that went away needs no answer.
        let _ = waiting.reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::OwnLaunch;
    use crate::device::tests::UnsignedDevice;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use vouchsafe_attestation::session::root_from_path;
    use vouchsafe_attestation::{Mode, Tee};

    const WORDS: Words = Words { tee: Tee::SevSnp, mode: Mode::Simulation };

    async fn attested(window: Window, n: u8) -> u32 {
        let digest = [n; 64];
        let (path, evidence) = window.attest(digest).await.unwrap();
        let root = root_from_path(&leaf(&digest), &path).unwrap();
        let expected = report_data(WORDS.mode, WORDS.tee, &root, u64::from(path.size));
        assert_eq!(evidence.signed()[0x50..0x90], expected);
        path.size
    }

    fn device() -> Arc<UnsignedDevice> {
        Arc::new(UnsignedDevice { quotes: AtomicUsize::new(0) })
    }

    #[tokio::test]
    async fn who_went_away_costs_no_quote() {
        let device = device();
        let window = Window::start(device.clone(), WORDS, Duration::from_millis(50), 1024);
        for n in 0..5 {
            let gone = tokio::time::timeout(Duration::from_millis(1), window.attest([n; 64])).await;
            assert!(gone.is_err(), "control: the window is open");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(device.quotes.load(Ordering::SeqCst), 0);
        assert_eq!(attested(window, 9).await, 1);
        assert_eq!(device.quotes.load(Ordering::SeqCst), 1, "control");
    }

    #[tokio::test]
    async fn sessions_of_one_window_share_one_quote() {
        let device = device();
        let window = Window::start(device.clone(), WORDS, Duration::from_millis(20), 1024);
        let tasks: Vec<_> = (0..7).map(|n| tokio::spawn(attested(window.clone(), n))).collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 7);
        }
        assert_eq!(device.quotes.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_full_window_does_not_wait() {
        let device = device();
        let window = Window::start(device.clone(), WORDS, Duration::from_secs(3600), 2);
        let tasks: Vec<_> = (0..4).map(|n| tokio::spawn(attested(window.clone(), n))).collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 2);
        }
        assert_eq!(device.quotes.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_lone_session_has_a_tree_of_one() {
        let window = Window::start(device(), WORDS, Duration::from_millis(1), 1024);
        assert_eq!(attested(window, 9).await, 1);
    }

    #[tokio::test]
    async fn a_failing_device_fails_every_session_of_its_window() {
        struct Broken;
        impl EvidenceDevice for Broken {
            fn quote(&self, _: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError> {
                Err(EnclaveError::Device("broken"))
            }

            fn own_launch(&self, _: [u8; 64]) -> Result<OwnLaunch, EnclaveError> {
                Err(EnclaveError::Device("broken"))
            }
        }
        let window = Window::start(Arc::new(Broken), WORDS, Duration::from_millis(1), 4);
        let (one, two) = tokio::join!(window.attest([1; 64]), window.attest([2; 64]));
        assert_eq!((one.err().unwrap().code(), two.err().unwrap().code()), ("EVIDENCE_DEVICE", "EVIDENCE_DEVICE"));
    }
}
