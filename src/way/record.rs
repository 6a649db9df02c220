//! One Postgres transaction: feedback rows, cursors, the round itself.

use crate::broker::Publication;
use crate::ledger::RoundHead;

/// A round that is recorded: the frozen decision of who is told what. Only this module makes one, after the ledger's commit or from what
/// the ledger holds; publishing takes nothing else.
#[derive(Debug)]
pub struct Recorded {
    head: RoundHead,
    publication: Publication,
}

impl Recorded {
    /// The round's name.
    pub fn head(&self) -> RoundHead {
        self.head
    }

    /// What Kafka is to be told.
    pub fn publication(&self) -> &Publication {
        &self.publication
    }
}
