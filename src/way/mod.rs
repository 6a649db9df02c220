//! The way of a campaign through a lane, in its order:
//!
//! 1. [`decode`]: bytes become a campaign, a cancellation or a dead letter;
//! 2. [`intake`]: what arrived is recorded, the position moves;
//! 3. [`plan`]: which campaigns get how many drafts in the next round;
//! 4. [`pages`]: the next page of each, less those who already have a draft;
//! 5. [`record`]: one Postgres transaction: rows, cursors, the round itself;
//! 6. [`publish`]: one Kafka transaction that repeats it.
//!
//! [`late`] brings those who subscribe while a campaign runs, [`lookout`] looks for all lanes of an instance at once, [`pace`] keeps rounds
//! short while campaigns share, [`turns`] keeps those that are being changed from holding up the others, [`rate`] holds the configured pace,
//! [`brake`] is the operators' pause, [`outlet`] keeps letters beside the rounds while their topic takes none.
//!
//! [`entry`] is the only way into a lane (its decision is [`reconcile`]), [`lane`] its life, `rounds` the loop in which one round is published while
//! the next one is made by `prepare`, [`work`] what they share, and [`policy`] the one place that says what follows from an error.

pub mod brake;
pub mod context;
pub mod entry;
pub mod error;
pub mod gaps;
pub mod intake;
pub mod lane;
pub mod late;
pub mod lookout;
pub mod outlet;
pub mod pace;
pub mod pages;
pub mod passes;
pub mod plan;
pub mod policy;
mod prepare;
pub mod publish;
pub mod rate;
pub mod reconcile;
pub mod record;
mod rounds;
pub mod turns;
pub mod work;
