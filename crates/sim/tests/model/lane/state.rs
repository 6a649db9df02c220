//! What a state of the lane's model holds: the ledger, Kafka, and two instances.

use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::Seq;

pub(super) const PAGES: u8 = 2;

pub(super) const CLIENTS: u8 = 0b011;

pub(super) const DEAD_LETTER: u8 = 0b100;

/// A round's name in one byte: seq, revision, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Head {
    pub(super) seq: u8,
    pub(super) rev: u8,
    pub(super) content: u8,
}

/// Round 0: offsets only.
pub(super) const FIRST: Head = Head { seq: 0, rev: 0, content: 0 };

impl Head {
    pub(super) fn clients(self) -> u8 {
        self.content & CLIENTS
    }

    pub(super) fn real(self) -> RoundVersion {
        RoundVersion { seq: Seq::new(self.seq.into()), revision: self.rev.into(), checksum: self.content.into() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Window {
    Open,
    Over,
    PutOff,
}

/// Postgres: the lane's row, the rounds, the feedback table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ledger {
    pub(super) head: Head,
    pub(super) previous: Option<Head>,
    pub(super) published: Option<u8>,
    pub(super) rows: u8,
    pub(super) cursor: u8,
    pub(super) position: u8,
    pub(super) dead_letter_in_round: bool,
    pub(super) window: Window,
    /// The last commit was an acquisition: a fail-over may lose it.
    pub(super) acquired_last: bool,
    pub(super) failed_over: bool,
}

/// A Kafka transaction that is not ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Txn {
    pub(super) head: Head,
    pub(super) mark_only: bool,
    /// The offsets sent with it: its own, or those of an earlier transaction that came later.
    pub(super) offsets: Option<Head>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Kafka {
    pub(super) mark: Option<Head>,
    pub(super) out: u8,
    pub(super) txn: Option<Txn>,
    /// An end of transaction of the newest producer is still on its way.
    pub(super) late: bool,
    /// So are the offsets of one of its transactions, whose request was sent twice.
    pub(super) late_offsets: Option<Head>,
    pub(super) expired: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum At {
    Down,
    Acquire,
    Init,
    Check,
    Read,
    Suspect,
    Behind,
    Run,
    Halted,
}

/// How an owner's epoch stands to the lane's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Epoch {
    /// A fail-over lost the acquisition: the next one makes this the lane's again.
    Ahead,
    Current,
    /// One behind: a fail-over that loses the acquisition makes this the lane's again.
    Before,
    Stale,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Maker {
    None,
    Live,
    Fenced,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Publishing {
    Idle,
    Begin,
    Produced,
    Offsets,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Instance {
    pub(super) at: At,
    pub(super) epoch: Epoch,
    pub(super) same_server: bool,
    pub(super) producer: Maker,
    pub(super) head: Head,
    pub(super) previous: Option<Head>,
    pub(super) published: Option<u8>,
    pub(super) cursor: u8,
    pub(super) read: u8,
    pub(super) publishing: Publishing,
    pub(super) mark_only: bool,
}

pub(super) const DOWN: Instance = Instance {
    at: At::Down,
    epoch: Epoch::Stale,
    same_server: false,
    producer: Maker::None,
    head: FIRST,
    previous: None,
    published: None,
    cursor: 0,
    read: 0,
    publishing: Publishing::Idle,
    mark_only: false,
};

/// A round's transaction in Postgres: it holds the lane's lock, and its rows block another's COPY of the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Copying {
    pub(super) epoch: Epoch,
    pub(super) expects: u8,
    pub(super) content: u8,
    pub(super) cursor: u8,
    /// Its end is sent: the server will see it at some time.
    pub(super) sent: bool,
    /// Its instance went on without it.
    pub(super) orphan: bool,
}

/// The whole world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub(super) ledger: Ledger,
    pub(super) kafka: Kafka,
    pub(super) instances: [Instance; 2],
    pub(super) copying: [Option<Copying>; 2],
    pub(super) told_twice: bool,
    pub(super) taken_wrongly: bool,
    pub(super) begun_late: bool,
}

pub(super) fn dead_letter_out(s: &State) -> bool {
    s.kafka.out & DEAD_LETTER != 0
}

impl State {
    /// Fences the newest producer, and aborts what it left open.
    pub(super) fn fence(&mut self) {
        self.kafka.txn = None;
        self.kafka.late = false;
        self.kafka.late_offsets = None;
        for me in &mut self.instances {
            if me.producer == Maker::Live {
                me.producer = Maker::Fenced;
            }
        }
    }
}

/// The page that tells these clients: one bit, one page.
pub(super) fn page_of(clients: u8) -> u8 {
    u8::try_from(clients.trailing_zeros()).expect("a byte has eight bits")
}
