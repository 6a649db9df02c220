//! The page in a real browser: Chromium, with nobody at its window, on a real service with real Kafka and PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test looks at real servers and processes, in real time, from threads of its own"
)]

#[path = "../client.rs"]
#[allow(dead_code, reason = "the tests without a browser use the rest")]
mod client;
mod keyboard;
mod live;
mod look;
mod orders;
mod pictures;
mod plain;
mod scene;
#[path = "../../support/mod.rs"]
mod support;
mod tab;
