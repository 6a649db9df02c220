//! What talks to Postgres, against a real PostgreSQL and a real pgbouncer.

mod audience;
mod clock;
mod connect;
mod headroom;
mod locks;
mod migrate;
pub mod place;
mod pooler;
mod prune;
mod unusable;
