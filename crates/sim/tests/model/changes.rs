//! Model (c): two lanes that learn of the same campaign.
//!
//! Each lane's input is any sequence of at most two records about one campaign: three versions of it and a tombstone. One further input
//! holds two campaigns in opposite orders. Both owners may crash at any step, an operator may cancel, and one client is to be told.
//! What fences a lane's owners is model (a)'s; here each lane has one owner at a time.

use std::sync::LazyLock;

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::input::DecodedRecord;
use dinnerbell_core::model::number::Seconds;
use dinnerbell_core::model::rules::{Known, RecordEffect, apply_rules};
use stateright::{Model, Property};

use crate::check::{CAN_COMPLETE, Protocol, Without};

const ONE_OWNER: &str = "a campaign has one owner";
const APPLIED_ONCE: &str = "each change is applied once";
const NEW_CONTENT: &str = "a client who is told after an update is told the update";
const CANCELLED: &str = "no publication is begun after a cancellation";
const EQUAL_AT_REST: &str = "at rest both sinks are equal";

/// What keeps the promises; each can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The primary key decides who owns a campaign (`insert ... on conflict do nothing`), not a look beforehand.
    PrimaryKey,
    /// A batch's campaigns are inserted in the order of their ids.
    IdOrder,
    /// A tombstone for an unknown id is inserted as that campaign's row.
    TombstoneRow,
    /// A tombstone that finds another lane's row is handed over like any change.
    TombstoneHandedOver,
    /// A change is recorded in the transaction that moves the position.
    ChangeWithPosition,
    /// Only the owner applies.
    OwnerApplies,
    /// Intake and applying changes of one lane lock the lane's row first.
    LaneRowFirst,
    /// A change is marked as applied in the transaction of its effect.
    AppliedAndMarkedTogether,
    /// Changes are applied in the order of their `datetime_created`.
    DatetimeOrder,
    /// A round compares the campaign's version when it is sealed.
    VersionAtSeal,
    /// A cancelled campaign's recorded drafts are withdrawn, not published.
    CancelBeforePublication,
}

/// Every guard, and what follows when it alone is taken out.
pub const GUARDS: &[(Guard, Without)] = &[
    (Guard::PrimaryKey, Without::Breaks(ONE_OWNER)),
    (Guard::IdOrder, Without::Breaks(CAN_COMPLETE)),
    (Guard::TombstoneRow, Without::Breaks(CAN_COMPLETE)),
    (Guard::TombstoneHandedOver, Without::Breaks(CAN_COMPLETE)),
    (Guard::ChangeWithPosition, Without::Breaks(CAN_COMPLETE)),
    (Guard::OwnerApplies, Without::Breaks(CAN_COMPLETE)),
    (Guard::LaneRowFirst, Without::Breaks(CAN_COMPLETE)),
    (Guard::AppliedAndMarkedTogether, Without::Breaks(APPLIED_ONCE)),
    (
        Guard::DatetimeOrder,
        Without::Holds("the newest wins in any order: it only makes the counts of updates the same"),
    ),
    (Guard::VersionAtSeal, Without::Breaks(NEW_CONTENT)),
    (Guard::CancelBeforePublication, Without::Breaks(CANCELLED)),
];

