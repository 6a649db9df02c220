//! Model (a): one lane, two instances, both of which may believe at any moment that the lane is theirs.
//!
//! The input is one batch: a campaign (two pages of one client each) and a record that is a dead letter. That makes the offsets-only round 0,
//! two more, and a third where one was withdrawn and the end put off; round n+1 is copied while round n is published.
//!
//! A frozen owner is one that takes no step, and a thawed one takes its next, whatever happened meanwhile. So a good run is one of A's steps
//! alone: B may be frozen for good, holding whatever it holds. (What holds for A holds for B: the model does not tell them apart.)
//!
//! Owners are known by how their epoch stands to the lane's, not by its number, so that the lane may change hands for ever; of producers it
//! matters only which one is the newest.

use dinnerbell_core::model::mark::{CommittedMark, CommittedOffset, RoundVersion};
use dinnerbell_core::model::number::Seq;
use dinnerbell_core::model::reconcile::{LedgerSide, Reconciled, reconcile};
use stateright::{Model, Property};
use uuid::Uuid;

use crate::check::{CAN_COMPLETE, Protocol, Without};

const PAGES: u8 = 2;
const CLIENTS: u8 = 0b011;
const DEAD_LETTER: u8 = 0b100;

const TWICE: &str = "nobody is told twice";
const ROW_FIRST: &str = "a message has its row";
const NO_FALSE_HALT: &str = "no lane halts while nothing contradicts the ledger";
const EQUAL_AT_REST: &str = "at rest both sinks are equal";
const TAKEN_ONCE: &str = "each input record is taken in once";
const IN_TIME: &str = "no publication is begun after the end";

/// What keeps the promises; each can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The next epoch is acquired before the producer is initialised.
    EpochBeforeInit,
    /// The epoch is read again after the producer is initialised.
    EpochAfterInit,
    /// The epoch is read again before the lane halts.
    EpochBeforeHalt,
    /// Readings of the epoch, and transactions that begin, compare `pg_postmaster_start_time()` too.
    Postmaster,
    /// A round holds the lane's advisory lock, for which an acquisition waits.
    Lock,
    /// An acquisition ends the transactions that hold the lock.
    HoldersEnded,
    /// A round reads the epoch when it begins.
    EpochAtBegin,
    /// A round compares the epoch when it is sealed.
    EpochAtSeal,
    /// A round compares the seq when it is sealed.
    SeqAtSeal,
    /// A round reads the ends once more when it is sealed.
    EndsAtSeal,
    /// A round is sealed only when the one before is committed in Kafka.
    Gate,
    /// A withdrawal compares the epoch.
    EpochAtWithdrawal,
    /// A withdrawal waits until Kafka's seq was read as one behind.
    WithdrawalAfterReading,
    /// An intake compares the epoch.
    EpochAtIntake,
    /// An intake compares the position.
    PositionAtIntake,
    /// What is published after entering is what the acquisition read.
    ReadBack,
    /// A producer in doubt is thrown away.
    FreshProducer,
    /// Committed metadata is read only when no transaction on it is open.
    StableOffsets,
    /// The ends are read before a Kafka transaction is begun.
    EndsBeforePublication,
    /// A producer whose connection broke during a transaction begins no further one, though it was committed.
    ProducerUsedUp,
}

