//! What each port promises, as cases that run on both implementations of it: the simulated one (the `simulation` target, `simulated.rs`) and
//! the real one against real servers (the `servers` target, `real.rs`). A case is a generic function over an environment; whatever a simulated
//! implementation does for the lives in `crates/sim/tests/simulation` is compared with the servers here.
//!
//! A case changes what the trait cannot change (somebody answers, a window passes, an operator decides) through its environment. No case waits
//! for a window to pass: the window is moved instead.

pub mod audience;
pub mod broker;
pub mod clock;
pub mod ledger;
