//! Orders as they are kept: who gave one, from where, what it was and on what.

use crate::model::number::Lane;
use std::fmt;

/// Most bytes of a name, of a host and of an id.
const LONGEST_NAME: usize = 256;
/// Most bytes of what else is told.
const LONGEST_DETAILS: usize = 1_000;
/// Most dead letters that are named.
const NAMED: usize = 20;

/// Who orders, and from where. As text it is what the ledger keeps beside what was ordered: `ivan, lane resolve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orderer {
    /// The account, or the name given at the sign-in.
    pub who: String,
    /// The command, or where else it was ordered: `lane resolve`, `page`, `api`.
    pub by: String,
    /// From where.
    pub origin: Origin,
    /// The machine that took the order.
    pub host: String,
}

impl fmt::Display for Orderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.who, self.by)
    }
}

/// From where an order came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A command.
    CommandLine,
    /// The page.
    Page,
    /// `/api/v1`.
    Api,
}

impl Origin {
    /// As it is kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "command line",
            Self::Page => "page",
            Self::Api => "api",
        }
    }
}

/// What was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// All sending was paused.
    Paused,
    /// Sending was resumed.
    Resumed,
    /// A campaign was cancelled.
    Cancelled,
    /// A lane was resolved.
    Resolved,
    /// A lane adopted another one, or the ledger a feedback table.
    Adopted,
    /// Dead letters were sent once more.
    Replayed,
    /// Clients were told once more.
    Republished,
    /// Both sinks were compared.
    Verified,
    /// Somebody signed in.
    SignedIn,
    /// An order, or somebody, was refused.
    Refused,
}

impl Action {
    /// As it is kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Cancelled => "cancelled",
            Self::Resolved => "resolved",
            Self::Adopted => "adopted",
            Self::Replayed => "replayed",
            Self::Republished => "republished",
            Self::Verified => "verified",
            Self::SignedIn => "signed_in",
            Self::Refused => "refused",
        }
    }
}

/// On what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The whole service: all sending, a sign-in.
    Service,
    /// This campaign.
    Campaign(&'a str),
    /// This lane.
    Lane(Lane),
    /// All lanes.
    Lanes,
    /// These dead letters.
    DeadLetters(&'a [i64]),
    /// This feedback table.
    FeedbackTable(&'a str),
}

impl Subject<'_> {
    /// Its kind, as it is kept.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Campaign(_) => "campaign",
            Self::Lane(_) => "lane",
            Self::Lanes => "lanes",
            Self::DeadLetters(_) => "dead_letters",
            Self::FeedbackTable(_) => "feedback_table",
        }
    }

    /// Which one; of many dead letters the first ones are named.
    pub fn id(self) -> Option<String> {
        match self {
            Self::Service | Self::Lanes => None,
            Self::Campaign(id) => Some(shortened(id, LONGEST_NAME)),
            Self::Lane(lane) => Some(lane.to_string()),
            Self::FeedbackTable(name) => Some(shortened(name, LONGEST_NAME)),
            Self::DeadLetters(ids) => {
                let named: Vec<String> = ids.iter().take(NAMED).map(i64::to_string).collect();
                let more = ids.len().saturating_sub(NAMED);
                let and = if more > 0 { format!(" and {more} more") } else { String::new() };
                Some(format!("{}{and}", named.join(" ")))
            }
        }
    }
}

/// An order as it is kept. It names no client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Who gave it.
    pub who: String,
    /// What was ordered.
    pub what: &'static str,
    /// The kind of what it is about.
    pub subject: &'static str,
    /// Which one.
    pub subject_id: Option<String>,
    /// What else is to be known.
    pub details: String,
    /// From where.
    pub origin: &'static str,
    /// The machine that took it.
    pub host: String,
}

impl Order {
    /// The order that somebody gives. Texts beyond their bounds are cut.
    pub fn new(by: &Orderer, action: Action, subject: Subject<'_>, details: &str) -> Self {
        Self {
            who: shortened(&by.who, LONGEST_NAME),
            what: action.name(),
            subject: subject.kind(),
            subject_id: subject.id(),
            details: shortened(details, LONGEST_DETAILS),
            origin: by.origin.name(),
            host: shortened(&by.host, LONGEST_NAME),
        }
    }
}

/// Text of at most `most` bytes, without the null character, which no database takes. Longer text ends with an ellipsis.
fn shortened(text: &str, most: usize) -> String {
    let text = text.replace('\0', "\u{fffd}");
    if text.len() <= most {
        return text;
    }
    let end = text.floor_char_boundary(most - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_order_is_bounded_whatever_its_texts() {
        let by =
            Orderer {
                who: "я".repeat(1_000), by: "pause".to_owned(), origin: Origin::Page, host: "h\0ost".to_owned()
            };
        let ids: Vec<i64> = (i64::MAX - 10_000..i64::MAX).collect();
        let order = Order::new(&by, Action::Replayed, Subject::DeadLetters(&ids), &"€".repeat(10_000));
        assert!(order.who.len() <= LONGEST_NAME && order.who.ends_with('…'), "{}", order.who);
        assert!(order.details.len() <= LONGEST_DETAILS && order.details.ends_with("€…"));
        assert!(order.subject_id.as_ref().is_some_and(|id| id.ends_with(" and 9980 more") && id.len() < 500));
        assert_eq!(order.host, "h\u{fffd}ost");
    }

    #[test]
    fn what_the_ledger_keeps_beside_an_order_says_who_and_how() {
        let by = Orderer {
            who: "ivan".to_owned(),
            by: "lane resolve".to_owned(),
            origin: Origin::CommandLine,
            host: "h".to_owned(),
        };
        assert_eq!(by.to_string(), "ivan, lane resolve");
        assert_eq!(Subject::DeadLetters(&[4, 7]).id().as_deref(), Some("4 7"));
    }
}
