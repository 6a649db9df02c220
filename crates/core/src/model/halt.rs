//! A lane that stands still until an operator resolves it.

/// The command by which the ledger takes another feedback table.
pub const ADOPT: &str = "dinnerbell migrate --adopt-feedback-table";

/// A lane that stands still until an operator resolves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// The halt's name, for instance `kafka-ahead`.
    pub name: String,
    /// What was found.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

/// The halt of lanes whose drafts would go to another topic than before.
pub const NOTIFICATIONS_REPLACED: &str = "notifications-replaced";

impl Halt {
    /// Whether it says that the ledger lost commits.
    pub fn is_loss(&self) -> bool {
        LOSSES.contains(&self.name.as_str())
    }
}

/// Names of the halts that say that the ledger lost commits: what they told is known to Kafka alone until the lane is resolved.
pub const LOSSES: [&str; 3] = ["kafka-ahead", "other-content", "other-ledger"];