/// The model.
#[derive(Clone, Copy)]
pub struct ChangesModel {
    /// The guards taken out, a bit for each.
    without: u32,
    /// Four inputs instead of all: enough for every counterexample.
    few: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Record {
    None,
    /// The campaign, created at this time.
    Version(u8),
    Tombstone,
    /// Another campaign, of the higher id.
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Change {
    None,
    /// In the memory of the lane that received it, and nowhere else: only without [`Guard::ChangeWithPosition`].
    Unsaved,
    Unapplied,
    /// It has its effect and is not marked: only without [`Guard::AppliedAndMarkedTogether`].
    Unmarked,
    Applied,
}

/// A campaign's row; created at 0 where only its tombstone is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Row {
    created: u8,
    cancelled: bool,
}

/// An intake that is not committed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Intake {
    /// The position after it.
    upto: u8,
    /// How many of the batch's campaigns it has inserted, or found.
    tried: u8,
    inserted: bool,
    inserted_other: bool,
    /// The campaign as this transaction saw it: used only without [`Guard::OwnerApplies`].
    seen: Option<Row>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Lane {
    log: [Record; 2],
    /// The position.
    taken: u8,
    intake: Option<Intake>,
    /// The outcome of each record that was handed over.
    changes: [Change; 2],
    /// The row, where this lane owns the campaign.
    row: Option<Row>,
    owns_other: bool,
    /// The row as it was read before changes were applied: only without [`Guard::LaneRowFirst`].
    applying: Option<Row>,
    /// The version in the round being planned.
    plan: Option<u8>,
}

/// The whole world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    lanes: [Lane; 2],
    operator: Change,
    /// The recorded round that is not published.
    round: Option<u8>,
    feedback: Option<u8>,
    out: Option<u8>,
    applied_twice: bool,
    old_content: bool,
    begun_cancelled: bool,
}

/// What happens, and in which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    BeginIntake,
    /// The lane's next record alone.
    BeginIntakeOfOne,
    InsertNext,
    CommitIntake,
    HandOver,
    BeginApplying,
    Apply,
    MarkApplied,
    Plan,
    Seal,
    Publish,
    Withdraw,
    Crash,
}

const STEPS: [Step; 13] = [
    Step::BeginIntake,
    Step::BeginIntakeOfOne,
    Step::InsertNext,
    Step::CommitIntake,
    Step::HandOver,
    Step::BeginApplying,
    Step::Apply,
    Step::MarkApplied,
    Step::Plan,
    Step::Seal,
    Step::Publish,
    Step::Withdraw,
    Step::Crash,
];

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    In(usize, Step),
    OperatorCancels,
}

impl Model for ChangesModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        use Record::{None, Other, Tombstone, Version};
        let crossed = [[Version(1), Other], [Other, Version(1)]];
        if self.few {
            let [v1, v2, cancel] = [[Version(1), None], [Version(2), None], [Tombstone, None]];
            return [crossed, [v1, cancel], [v1, v2], [[Version(1), Version(3)], v2]].map(State::new).into();
        }
        let records = [Version(1), Version(2), Version(3), Tombstone];
        let mut logs = vec![[None; 2]];
        logs.extend(records.map(|only| [only, None]));
        logs.extend(records.into_iter().flat_map(|first| records.map(|second| [first, second])));
        let pairs = logs.iter().flat_map(|&a| logs.iter().map(move |&b| [a, b]));
        pairs.chain([crossed]).map(State::new).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..2).flat_map(|lane| STEPS.map(|step| Action::In(lane, step))));
        if state.operator == Change::None {
            actions.push(Action::OperatorCancels);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut after = *state;
        let happens = match action {
            Action::In(lane, step) => self.step(&mut after, lane, step),
            Action::OperatorCancels => {
                after.operator = Change::Unapplied;
                state.lanes.iter().any(|lane| lane.row.is_some())
            }
        };
        (happens && after != *state).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_OWNER, |_, s: &State| s.lanes.iter().filter(|lane| lane.row.is_some()).count() <= 1),
            Property::always(APPLIED_ONCE, |_, s: &State| !s.applied_twice),
            Property::always(NEW_CONTENT, |_, s: &State| !s.old_content),
            Property::always(CANCELLED, |_, s: &State| !s.begun_cancelled),
            Property::always(EQUAL_AT_REST, |_, s: &State| s.round.is_some() || s.feedback == s.out),
            Property::sometimes("an update is told", |_, s: &State| s.out == Some(3)),
            Property::sometimes("a tombstone comes before its campaign", |_, s: &State| {
                s.lanes.iter().any(|lane| lane.row == Some(Row { created: 0, cancelled: true }))
            }),
            Property::sometimes("an operator's cancel withdraws a round", |_, s: &State| {
                s.operator == Change::Applied && s.round.is_some()
            }),
            Property::sometimes("two intakes are open at once", |_, s: &State| {
                s.lanes.iter().all(|lane| lane.intake.is_some())
            }),
        ]
    }
}

