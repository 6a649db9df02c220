//! The outside world as narrow traits, each with a real and a simulated implementation that pass the same contract suite.

pub mod audience;
pub mod broker;
pub mod clock;
pub mod failure;
pub mod ledger;
