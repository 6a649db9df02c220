//! Whether it helps to try again: the one rule for every error of the servers. [`crate::lane::error_policy`] says what follows for a lane.

use std::fmt::Display;

/// What may come of trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It may work by itself, soon.
    Transient,
    /// It will not work before somebody mends something.
    Refused,
    /// It is not ours to try again: somebody else has the lane.
    LaneLost,
}

/// An error that says what may come of trying again.
pub trait Failure: Display {
    /// Which it is.
    fn failure_kind(&self) -> FailureKind;

    /// Whether it may work by itself.
    fn is_transient(&self) -> bool {
        self.failure_kind() == FailureKind::Transient
    }
}
