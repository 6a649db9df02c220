//! What the ledger prunes.

/// What is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prunable {
    /// Rounds and their parts.
    Rounds,
    /// Changes that were applied.
    Changes,
    /// Dead letters.
    DeadLetters,
    /// Campaigns past their end.
    Campaigns,
    /// Cancellations of campaigns that never came.
    Tombstones,
    /// Orders that were kept.
    Audit,
}

impl Prunable {
    /// All of them. Rounds go before the campaigns that they name.
    pub const ALL: [Self; 6] =
        [Self::Rounds, Self::Changes, Self::DeadLetters, Self::Campaigns, Self::Tombstones, Self::Audit];

    /// One word, for labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rounds => "rounds",
            Self::Changes => "changes",
            Self::DeadLetters => "dead_letters",
            Self::Campaigns => "campaigns",
            Self::Tombstones => "tombstones",
            Self::Audit => "audit",
        }
    }
}