impl Protocol for ChangesModel {
    fn is_good(&self, action: &Action) -> bool {
        !matches!(action, Action::In(_, Step::Crash) | Action::OperatorCancels)
    }

    /// Whatever the order, the newest version stands, a cancellation stands for ever, and the client is told of what is not cancelled.
    fn is_done(&self, s: &State) -> bool {
        let records = || s.lanes.iter().flat_map(|lane| lane.log);
        let newest =
            records().filter_map(|r| if let Record::Version(created) = r { Some(created) } else { None }).max();
        let cancelled = s.operator != Change::None || records().any(|record| record == Record::Tombstone);
        let row = s.lanes.iter().find_map(|lane| lane.row);
        let as_it_should_be = match row {
            None => newest.is_none() && !cancelled,
            Some(row) if cancelled => row.cancelled,
            Some(row) => Some(row.created) == newest && s.out.is_some(),
        };
        let quiet = s.lanes.iter().all(|lane| lane.taken == lane.end() && lane.intake.is_none()) && s.round.is_none();
        let open = |change: &Change| matches!(change, Change::Unsaved | Change::Unapplied | Change::Unmarked);
        as_it_should_be && quiet && !s.lanes.iter().flat_map(|lane| &lane.changes).chain([&s.operator]).any(open)
    }
}

impl State {
    fn new(logs: [[Record; 2]; 2]) -> Self {
        let lanes = logs.map(|log| Lane {
            log,
            taken: 0,
            intake: None,
            changes: [Change::None; 2],
            row: None,
            owns_other: false,
            applying: None,
            plan: None,
        });
        Self {
            lanes,
            operator: Change::None,
            round: None,
            feedback: None,
            out: None,
            applied_twice: false,
            old_content: false,
            begun_cancelled: false,
        }
    }
}

impl Lane {
    /// The end of its input.
    fn end(&self) -> u8 {
        self.log.iter().map(|&record| u8::from(record != Record::None)).sum()
    }
}

/// The campaign as the service knows it, each version by when it was created.
static VERSIONS: LazyLock<[(Known, DecodedRecord); 4]> = LazyLock::new(|| {
    [0, 1, 2, 3].map(|created| {
        let campaign = Campaign {
            restaurant_id: "restaurant".to_owned(),
            adv_campaign_id: "campaign".to_owned(),
            adv_campaign_content: format!("version {created}"),
            adv_campaign_owner: "owner".to_owned(),
            adv_campaign_owner_contact: "contact".to_owned(),
            window: Window { start: Seconds::new(0), end: Seconds::new(100) },
            datetime_created: Seconds::new(created),
        };
        (Known::Campaign(campaign.clone()), DecodedRecord::Campaign(campaign))
    })
});

static TOMBSTONE: LazyLock<DecodedRecord> =
    LazyLock::new(|| DecodedRecord::Cancellation { adv_campaign_id: "campaign".to_owned() });

impl Row {
    /// What a record makes of the row.
    fn applied(self, record: Record) -> Self {
        let (decoded, created) = match record {
            Record::None | Record::Other => return self,
            Record::Tombstone => (&*TOMBSTONE, self.created),
            Record::Version(created) => (&VERSIONS[usize::from(created)].1, created),
        };
        let known = if self.cancelled { &Known::Cancelled } else { &VERSIONS[usize::from(self.created)].0 };
        match apply_rules(known, decoded) {
            RecordEffect::Update => Self { created, ..self },
            RecordEffect::Cancel => Self { cancelled: true, ..self },
            RecordEffect::Older | RecordEffect::Duplicate | RecordEffect::Conflict(_) => self,
        }
    }
}

