//! What all clients of foreign servers share.
//!
//! - [`dial`]: from a name to a connection: which of its addresses is taken. [`hedge`]: one that is silent holds up no other.
//! - [`foreign`]: what of a foreign text or address may be printed.

pub mod dial;
pub mod foreign;
pub mod hedge;
