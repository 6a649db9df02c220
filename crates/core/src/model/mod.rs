//! Plain data and pure rules: what the protocol speaks of. Nothing here imports anything above it, waits, or reads a clock.

pub mod audit;
pub mod campaign;
pub mod clients;
pub mod draft;
pub mod due;
pub mod finding;
pub mod halt;
pub mod headroom;
pub mod input;
pub mod intake;
pub mod late;
pub mod limits;
pub mod lock;
pub mod mark;
pub mod not_told;
pub mod number;
pub mod output_topics;
pub mod ownership;
pub mod page;
pub mod reconcile;
pub mod record;
pub mod recorded;
pub mod retention;
pub mod round;
pub mod round_capacity;
pub mod rules;
