//! What goes wrong in a simulated world: chances for each request, single requests that are held up, servers that are away.

use dinnerbell_core::model::number::Lane;
use std::collections::BTreeSet;
use std::time::Duration;

/// A server, as far as it can fail by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// The feedback database.
    Feedback,
    /// Kafka.
    Kafka,
    /// The subscribers database.
    Subscribers,
}

/// What harm comes: chances are in a thousand, for each request.
#[derive(Debug, Clone, Default)]
pub struct Harm {
    /// Most milliseconds on each way.
    pub latency: u64,
    /// A request does not arrive.
    pub unsent: u64,
    /// The reply does not arrive.
    pub unanswered: u64,
    /// A request takes seconds.
    pub stalls: u64,
    /// Something that is given up half-way is left as it is, until somebody ends it.
    pub left_open: u64,
    /// A producer's connection breaks while it ends a transaction, or sends its offset: the request is sent again, and arrives twice.
    pub sent_twice: u64,
    /// The database fails over right after a lane was taken, and that is lost.
    pub lost_bumps: u64,
    /// Most bytes of a publication that get through before its transaction is over.
    pub link: Option<usize>,
    /// Partitions of the campaigns topic without a leader: they cannot be read.
    pub leaderless: BTreeSet<Lane>,
    /// Servers that answer nothing.
    pub away: BTreeSet<Server>,
    /// Servers that refuse everything, and call it permanent.
    pub refuses: BTreeSet<Server>,
}

/// One request that takes its time on its way: the first of its name that the instance sends from a moment on.
#[derive(Debug, Clone)]
pub struct Hold {
    /// The instance whose requests are held up.
    pub instance: usize,
    /// The function of a trait.
    pub request: &'static str,
    /// Since the world began.
    pub from: Duration,
    /// How much longer it is on its way.
    pub time: Duration,
    /// Whether it does not arrive at all.
    pub is_lost: bool,
}
