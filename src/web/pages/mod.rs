//! The pages. Each reads plain data from the ledger by the functions of [`crate::operator`], as the commands do, and fills a template with it.

pub mod audit;
pub mod campaign;
pub mod campaigns;
pub mod check;
pub mod client;
pub mod dead_letters;
pub mod lanes;
pub mod now;
pub mod orders;
pub mod preview;
