//! Turns every way a runner can refuse, fail or end into fact, stable code, exit status, HTTP status and advice.
//! It establishes nothing; no message holds a string that came from a model or from a runner.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why there is no runner, or no answer from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunnerError {
    // ---- start ----
    /// The ONNX Runtime library cannot be loaded.
    OrtLoad,
    /// A wall could not be raised (which).
    Walls(Wall),
    /// The nursery ended or does not answer: there will be no new runner.
    Nursery,
    /// The operating system failed (what).
    System(&'static str),
    /// ONNX Runtime refuses the model, or the model uses what cannot be served (what).
    ModelUnsupported(&'static str),

    // ---- runs ----
    /// Too many runs wait for the model.
    Busy,
    /// The run took longer than allowed, and was stopped.
    RunTimeout,
    /// The model failed on this input.
    EngineFailed,
    /// The runner ended: a crash, no memory, or it had to be killed.
    RunnerDied,
    /// The runner broke the protocol (where), and was ended.
    Protocol(&'static str),
    /// The tensors of the request are larger than a slot.
    InputTooLarge,
    /// The tensors of the answer are larger than a slot.
    AnswerTooLarge,
}

/// A wall that is demanded of every runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wall {
    /// Nothing but the runner's own descriptors is open.
    Descriptors,
    /// It ends with its parent.
    Parent,
    /// Memory, files, core dumps and processes have limits.
    Limits,
    /// It has a user of its own, or at least no capability.
    User,
    /// It can gain no privilege, and nobody may look into it.
    Privileges,
    /// The kernel's Landlock rules could not be built.
    Landlock,
    /// The filter of system calls.
    SystemCalls,
}

impl Wall {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Descriptors => "open descriptors",
            Self::Parent => "end with the parent",
            Self::Limits => "resource limits",
            Self::User => "user and capabilities",
            Self::Privileges => "no new privileges",
            Self::Landlock => "landlock",
            Self::SystemCalls => "filter of system calls",
        }
    }
}

/// code, exit status, HTTP status, advice
type Row = (&'static str, u8, u16, &'static str);

impl RunnerError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.row().0
    }

    /// The exit status of the process when this ends it.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        self.row().1
    }

    /// The HTTP status when this answers a request.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.row().2
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        self.row().3
    }

    const fn row(&self) -> Row {
        match self {
            Self::OrtLoad => ("ORT_LOAD", 9, 500, "use the ONNX Runtime library that this release names"),
            Self::Walls(_) => (
                "RUNNER_WALLS",
                9,
                500,
                "use a kernel with system-call filters (CONFIG_SECCOMP_FILTER), Linux 5.14 or newer",
            ),
            Self::Nursery => ("RUNNER_NURSERY", 9, 503, "restart the enclave; if it stays, give it more memory"),
            Self::System(_) => ("SYSTEM", 9, 500, "look at the machine's memory, files and limits, then restart"),
            Self::ModelUnsupported(_) => {
                ("MODEL_UNSUPPORTED", 6, 503, "export the model with the supported operators and tensor types")
            }
            Self::Busy => ("BUSY", 8, 503, "try again shortly"),
            Self::RunTimeout => ("RUN_TIMEOUT", 8, 504, "send smaller batches, or ask for a longer time limit"),
            Self::EngineFailed => ("ENGINE_FAILED", 8, 500, "compare the input with what the model expects"),
            Self::RunnerDied => ("RUNNER_DIED", 8, 503, "try again shortly: the model is started again"),
            Self::Protocol(_) => ("RUNNER_PROTOCOL", 8, 503, "try again shortly: the model is started again"),
            Self::InputTooLarge => ("INPUT_TOO_LARGE", 8, 413, "send smaller batches"),
            Self::AnswerTooLarge => {
                ("ANSWER_TOO_LARGE", 8, 500, "send smaller batches, or let the operator raise max_answer_bytes")
            }
        }
    }
}

impl fmt::Display for RunnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OrtLoad => f.write_str("the ONNX Runtime library cannot be loaded"),
            Self::Walls(wall) => write!(f, "a runner's wall cannot be raised: {}", wall.as_str()),
            Self::Nursery => f.write_str("the process that starts runners ended or does not answer"),
            Self::System(what) => write!(f, "the operating system failed: {what}"),
            Self::ModelUnsupported(what) => write!(f, "the model cannot be served: {what}"),
            Self::Busy => f.write_str("too many requests wait for this model"),
            Self::RunTimeout => f.write_str("the run took longer than allowed"),
            Self::EngineFailed => f.write_str("the model failed on this input"),
            Self::RunnerDied => f.write_str("the process that runs this model ended"),
            Self::Protocol(at) => write!(f, "the process that runs this model broke the protocol at {at}"),
            Self::InputTooLarge => f.write_str("the tensors of the request are larger than this model may take"),
            Self::AnswerTooLarge => f.write_str("the tensors of the answer are larger than this model may give"),
        }
    }
}

impl std::error::Error for RunnerError {}
