//! What talks to Postgres, against a real PostgreSQL and a real pgbouncer.

#[path = "../support/mod.rs"]
mod support;

mod audience;
mod clock;
mod connect;
mod migrate;
mod place;
mod pooler;