/// Every guard, and what follows when it alone is taken out.
pub const GUARDS: &[(Guard, Without)] = &[
    (Guard::EpochBeforeInit, Without::Breaks(ROW_FIRST)),
    (Guard::EpochAfterInit, Without::Breaks(ROW_FIRST)),
    (Guard::EpochBeforeHalt, Without::Breaks(NO_FALSE_HALT)),
    (Guard::Postmaster, Without::Breaks(NO_FALSE_HALT)),
    (Guard::Lock, Without::Breaks(CAN_COMPLETE)),
    (Guard::HoldersEnded, Without::Breaks(CAN_COMPLETE)),
    (Guard::EpochAtBegin, Without::Breaks(NO_FALSE_HALT)),
    (
        Guard::EpochAtSeal,
        Without::Holds(
            "the lock keeps every acquisition away between the reading of the epoch and the end of the transaction",
        ),
    ),
    (Guard::SeqAtSeal, Without::Holds("the epoch tells owners apart, and one owner seals one round at a time")),
    (
        Guard::EndsAtSeal,
        Without::Holds(
            "the ends are read again before publication, and the withdrawal takes the drafts back: it spares that",
        ),
    ),
    (Guard::Gate, Without::Breaks(NO_FALSE_HALT)),
    (Guard::EpochAtWithdrawal, Without::Breaks(ROW_FIRST)),
    (Guard::WithdrawalAfterReading, Without::Breaks(ROW_FIRST)),
    (
        Guard::EpochAtIntake,
        Without::Holds("the position is compared: a former owner takes in the next record, or none"),
    ),
    (Guard::PositionAtIntake, Without::Breaks(TAKEN_ONCE)),
    (Guard::ReadBack, Without::Breaks(NO_FALSE_HALT)),
    (Guard::FreshProducer, Without::Breaks(ROW_FIRST)),
    (
        Guard::StableOffsets,
        Without::Holds(
            "the init ended what was open, and whoever began since has acquired the next epoch, which is read after the init",
        ),
    ),
    (Guard::EndsBeforePublication, Without::Breaks(IN_TIME)),
    (Guard::ProducerUsedUp, Without::Breaks(ROW_FIRST)),
];

/// The model.
#[derive(Clone, Copy)]
pub struct LaneModel {
    /// The guards taken out, a bit for each.
    without: u32,
    /// Without fail-overs, offsets that expire, and ends put off: enough for most counterexamples, and small.
    calm: bool,
}

/// A round's name in one byte: seq, revision, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Head {
    seq: u8,
    rev: u8,
    content: u8,
}

/// Round 0: offsets only.
const FIRST: Head = Head { seq: 0, rev: 0, content: 0 };

impl Head {
    fn clients(self) -> u8 {
        self.content & CLIENTS
    }

