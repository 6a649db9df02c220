//! What talks to Postgres, against a real PostgreSQL and a real pgbouncer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod audience;
mod clock;
mod connect;
mod headroom;
mod migrate;
mod place;
mod pooler;
mod prune;
