//! What `dinnerbell lane resolve --from-kafka` decides, purely: which drafts of the output topic are to become rows of the ledger.

pub mod decide;
pub mod found;
