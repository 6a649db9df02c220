//! Model (d): two lanes of one ledger, whose database loses any tail of its commits: with Kafka's marks or without.
//!
//! The input is one campaign through lane 0, and a copy of it through lane 1: whichever takes it in first owns it, and tells its two clients in
//! two rounds. At any moment the database may be copied; later it fails over to that copy. Where nothing runs, the group's offsets may be gone as
//! well. Then lanes are compared, all is held, and an operator resolves those that halted, in any order, as `recovery::decide` decides.
//!
//! Each lane has one owner at a time: two of them are model (a)'s. What a former owner left is an open transaction in Kafka, whose end may be on
//! its way. It is in doubt only whether the two sides are brought together again, so a transaction of the ledger is an instant here.

mod steps;

use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::Seq;
use stateright::{Model, Property};

use crate::check::{CAN_COMPLETE, Protocol, Without};

const LANES: usize = 2;
const CLIENTS: u8 = 0b11;

const TWICE: &str = "nobody is told twice";
const EQUAL_AT_REST: &str = "at rest both sinks are equal";
const HALTS_BY_LOSS: &str = "no lane halts unless commits were lost";

/// What keeps the promises; each can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing is taken in before every lane was compared.
    HeldUntilCompared,
    /// A lane that has nothing to do notices that its server is another one.
    OwnershipAtPoll,
    /// The start of the server is compared with the epoch.
    Postmaster,
    /// A missing mark is written again only where the lane was compared on this server.
    ComparedBeforeRestore,
    /// The mark is read behind a new producer, which ends what a former one left open.
    FencedBeforeCompared,
    /// A lane notes its comparison only where the sides agree.
    AgreedBeforeNoted,
    /// An operator's resolution gives back the rows of which there are messages.
    RowsPutBack,
}

/// Each guard, and what follows without it.
pub const GUARDS: &[(Guard, Without)] = &[
    (Guard::HeldUntilCompared, Without::Breaks(TWICE)),
    (Guard::OwnershipAtPoll, Without::Breaks(CAN_COMPLETE)),
    (
        Guard::Postmaster,
        Without::Holds(
            "on another server a lane is taken over again before it takes anything in, because it was not compared there",
        ),
    ),
    (Guard::ComparedBeforeRestore, Without::Breaks(TWICE)),
    (Guard::FencedBeforeCompared, Without::Breaks(TWICE)),
    (Guard::AgreedBeforeNoted, Without::Breaks(TWICE)),
    (Guard::RowsPutBack, Without::Breaks(TWICE)),
];

/// The model.
#[derive(Clone, Copy)]
pub struct LossesModel {
    /// The guards taken out, a bit for each.
    without: u32,
}

/// A round: its number, and whom it tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Round {
    seq: u8,
    clients: u8,
}

const FIRST: Round = Round { seq: 0, clients: 0 };

impl Round {
    fn version(self) -> RoundVersion {
        RoundVersion { seq: Seq::new(self.seq.into()), revision: 0, checksum: self.clients.into() }
    }

    fn of(head: RoundVersion) -> Self {
        let byte = |number: i64| u8::try_from(number).expect("a model's rounds are few");
        Self { seq: byte(head.seq.get()), clients: byte(head.checksum) }
    }
}

/// `dinnerbell.lane`, with its last two rounds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct LaneRow {
    round: Round,
    previous: Option<Round>,
    published: Option<u8>,
    has_taken_in: bool,
    /// It stands still: commits are missing, or may be.
    halted: bool,
    mark_overruled: bool,
    /// In the comparison that stands.
    compared: bool,
}

/// The feedback database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Ledger {
    lanes: [LaneRow; LANES],
    owner: Option<u8>,
    rows: u8,
    /// Every lane is, in the comparison that stands.
    compared: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Txn {
    round: Round,
    mark_only: bool,
    /// Its end is on its way, and nobody waits for it.
    late: bool,
}

/// A lane's part of Kafka.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Partition {
    mark: Option<Round>,
    txn: Option<Txn>,
    /// The messages of its rounds, by round.
    told: [u8; 4],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Down,
    Fence,
    Compare,
    Run,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Publishing {
    Idle,
    Begin,
    Open,
}

/// The lane's owner, and what it remembers of its takeover.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Owner {
    at: At,
    /// Its epoch is the lane's.
    is_current: bool,
    /// The copy of the database knows its epoch.
    is_in_copy: bool,
    same_server: bool,
    /// The comparison of its takeover is the one that stands.
    stands: bool,
    row: LaneRow,
    /// The campaign is its own, as it knows, and these have a row.
    owns: bool,
    rows: u8,
    publishing: Publishing,
    mark_only: bool,
}

const NEW: LaneRow = LaneRow {
    round: FIRST,
    previous: None,
    published: None,
    has_taken_in: false,
    halted: false,
    mark_overruled: false,
    compared: false,
};
const DOWN: Owner = Owner {
    at: At::Down,
    is_current: false,
    is_in_copy: false,
    same_server: false,
    stands: false,
    row: NEW,
    owns: false,
    rows: 0,
    publishing: Publishing::Idle,
    mark_only: false,
};

/// The whole world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    ledger: Ledger,
    copy: Option<Ledger>,
    has_lost: bool,
    kafka: [Partition; LANES],
    owners: [Owner; LANES],
    told_twice: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Enter,
    Fence,
    Compare,
    TakeIn,
    Record,
    Produce,
    Commit,
    /// The end of the transaction is on its way when its owner gives it up.
    CommitDelayed,
    Note,
    /// It notices that it is not as it was taken over.
    Notice,
    Crash,
    LateEnd,
    /// An operator resolves the halted lane.
    Resolve,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// In one lane.
    Of(usize, Step),
    /// The database is copied: a standby receives no more, or a backup is taken.
    Copy,
    /// It is put back as the copy holds it.
    Lose,
    /// The same while nothing runs, and the group's offsets are gone.
    LoseWithMarks,
}

