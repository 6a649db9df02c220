//! The way of a campaign through a lane, in its order:
//!
//! 1. [`decode`]: bytes become a campaign, a cancellation or a dead letter;
//! 2. [`intake`]: what arrived is recorded, the position moves;
//! 3. [`plan`]: which campaigns get how many drafts in the next round;
//! 4. [`pages`]: the next page of each, less those who already have a draft;
//! 5. [`record`]: one Postgres transaction: rows, cursors, the round itself;
//! 6. [`publish`]: one Kafka transaction that repeats it.
//!
//! [`entry`] is the only way into a lane (its decision is [`reconcile`]), [`lane`] the loop that drives the steps, and [`policy`] the
//! one place that says what follows from an error.

pub mod decode;
pub mod plan;
pub mod reconcile;
pub mod record;
