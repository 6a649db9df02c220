//! What operators ask and decide: lists, `pause`, `verify`, and the resolution of every halt by its printed remedy.

mod adopt;
mod api;
mod audit;
pub mod by_hand;
mod cancel;
mod dead_letters;
mod doctor;
mod documented;
mod failover;
mod feedback_table;
mod lists;
mod pause;
mod preview;
mod remedies;
mod replica;
mod resolve;
mod told;
mod verify;
