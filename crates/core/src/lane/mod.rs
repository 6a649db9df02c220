//! One lane: from the moment at which an instance takes it over to the moment at which it leaves it.
//!
//! [`takeover`] is the only way to own a lane (its decision is [`crate::model::reconcile`]), [`lifecycle`] its life. [`intake`] records what arrives,
//! and [`round`] makes and publishes rounds. [`rescan`] finds those who subscribe while a campaign runs, in the order of [`rescan_order`].
//! [`backlog`] is what they share. [`error_policy`] is the one place that says what follows from an [`error`], [`context`] what all lanes of an
//! instance share. `close_out` counts who was not told of campaigns that are over. `output_topics` knows the topics that are written to by their ids.
//! `locks` deals with what others have locked. [`left_out`] is what rounds leave out: campaigns because of such a lock ([`locked_out`]), and
//! restaurants whose pages do not come in time ([`overdue`]).

pub mod backlog;
mod close_out;
pub mod context;
pub mod error;
pub mod error_policy;
pub mod intake;
pub mod left_out;
pub mod lifecycle;
pub mod locked_out;
mod locks;
mod output_topics;
pub mod overdue;
pub mod rescan;
pub mod rescan_order;
pub mod round;
pub mod takeover;
