//! Postgres: connections, the real audience and the real clock, and what `migrate` does.
//!
//! Everything here also works through a pooler in transaction mode: no session state, `SET LOCAL` only, and no prepared
//! statement that outlives its transaction. So [`connect::Connection`] offers no call that names a statement, but for
//! `copy_in` inside a transaction.

pub mod audience;
pub mod audience_size;
pub mod clock;
pub mod connect;
pub mod draft_row;
pub mod encryption;
pub mod errors;
pub mod headroom;
pub mod hooks;
pub mod ledger;
pub mod legible;
pub mod migrate;
pub mod missed_lock;
pub mod needs;
pub mod number;
pub mod predicate;
mod read_ahead;
pub mod replica;
pub mod sequence;
pub mod sql;
pub mod table_identity;
mod tls;
