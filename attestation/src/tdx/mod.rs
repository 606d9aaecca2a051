//! Turns TDX quotes with Intel's collateral into one verdict.
//! It does not appraise: which measurements, levels or machines are wanted is the policy's word.

mod certificate;
mod chain;
mod collateral;
mod error;
mod facts;
mod frame;
mod item;
pub(crate) mod layout;
mod levels;
mod pck;
mod qvl;
pub(crate) mod verify;

pub use error::TdxError;
pub use facts::{PckFlag, TcbStatus, Td15, TdAttributes, TdReport, TdxFacts};
pub use item::Item;
pub use layout::{Field, Kind, QUOTE_LAYOUT};