    fn real(self) -> RoundVersion {
        RoundVersion { seq: Seq::new(self.seq.into()), revision: self.rev.into(), checksum: self.content.into() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Window {
    Open,
    Over,
    PutOff,
}

/// Postgres: the lane's row, the rounds, the feedback table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Ledger {
    head: Head,
    previous: Option<Head>,
    published: Option<u8>,
    rows: u8,
    cursor: u8,
    position: u8,
    dead_letter_in_round: bool,
    window: Window,
    /// The last commit was an acquisition: a fail-over may lose it.
    acquired_last: bool,
    failed_over: bool,
}

/// A Kafka transaction that is not ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Txn {
    head: Head,
    mark_only: bool,
    /// The offsets sent with it: its own, or those of an earlier transaction that came later.
    offsets: Option<Head>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Kafka {
    mark: Option<Head>,
    out: u8,
    txn: Option<Txn>,
    /// An end of transaction of the newest producer is still on its way.
    late: bool,
    /// So are the offsets of one of its transactions, whose request was sent twice.
    late_offsets: Option<Head>,
    expired: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
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
enum Epoch {
    /// A fail-over lost the acquisition: the next one makes this the lane's again.
    Ahead,
    Current,
    /// One behind: a fail-over that loses the acquisition makes this the lane's again.
    Before,
    Stale,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Maker {
    None,
    Live,
    Fenced,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Publishing {
    Idle,
    Begin,
    Produced,
    Offsets,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Instance {
    at: At,
    epoch: Epoch,
    same_server: bool,
    producer: Maker,
    head: Head,
    previous: Option<Head>,
    published: Option<u8>,
    cursor: u8,
    read: u8,
    publishing: Publishing,
    mark_only: bool,
}

const DOWN: Instance = Instance {
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
struct Copying {
    epoch: Epoch,
    expects: u8,
    content: u8,
    cursor: u8,
    /// Its end is sent: the server will see it at some time.
    sent: bool,
    /// Its instance went on without it.
    orphan: bool,
}

/// The whole world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    ledger: Ledger,
    kafka: Kafka,
    instances: [Instance; 2],
    copying: [Option<Copying>; 2],
    told_twice: bool,
    taken_wrongly: bool,
    begun_late: bool,
}

/// What happens, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Enter,
    Acquire,
    Init,
    ReadEpoch,
    ReadMark,
    ReadEpochBeforeHalt,
    Withdraw,
    WithdrawReplyLost,
    TakeUpRound,
    TakeIn,
    TakeInReplyLost,
    Copy,
    GiveUpGate,
    SendSeal,
    Produce,
    SendOffsets,
    Commit,
    CommitReplyLost,
    CommitDelayed,
    /// A connection breaks: the end of the transaction is sent again, and its second copy is still on its way.
    CommitSentTwice,
    /// The same with its offsets, which the broker has taken by then.
    OffsetsSentTwice,
    NotePublished,
    /// The server sees the seal of the instance's transaction.
    SealArrives,
    SealArrivesReplyLost,
    /// The server notices that the connection is dead.
    OrphanEnds,
    Doubt,
    /// The group gives the lane to an instance whose ownership is gone.
    Assigned,
    Crash,
    /// Kafka hands out a record again.
    Redeliver,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A step of one instance or its connection.
    Of(usize, Step),
    /// The end passes.
    End,
    /// An update extends the end.
    PutOff,
    /// A delayed end of transaction arrives.
    LateEnd,
    /// Delayed offsets arrive.
    LateOffsets,
    /// The coordinator aborts a transaction that takes too long.
    TxnTimeout,
    /// The database fails over and loses the last acquisition.
    FailOver,
    /// The group's committed offsets expire while nobody runs.
    Expire,
}

/// What an instance may do where it stands.
fn steps_at(at: At) -> &'static [Step] {
    match at {
        At::Down => &[Step::Enter],
        At::Acquire => &[Step::Acquire],
        At::Init => &[Step::Init],
        At::Check => &[Step::ReadEpoch],
        At::Read => &[Step::ReadMark, Step::Withdraw],
        At::Suspect => &[Step::ReadEpochBeforeHalt],
        At::Behind => &[Step::Withdraw, Step::WithdrawReplyLost, Step::TakeUpRound],
        At::Run => &[
            Step::TakeIn,
            Step::TakeInReplyLost,
            Step::Redeliver,
            Step::Copy,
            Step::GiveUpGate,
            Step::SendSeal,
            Step::Produce,
            Step::SendOffsets,
            Step::Commit,
            Step::CommitReplyLost,
            Step::CommitDelayed,
            Step::CommitSentTwice,
            Step::OffsetsSentTwice,
            Step::NotePublished,
        ],
        At::Halted => &[],
    }
}

impl Model for LaneModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let ledger = Ledger {
            head: FIRST,
            previous: None,
            published: None,
            rows: 0,
            cursor: 0,
            position: 0,
            dead_letter_in_round: false,
            window: Window::Open,
            acquired_last: false,
            failed_over: self.calm,
        };
        vec![State {
            ledger,
            kafka: Kafka { mark: None, out: 0, txn: None, late: false, late_offsets: None, expired: self.calm },
            instances: [DOWN; 2],
            copying: [None; 2],
            told_twice: false,
            taken_wrongly: false,
            begun_late: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (who, me) in state.instances.iter().enumerate() {
            actions.extend(steps_at(me.at).iter().map(|&step| Action::Of(who, step)));
            if me.at != At::Down {
                actions.extend([Step::Crash, Step::Doubt, Step::Assigned].map(|step| Action::Of(who, step)));
            }
            if state.copying[who].is_some() {
                let steps = [Step::SealArrives, Step::SealArrivesReplyLost, Step::OrphanEnds];
                actions.extend(steps.map(|step| Action::Of(who, step)));
            }
        }
        actions.extend([
            Action::End,
            Action::PutOff,
            Action::LateEnd,
            Action::LateOffsets,
            Action::TxnTimeout,
            Action::FailOver,
            Action::Expire,
        ]);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut after = *state;
        let happens = match action {
            Action::Of(who, step) => self.step(&mut after, who, step),
            Action::PutOff if self.calm => false,
            _ => outside(&mut after, action),
        };
        (happens && after != *state).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TWICE, |_, s: &State| !s.told_twice),
            Property::always(ROW_FIRST, |_, s: &State| s.kafka.out & CLIENTS & !s.ledger.rows == 0),
            Property::always(NO_FALSE_HALT, |_, s: &State| s.instances.iter().all(|me| me.at != At::Halted)),
            Property::always(EQUAL_AT_REST, |_, s: &State| {
                let at_rest = s.kafka.mark == Some(s.ledger.head) && s.kafka.txn.is_none();
                !at_rest
                    || (s.ledger.rows == s.kafka.out & CLIENTS && s.ledger.dead_letter_in_round == dead_letter_out(s))
            }),
            Property::always(TAKEN_ONCE, |_, s: &State| !s.taken_wrongly),
            Property::always(IN_TIME, |_, s: &State| !s.begun_late),
            Property::sometimes("a third round is published", |_, s: &State| s.kafka.mark.is_some_and(|m| m.seq == 3)),
            Property::sometimes("a withdrawn round is published", |_, s: &State| {
                s.kafka.mark.is_some_and(|m| m.rev == 1)
            }),
            Property::sometimes("offsets that expired are restored", |_, s: &State| {
                s.kafka.txn.is_some_and(|txn| txn.mark_only && txn.offsets.is_some())
            }),
            Property::sometimes("a lost acquisition gives a former owner its epoch back", |_, s: &State| {
                s.instances.iter().any(|me| me.at == At::Run && me.epoch == Epoch::Current && !me.same_server)
            }),
            Property::sometimes("two instances run at once", |_, s: &State| {
                s.instances.iter().all(|me| me.at == At::Run)
            }),
            Property::sometimes("a seal is on its way that nobody waits for", |_, s: &State| {
                s.copying.iter().flatten().any(|tx| tx.orphan && tx.sent)
            }),
            Property::sometimes("a contradiction is found by an instance that owns nothing", |_, s: &State| {
                s.instances.iter().any(|me| me.at == At::Suspect)
            }),
        ]
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Of(who, step) => format!("{} {step:?}", ["A", "B"][*who]),
            outside => format!("{outside:?}"),
        }
    }
}

impl Protocol for LaneModel {
    fn is_good(&self, action: &Action) -> bool {
        match action {
            Action::Of(_, Step::SealArrives) => true,
            Action::Of(who, step) => {
                *who == 0
                    && !matches!(
                        step,
                        Step::WithdrawReplyLost
                            | Step::TakeInReplyLost
                            | Step::CommitReplyLost
                            | Step::CommitDelayed
                            | Step::CommitSentTwice
                            | Step::OffsetsSentTwice
                            | Step::SealArrivesReplyLost
                            | Step::OrphanEnds
                            | Step::Doubt
                            | Step::Crash
                            | Step::Redeliver
                    )
            }
            _ => false,
        }
    }