const STEPS: [Step; 13] = [
    Step::Enter,
    Step::Fence,
    Step::Compare,
    Step::TakeIn,
    Step::Record,
    Step::Produce,
    Step::Commit,
    Step::CommitDelayed,
    Step::Note,
    Step::Notice,
    Step::Crash,
    Step::LateEnd,
    Step::Resolve,
];

impl Model for LossesModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let ledger = Ledger { lanes: [NEW; LANES], owner: None, rows: 0, compared: false };
        let kafka = [Partition { mark: None, txn: None, told: [0; 4] }; LANES];
        vec![State { ledger, copy: None, has_lost: false, kafka, owners: [DOWN; LANES], told_twice: false }]
    }

    fn actions(&self, _state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..LANES).flat_map(|lane| STEPS.map(|step| Action::Of(lane, step))));
        actions.extend([Action::Copy, Action::Lose, Action::LoseWithMarks]);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut after = *state;
        let happens = match action {
            Action::Of(lane, step) => self.step(&mut after, lane, step),
            Action::Copy => copies(&mut after),
            Action::Lose => loses(&mut after, false),
            Action::LoseWithMarks => loses(&mut after, true),
        };
        (happens && after != *state).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TWICE, |_, s: &State| !s.told_twice),
            Property::always(EQUAL_AT_REST, |_, s: &State| !s.is_at_rest() || s.ledger.rows == s.told()),
            Property::always(HALTS_BY_LOSS, |_, s: &State| s.has_lost || s.ledger.lanes.iter().all(|row| !row.halted)),
            Property::sometimes("both rounds of a lane are lost", |_, s: &State| {
                s.has_lost && s.told() == CLIENTS && s.ledger.rows == 0
            }),
            Property::sometimes("both lanes stand still", |_, s: &State| s.ledger.lanes.iter().all(|row| row.halted)),
            Property::sometimes("a lane halts though Kafka holds no mark", |_, s: &State| {
                (0..LANES).any(|lane| s.ledger.lanes[lane].halted && s.kafka[lane].mark.is_none())
            }),
            Property::sometimes("a lane runs while another one holds it", |_, s: &State| {
                let runs = |lane: usize| s.owners[lane].at == At::Run && s.ledger.lanes[lane].compared;
                s.has_lost && !s.ledger.compared && (0..LANES).any(runs)
            }),
        ]
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Of(lane, step) => format!("lane {lane} {step:?}"),
            outside => format!("{outside:?}"),
        }
    }
}

impl Protocol for LossesModel {
    fn is_good(&self, action: &Action) -> bool {
        matches!(action, Action::Of(_, step) if !matches!(step, Step::Crash | Step::CommitDelayed | Step::LateEnd))
    }

    fn is_done(&self, s: &State) -> bool {
        s.is_at_rest() && s.told() == CLIENTS
    }
}

impl State {
    /// Whom any round told.
    fn told(&self) -> u8 {
        self.kafka.iter().flat_map(|partition| partition.told).fold(0, |told, clients| told | clients)
    }

    fn is_at_rest(&self) -> bool {
        let rests = |lane: usize| {
            let (row, partition) = (&self.ledger.lanes[lane], &self.kafka[lane]);
            let known = row.published == Some(row.round.seq) && row.has_taken_in && !row.halted;
            known && partition.mark == Some(row.round) && partition.txn.is_none()
        };
        self.ledger.compared && (0..LANES).all(rests)
    }

    fn commit(&mut self, lane: usize) {
        let told = self.told();
        let partition = &mut self.kafka[lane];
        if let Some(txn) = partition.txn.take() {
            partition.mark = Some(txn.round);
            if !txn.mark_only {
                self.told_twice |= told & txn.round.clients != 0;
                partition.told[usize::from(txn.round.seq)] |= txn.round.clients;
            }
        }
    }

    /// The lane is whole; with the last one the hold ends.
    fn note_compared(&mut self, lane: usize) {
        self.ledger.lanes[lane].compared = true;
        self.ledger.compared |= self.ledger.lanes.iter().all(|row| row.compared);
    }
}

fn copies(s: &mut State) -> bool {
    if s.has_lost || s.copy.is_some() {
        return false;
    }
    s.copy = Some(s.ledger);
    s.owners.iter_mut().for_each(|owner| owner.is_in_copy = owner.is_current);
    true
}

/// A copy from before a lane was known to have a mark looks like a new ledger: that it is not is known to nobody without the marks.
fn loses(s: &mut State, with_marks: bool) -> bool {
    let nothing_runs = s.owners.iter().all(|owner| owner.at == At::Down);
    let is_new = |copy: &Ledger| copy.lanes.iter().any(|row| row.published.is_none());
    let Some(copy) = s.copy.filter(|copy| !with_marks || (nothing_runs && !is_new(copy))) else { return false };
    (s.ledger, s.copy, s.has_lost) = (copy, None, true);
    s.ledger.compared = false;
    s.ledger.lanes.iter_mut().for_each(|row| row.compared = false);
    for owner in &mut s.owners {
        (owner.is_current, owner.is_in_copy) = (owner.is_in_copy, false);
        (owner.same_server, owner.stands) = (false, false);
    }
    if with_marks {
        s.kafka.iter_mut().for_each(|partition| partition.mark = None);
    }
    true
}
