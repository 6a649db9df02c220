//! `dinnerbell lane ...`

pub mod list;
pub mod resolve;
