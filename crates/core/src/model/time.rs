//! Times as this service counts them.

/// Seconds since the epoch, UTC.
pub type EpochSeconds = i64;

/// Microseconds since the epoch, UTC.
pub type EpochMicros = i64;
