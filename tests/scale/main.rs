//! What must not grow: the cost of doing nothing, and the cost of beginning. `make prove` runs them; they print what they measured.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod idle;
