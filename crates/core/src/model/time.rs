//! Times as this service counts them.

/// Microseconds since the epoch, UTC.
pub type EpochMicros = i64;