impl ChangesModel {
    /// The model less some guards.
    pub fn new(without: &[Guard], few: bool) -> Self {
        Self { without: without.iter().fold(0, |bits, &guard| bits | 1 << guard as u32), few }
    }

    fn on(&self, guard: Guard) -> bool {
        self.without & (1 << guard as u32) == 0
    }

    fn step(&self, s: &mut State, who: usize, step: Step) -> bool {
        let lane = &mut s.lanes[who];
        match step {
            Step::BeginIntake | Step::BeginIntakeOfOne => {
                let upto = if step == Step::BeginIntake { lane.end() } else { lane.taken + 1 };
                let new = lane.intake.is_none() && lane.taken < lane.end();
                lane.intake = Some(Intake { upto, tried: 0, inserted: false, inserted_other: false, seen: None });
                new
            }
            Step::InsertNext => self.insert_next(s, who),
            Step::CommitIntake => self.commit_intake(s, who),
            Step::HandOver => {
                for change in lane.changes.iter_mut().filter(|change| **change == Change::Unsaved) {
                    *change = Change::Unapplied;
                }
                true
            }
            Step::BeginApplying => {
                lane.applying = lane.row;
                !self.on(Guard::LaneRowFirst)
            }
            Step::Apply => self.apply(s, who),
            Step::MarkApplied => {
                let owner = lane.row.is_some();
                for change in s.lanes[1 - who].changes.iter_mut().chain([&mut s.operator]) {
                    if *change == Change::Unmarked {
                        *change = Change::Applied;
                    }
                }
                owner
            }
            Step::Crash => {
                (lane.intake, lane.applying, lane.plan) = (None, None, None);
                for change in lane.changes.iter_mut().filter(|change| **change == Change::Unsaved) {
                    *change = Change::None;
                }
                true
            }
            Step::Plan | Step::Seal | Step::Publish | Step::Withdraw => self.tell(s, who, step),
        }
    }

    /// The campaigns of a lane's batch in the order in which they are inserted: whether each is the other one.
    fn order(&self, lane: &Lane, upto: u8) -> Vec<bool> {
        let first_may_insert = |record: &&Record| match record {
            Record::Tombstone => self.on(Guard::TombstoneRow),
            record => **record != Record::None,
        };
        let batch = &lane.log[usize::from(lane.taken)..usize::from(upto)];
        let mut order: Vec<bool> = batch.iter().filter(first_may_insert).map(|r| *r == Record::Other).collect();
        if self.on(Guard::IdOrder) {
            order.sort_unstable();
        }
        order.dedup();
        order
    }

    fn insert_next(&self, s: &mut State, who: usize) -> bool {
        let [lane, other] = [s.lanes[who], s.lanes[1 - who]];
        let Some(mut intake) = lane.intake else { return false };
        let Some(&is_other) = self.order(&lane, intake.upto).get(usize::from(intake.tried)) else { return false };
        let held = other.intake.is_some_and(|held| if is_other { held.inserted_other } else { held.inserted });
        if held && self.on(Guard::PrimaryKey) {
            return false;
        }
        if is_other {
            intake.inserted_other = !lane.owns_other && !other.owns_other;
        } else {
            intake.inserted = lane.row.is_none() && other.row.is_none();
            intake.seen = other.row.filter(|_| !self.on(Guard::OwnerApplies));
        }
        s.lanes[who].intake = Some(Intake { tried: intake.tried + 1, ..intake });
        true
    }

