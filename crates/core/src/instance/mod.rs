//! What the lanes of an instance share.
//!
//! - [`supervisor`] runs one task for each lane that the group assigns.
//! - [`change_feed`] knows the lanes that poll for changes and late subscribers together; [`follow_changes`] polls for all of them.
//! - [`id_gaps`] holds the ids that the tail scan asks for again.
//! - [`pause`] is the operators' pause and the hold.
//! - [`rate_limiter`] is the rate limit, [`round_sizing`] keeps rounds short while campaigns share.
//! - [`memory_budget`] bounds what is in memory.
//! - [`dead_letter_topic`] keeps letters beside the rounds while their topic takes none.

pub mod change_feed;
pub mod dead_letter_topic;
pub mod follow_changes;
pub mod id_gaps;
pub mod memory_budget;
pub mod pause;
pub mod rate_limiter;
pub mod round_sizing;
pub mod supervisor;
