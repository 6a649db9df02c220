//! A world for lanes that one seed decides. Kafka, the ledger, the subscribers and the time stand behind the service's own traits. They keep the
//! contract of the real ones, and have all their faults. Only with the cargo feature `fail-points`; `crates/sim/tests/simulation` lives random lives
//! in it.
//!
//! - [`world`]: what is shared: the time, what harm comes, what was found broken;
//! - [`server`]: a request on its way there and back, which may be lost, or arrive though nobody waits for it any more;
//! - [`database`]: the tables of the feedback database, and what each transaction of the ledger does to them; [`intake`] is its intake, `resolving`
//!   what an operator mends, [`upkeep`] adoption and retention;
//! - [`ledger`]: the ledger in front of it, with transactions, locks, and the ends of them;
//! - [`broker`]: Kafka: the campaigns topic, producers that fence, transactions that end late, offsets;
//! - [`audience`]: the subscribers, as a replica shows them that may lag;
//! - [`clock`]: the time;
//! - [`random`]: the numbers that follow from the seed.

pub mod audience;
pub mod broker;
pub mod clock;
pub mod database;
pub mod faults;
pub mod intake;
pub mod kafka;
pub mod ledger;
mod locking;
pub mod random;
mod resolving;
pub mod server;
pub mod subscribers;
pub mod tables;
pub mod upkeep;
pub mod world;
