//! What operators ask and decide, beside the running service: everything here reads and writes the ledger as the service does, and
//! may be used while it runs.

pub mod campaigns;
pub mod found;
pub mod lanes;
pub mod resolve;
