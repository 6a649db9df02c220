//! The rounds of a lane, in the order of the data:
//!
//! 1. [`plan`]: which campaigns get how many drafts in the next round;
//! 2. [`pages`]: the next page of each, less those who already have a draft;
//! 3. [`stage_and_seal`]: one Postgres transaction: rows, cursors, the round itself;
//! 4. [`publish`]: one Kafka transaction that repeats it.
//!
//! `pipeline` is the loop in which one round is published while `prepare` makes the next. `wait` says when there is something to do, `budget` how
//! much a round may hold, `late_selection` which candidates for late drafts it takes. `read_ahead` reads the next page of a giant while its round is
//! copied. [`quiet_rounds`] keeps campaigns that are being changed from holding up the others.

mod budget;
mod late_selection;
pub mod pages;
pub mod pipeline;
pub mod plan;
pub mod prepare;
pub mod publish;
pub mod quiet_rounds;
pub(crate) mod read_ahead;
pub mod stage_and_seal;
mod wait;