    fn commit_intake(&self, s: &mut State, who: usize) -> bool {
        let Some(intake) = s.lanes[who].intake.take() else { return false };
        if usize::from(intake.tried) < self.order(&s.lanes[who], intake.upto).len() {
            return false;
        }
        let batch = usize::from(s.lanes[who].taken)..usize::from(intake.upto);
        s.lanes[who].taken = intake.upto;
        s.lanes[who].owns_other |= intake.inserted_other;
        for place in batch {
            let record = s.lanes[who].log[place];
            let insertable =
                matches!(record, Record::Version(_)) || (record == Record::Tombstone && self.on(Guard::TombstoneRow));
            let nothing = Row { created: 0, cancelled: false };
            if let Some(row) = s.lanes[who].row {
                s.lanes[who].row = Some(row.applied(record));
            } else if intake.inserted && insertable {
                s.lanes[who].row = Some(nothing.applied(record));
            } else if s.lanes[1 - who].row.is_some() && matches!(record, Record::Version(_) | Record::Tombstone) {
                self.hand_over(s, who, place, intake.seen);
            }
        }
        true
    }

    /// The campaign is the other lane's: its owner is to apply_rules the record.
    fn hand_over(&self, s: &mut State, who: usize, place: usize, seen: Option<Row>) {
        let record = s.lanes[who].log[place];
        if let Some(seen) = seen {
            s.lanes[1 - who].row = Some(seen.applied(record));
        } else if record != Record::Tombstone || self.on(Guard::TombstoneHandedOver) {
            let recorded = self.on(Guard::ChangeWithPosition);
            s.lanes[who].changes[place] = if recorded { Change::Unapplied } else { Change::Unsaved };
        }
    }

    /// One transaction: every change that is not marked as applied has its effect, and is marked.
    fn apply(&self, s: &mut State, who: usize) -> bool {
        let [lane, other] = [s.lanes[who], s.lanes[1 - who]];
        let read = if self.on(Guard::LaneRowFirst) { lane.row } else { lane.applying };
        let Some(mut row) = read else { return false };
        let mut waiting: Vec<usize> =
            (0..2).filter(|&place| matches!(other.changes[place], Change::Unapplied | Change::Unmarked)).collect();
        if self.on(Guard::DatetimeOrder) {
            waiting.sort_by_key(|&place| if let Record::Version(created) = other.log[place] { created } else { 0 });
        }
        let applied = if self.on(Guard::AppliedAndMarkedTogether) { Change::Applied } else { Change::Unmarked };
        let operator = matches!(s.operator, Change::Unapplied | Change::Unmarked);
        let happens = operator || !waiting.is_empty();
        for place in waiting {
            row = row.applied(other.log[place]);
            s.applied_twice |= other.changes[place] == Change::Unmarked;
            s.lanes[1 - who].changes[place] = applied;
        }
        if operator {
            row = row.applied(Record::Tombstone);
            s.applied_twice |= s.operator == Change::Unmarked;
            s.operator = applied;
        }
        s.lanes[who].row = Some(row);
        s.lanes[who].applying = None;
        happens
    }

    /// The rounds of the lane, as far as one client and one campaign need them.
    fn tell(&self, s: &mut State, who: usize, step: Step) -> bool {
        let Some(row) = s.lanes[who].row else { return false };
        match step {
            Step::Plan => {
                s.lanes[who].plan = Some(row.created);
                !row.cancelled && s.feedback.is_none()
            }
            Step::Seal => {
                let Some(version) = s.lanes[who].plan.take() else { return false };
                let stale = row.created != version || row.cancelled;
                if s.feedback.is_some() || (stale && self.on(Guard::VersionAtSeal)) {
                    return true;
                }
                s.old_content |= row.created != version;
                (s.feedback, s.round) = (Some(version), Some(version));
                true
            }
            Step::Publish => {
                let Some(version) = s.round.take() else { return false };
                s.begun_cancelled |= row.cancelled;
                s.out = Some(version);
                !row.cancelled || !self.on(Guard::CancelBeforePublication)
            }
            Step::Withdraw => {
                let happens = s.round.is_some() && row.cancelled;
                (s.feedback, s.round) = (None, None);
                happens
            }
            _ => false,
        }
    }
}
