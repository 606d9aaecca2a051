//! Turns a model into a process of its own behind walls, and tensors into tensors across them.
//! It holds no key and judges no model: decryption, pre-flight and policy are the gate's business.
//!
//! The gate forks one nursery while it still has one thread and no secret ([`Nursery`]); the nursery loads ONNX Runtime once and forks a
//! runner for each model. A runner raises its walls ([`walls`]) before it reads its first message (`message`), loads the model (`session`)
//! and serves runs (`serve`); the gate's side of that is [`Runner`].

mod error;
mod feed;
mod gate;
mod message;
mod nursery;
mod probe;
mod serve;
mod session;
pub mod walls;

pub use error::{RunnerError, Wall};
pub use feed::Feed;
pub use gate::{LoadError, Parts, Runner, Spec};
pub use message::Delivery;
pub use nursery::{Ending, Hatched, Inherited, Life, Nursery, WallLimits};
pub use probe::probe;
pub use walls::Raised;