    fn is_done(&self, s: &State) -> bool {
        let told = s.ledger.window == Window::Over || s.kafka.out & CLIENTS == CLIENTS;
        let rest = s.kafka.mark == Some(s.ledger.head) && s.kafka.txn.is_none();
        told && rest && dead_letter_out(s) && s.ledger.position == 1
    }
}

fn dead_letter_out(s: &State) -> bool {
    s.kafka.out & DEAD_LETTER != 0
}

/// What no instance does.
fn outside(s: &mut State, action: Action) -> bool {
    match action {
        Action::End if s.ledger.window == Window::Open => s.ledger.window = Window::Over,
        Action::PutOff if s.ledger.window == Window::Over => s.ledger.window = Window::PutOff,
        Action::LateEnd if s.kafka.late => {
            s.kafka.late = false;
            commit(s);
        }
        Action::LateOffsets if s.kafka.late_offsets.is_some() => {
            // Of a producer that has no transaction open, or has sent nothing in it, the broker takes none.
            let late = s.kafka.late_offsets.take();
            if let Some(txn) = s.kafka.txn.as_mut().filter(|txn| txn.offsets.is_some()) {
                txn.offsets = late;
            }
        }
        Action::TxnTimeout if s.kafka.txn.is_some() => {
            s.fence();
        }
        Action::FailOver if s.ledger.acquired_last && !s.ledger.failed_over => fail_over(s),
        Action::Expire => {
            let idle = s.instances.iter().all(|me| me.at == At::Down) && s.copying.iter().all(Option::is_none);
            let known = s.ledger.published == Some(s.ledger.head.seq);
            if s.kafka.expired || !idle || !known || s.kafka.mark.is_none() {
                return false;
            }
            s.kafka.mark = None;
            s.kafka.expired = true;
        }
        _ => return false,
    }
    true
}

/// The standby that takes over lacks the last commit, an acquisition; every connection ends.
fn fail_over(s: &mut State) {
    s.ledger.failed_over = true;
    s.ledger.acquired_last = false;
    s.copying = [None; 2];
    for me in &mut s.instances {
        me.same_server = false;
        me.epoch = match me.epoch {
            Epoch::Current => Epoch::Ahead,
            Epoch::Before => Epoch::Current,
            Epoch::Ahead | Epoch::Stale => Epoch::Stale,
        };
    }
}

/// What is in the open transaction becomes visible.
fn commit(s: &mut State) {
    if let Some(txn) = s.kafka.txn.take() {
        let content = if txn.mark_only { 0 } else { txn.head.content };
        s.told_twice |= s.kafka.out & content != 0;
        s.kafka.out |= content;
        if txn.offsets.is_some() {
            s.kafka.mark = txn.offsets;
        }
    }
}

impl State {
    /// Fences the newest producer, and aborts what it left open.
    fn fence(&mut self) {
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

impl LaneModel {
    /// The model less some guards.
    pub fn new(without: &[Guard], calm: bool) -> Self {
        Self { without: without.iter().fold(0, |bits, &guard| bits | 1 << guard as u32), calm }
    }

    fn on(&self, guard: Guard) -> bool {
        self.without & (1 << guard as u32) == 0
    }

    fn mine(&self, me: &Instance) -> bool {
        me.epoch == Epoch::Current && (me.same_server || !self.on(Guard::Postmaster))
    }

    /// Takes the lane over again: nothing in memory survives, and an open transaction is left to the server.
    fn start_again(&self, s: &mut State, who: usize) -> bool {
        let me = &mut s.instances[who];
        let producer = if self.on(Guard::FreshProducer) { Maker::None } else { me.producer };
        let at = if self.on(Guard::EpochBeforeInit) { At::Acquire } else { At::Init };
        let head = if self.on(Guard::ReadBack) { FIRST } else { me.head };
        *me = Instance { at, producer, head, ..DOWN };
        leave(s, who);
        true
    }

    /// As [`Self::start_again`], after an error that says that the producer is of no use.
    fn start_again_fenced(&self, s: &mut State, who: usize) -> bool {
        s.instances[who].producer = Maker::None;
        self.start_again(s, who)
    }

    fn step(&self, s: &mut State, who: usize, step: Step) -> bool {
        let me = s.instances[who];
        match step {
            Step::SealArrives | Step::SealArrivesReplyLost => return self.seal(s, who, step == Step::SealArrives),
            Step::OrphanEnds => {
                let ends = s.copying[who].is_some_and(|tx| tx.orphan);
                s.copying[who] = s.copying[who].filter(|tx| !tx.orphan);
                return ends;
            }
            _ => {}
        }
        match (step, me.at) {
            (Step::Enter, At::Down) => self.start_again(s, who),
            (_, At::Down) => false,
            (Step::Crash, _) => {
                s.instances[who] = DOWN;
                leave(s, who);
                true
            }
            (Step::Doubt | Step::Assigned, at) => {
                let owner = me.epoch == Epoch::Current && me.same_server;
                at != At::Acquire && owner == (step == Step::Doubt) && self.start_again(s, who)
            }
            (_, At::Run) => self.run(s, who, step),
            _ => self.way_in(s, who, step),
        }
    }

    fn way_in(&self, s: &mut State, who: usize, step: Step) -> bool {
        let me = s.instances[who];
        let acquire_first = self.on(Guard::EpochBeforeInit);
        match (step, me.at) {
            (Step::Acquire, At::Acquire) => self.acquire(s, who, if acquire_first { At::Init } else { At::Check }),
            (Step::Init, At::Init) => {
                if me.producer == Maker::None {
                    s.fence();
                    s.instances[who].producer = Maker::Live;
                } else if me.producer == Maker::Live {
                    s.kafka.txn = None;
                }
                s.instances[who].at = if acquire_first { At::Check } else { At::Acquire };
                true
            }
            (Step::ReadEpoch, At::Check) => {
                if self.on(Guard::EpochAfterInit) && !self.mine(&me) {
                    return self.start_again(s, who);
                }
                s.instances[who].at = At::Read;
                true
            }
            (Step::ReadMark, At::Read) => {
                // A read that waits in vain for another's transaction ends in an error, and that in entering again.
                let open = s.kafka.txn.is_some_and(|txn| txn.offsets.is_some());
                if open && self.on(Guard::StableOffsets) { self.start_again(s, who) } else { Self::read_mark(s, who) }
            }
            (Step::ReadEpochBeforeHalt, At::Suspect) => {
                if self.on(Guard::EpochBeforeHalt) && !self.mine(&me) {
                    return self.start_again(s, who);
                }
                s.instances[who].at = At::Halted;
                true
            }
            (Step::Withdraw | Step::WithdrawReplyLost, At::Behind) => self.withdraw(s, who, step == Step::Withdraw),
            (Step::Withdraw, At::Read) => !self.on(Guard::WithdrawalAfterReading) && self.withdraw(s, who, true),
            (Step::TakeUpRound, At::Behind) if s.ledger.window != Window::Over || me.head.clients() == 0 => {
                s.instances[who].publishing = Publishing::Begin;
                s.instances[who].at = At::Run;
                true
            }
            _ => false,
        }
    }

    fn acquire(&self, s: &mut State, who: usize, then: At) -> bool {
        if !self.on(Guard::Lock) {
            // Nobody is waited for, and nobody known whose transaction could be ended.
        } else if self.on(Guard::HoldersEnded) {
            s.copying = [None; 2];
        } else if s.copying.iter().any(Option::is_some) {
            return false;
        }
        let may_fail_over = !s.ledger.failed_over;
        for me in &mut s.instances {
            me.epoch = match me.epoch {
                Epoch::Ahead => Epoch::Current,
                Epoch::Current if may_fail_over => Epoch::Before,
                _ => Epoch::Stale,
            };
        }
        for tx in s.copying.iter_mut().flatten() {
            tx.epoch = Epoch::Stale;
        }
        s.ledger.acquired_last = true;
        let remembered = Some(s.instances[who].head).filter(|head| !self.on(Guard::ReadBack) && *head != FIRST);
        s.instances[who] = Instance {
            at: then,
            epoch: Epoch::Current,
            same_server: true,
            head: remembered.unwrap_or(s.ledger.head),
            previous: s.ledger.previous,
            published: s.ledger.published,
            cursor: s.ledger.cursor,
            read: s.ledger.position,
            ..s.instances[who]
        };
        true
    }

    fn read_mark(s: &mut State, who: usize) -> bool {
        let me = &mut s.instances[who];
        let ledger = Uuid::nil();
        let ours = LedgerSide {
            ledger,
            head: me.head.real(),
            previous: me.previous.map(Head::real),
            published: me.published.map(|seq| Seq::new(seq.into())),
            compared: true,
        };
        let theirs = s
            .kafka
            .mark
            .map_or(CommittedOffset::None, |head| CommittedOffset::Mark(CommittedMark { ledger, head: head.real() }));
        (me.previous, me.published) = (None, None);
        match reconcile(&ours, &theirs) {
            Reconciled::Equal => me.at = At::Run,
            Reconciled::PublishRecorded => me.at = At::Behind,
            Reconciled::RestoreMark => {
                me.at = At::Run;
                me.publishing = Publishing::Begin;
                me.mark_only = true;
            }
            Reconciled::Contradiction(_) => me.at = At::Suspect,
        }
        true
    }

    fn withdraw(&self, s: &mut State, who: usize, replied: bool) -> bool {
        let me = s.instances[who];
        if s.ledger.window != Window::Over || me.head.clients() == 0 {
            return false;
        }
        let mine = self.mine(&me) || !self.on(Guard::EpochAtWithdrawal);
        if !mine || s.ledger.head.seq != me.head.seq {
            return replied && self.start_again(s, who);
        }
        let clients = me.head.clients();
        let left = Head { rev: me.head.rev + 1, content: me.head.content & !clients, ..me.head };
        s.ledger.head = left;
        s.ledger.rows &= !clients;
        s.ledger.cursor = page_of(clients);
        s.ledger.acquired_last = false;
        if !replied {
            return self.start_again(s, who);
        }
        let cursor = s.ledger.cursor;
        let (at, publishing) = (At::Run, Publishing::Begin);
        s.instances[who] = Instance { at, publishing, head: left, cursor, previous: None, published: None, ..me };
        true
    }

    fn run(&self, s: &mut State, who: usize, step: Step) -> bool {
        let me = s.instances[who];
        match step {
            Step::TakeIn | Step::TakeInReplyLost => self.take_in(s, who, step == Step::TakeIn),
            Step::Redeliver => {
                s.instances[who].read = me.read.saturating_sub(1);
                me.read > 0
            }
            Step::Copy => self.copy(s, who),
            Step::GiveUpGate | Step::SendSeal => {
                let Some(tx) = s.copying[who].filter(|tx| !tx.orphan && !tx.sent) else { return false };
                let passed = me.publishing == Publishing::Idle;
                if step == Step::GiveUpGate {
                    s.copying[who] = None;
                    return !passed;
                }
                s.copying[who] = Some(Copying { sent: true, ..tx });
                passed
            }
            Step::NotePublished => {
                let known = me.publishing == Publishing::Idle && self.mine(&me) && s.ledger.head == me.head;
                if known {
                    s.ledger.published = Some(me.head.seq);
                    s.ledger.acquired_last = false;
                }
                known
            }
            _ => self.publish(s, who, step),
        }
    }

    fn take_in(&self, s: &mut State, who: usize, replied: bool) -> bool {
        let me = s.instances[who];
        if me.read >= 1 {
            return false;
        }
        let mine = self.mine(&me) || !self.on(Guard::EpochAtIntake);
        if !mine || (self.on(Guard::PositionAtIntake) && s.ledger.position != me.read) {
            return replied && self.start_again(s, who);
        }
        s.taken_wrongly |= s.ledger.position != me.read;
        s.ledger.position = me.read + 1;
        s.ledger.acquired_last = false;
        s.instances[who].read = me.read + 1;
        replied || self.start_again(s, who)
    }

    /// Begins a round's transaction, plans it and copies its rows.
    fn copy(&self, s: &mut State, who: usize) -> bool {
        let me = s.instances[who];
        let due = s.ledger.position >= 1 && s.ledger.window != Window::Over && me.cursor < PAGES;
        let dead_letter = if s.ledger.position == 1 && !s.ledger.dead_letter_in_round { DEAD_LETTER } else { 0 };
        if s.copying[who].is_some() || (!due && dead_letter == 0) {
            return false;
        }
        if self.on(Guard::EpochAtBegin) && !self.mine(&me) {
            return self.start_again(s, who);
        }
        let page = if due { 1 << me.cursor & !s.ledger.rows } else { 0 };
        let blocked = s.copying[1 - who].is_some_and(|other| other.content & page != 0);
        if blocked {
            return self.start_again(s, who);
        }
        s.copying[who] = Some(Copying {
            epoch: me.epoch,
            expects: me.head.seq,
            content: page | dead_letter,
            cursor: me.cursor + u8::from(due),
            sent: false,
            orphan: false,
        });
        true
    }

    /// The server sees the end of a round's transaction.
    fn seal(&self, s: &mut State, who: usize, replied: bool) -> bool {
        let Some(tx) = s.copying[who].filter(|tx| tx.sent) else { return false };
        if tx.orphan && !replied {
            return false;
        }
        s.copying[who] = None;
        let mine = tx.epoch == Epoch::Current || !self.on(Guard::EpochAtSeal);
        let next = tx.expects == s.ledger.head.seq || !self.on(Guard::SeqAtSeal);
        let collides = s.ledger.rows & tx.content & CLIENTS != 0;
        if !mine || !next || collides {
            return replied && (tx.orphan || self.start_again(s, who));
        }
        if self.on(Guard::EndsAtSeal) && s.ledger.window == Window::Over && tx.content & CLIENTS != 0 {
            return replied;
        }
        let head = Head { seq: s.ledger.head.seq + 1, rev: 0, content: tx.content };
        s.ledger.previous = Some(s.ledger.head);
        s.ledger.published = Some(s.ledger.head.seq);
        s.ledger.head = head;
        s.ledger.rows |= tx.content & CLIENTS;
        s.ledger.cursor = tx.cursor;
        s.ledger.dead_letter_in_round |= tx.content & DEAD_LETTER != 0;
        s.ledger.acquired_last = false;
        if !tx.orphan {
            let me = &mut s.instances[who];
            *me = Instance { head, cursor: tx.cursor, publishing: Publishing::Begin, mark_only: false, ..*me };
            return replied || self.start_again(s, who);
        }
        true
    }

    fn publish(&self, s: &mut State, who: usize, step: Step) -> bool {
        let me = s.instances[who];
        let my_txn = s.kafka.txn.filter(|_| me.producer == Maker::Live);
        match (step, me.publishing) {
            (Step::Produce, Publishing::Begin) => {
                let late = s.ledger.window == Window::Over && me.head.clients() != 0 && !me.mark_only;
                if me.producer != Maker::Live {
                    return self.start_again_fenced(s, who);
                }
                if late && self.on(Guard::EndsBeforePublication) {
                    return self.start_again(s, who);
                }
                s.begun_late |= late;
                let idle = s.kafka.txn.is_none();
                s.kafka.txn = Some(Txn { head: me.head, mark_only: me.mark_only, offsets: None });
                s.instances[who].publishing = Publishing::Produced;
                idle
            }
            (Step::SendOffsets, Publishing::Produced) => {
                let Some(txn) = my_txn else { return self.start_again_fenced(s, who) };
                s.kafka.txn = Some(Txn { offsets: Some(me.head), ..txn });
                s.instances[who].publishing = Publishing::Offsets;
                true
            }
            (Step::Commit, Publishing::Offsets) if my_txn.is_none() => self.start_again_fenced(s, who),
            (Step::Commit | Step::CommitReplyLost, Publishing::Offsets) if my_txn.is_some() => {
                commit(s);
                s.instances[who].publishing = Publishing::Idle;
                s.instances[who].mark_only = false;
                step == Step::Commit || self.start_again(s, who)
            }
            (Step::CommitSentTwice | Step::OffsetsSentTwice, Publishing::Offsets) if my_txn.is_some() => {
                commit(s);
                match step {
                    Step::CommitSentTwice => s.kafka.late = true,
                    _ => s.kafka.late_offsets = Some(me.head),
                }
                s.instances[who].publishing = Publishing::Idle;
                s.instances[who].mark_only = false;
                !self.on(Guard::ProducerUsedUp) || self.start_again_fenced(s, who)
            }
            (Step::CommitDelayed, Publishing::Offsets) if my_txn.is_some() => {
                s.kafka.late = true;
                s.instances[who].publishing = Publishing::Idle;
                s.instances[who].mark_only = false;
                !self.on(Guard::Gate) || self.start_again(s, who)
            }
            _ => false,
        }
    }
}

/// The instance goes on without its transaction.
fn leave(s: &mut State, who: usize) {
    s.copying[who] = s.copying[who].map(|tx| Copying { orphan: true, ..tx });
}

/// The page that tells these clients: one bit, one page.
fn page_of(clients: u8) -> u8 {
    u8::try_from(clients.trailing_zeros()).expect("a byte has eight bits")
}
