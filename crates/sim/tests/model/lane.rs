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

mod guards;
mod outside;
mod state;
mod steps;

use stateright::{Model, Property};

use crate::check::Protocol;

pub use guards::{GUARDS, Guard};
use outside::outside;
pub use state::State;
use state::{At, CLIENTS, DOWN, Epoch, FIRST, Instance, Kafka, Ledger, Window, dead_letter_out};

const TWICE: &str = "nobody is told twice";
const ROW_FIRST: &str = "a message has its row";
const NO_FALSE_HALT: &str = "no lane halts while nothing contradicts the ledger";
const EQUAL_AT_REST: &str = "at rest both sinks are equal";
const TAKEN_ONCE: &str = "each input record is taken in once";
const IN_TIME: &str = "no publication is begun after the end";

/// The model.
#[derive(Clone, Copy)]
pub struct LaneModel {
    /// The guards taken out, a bit for each.
    without: u32,
    /// Without fail-overs, offsets that expire, and ends put off: enough for most counterexamples, and small.
    calm: bool,
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
}
