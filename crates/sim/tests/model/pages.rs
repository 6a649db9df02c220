//! Model (b): one owner and one campaign: pages, a page that is read while the round before it is copied, the tail scan, the rescan, and withdrawal.
//!
//! Five clients in the order of the main pass, two on a page: 0 and 3 favour the restaurant from the beginning, 2 does so too and was
//! told by an earlier job, 1 and 4 join at any moment; or nobody does from the beginning. Where inserts are in order, 4 may leave and come
//! again once. Somebody may answer in the row of client 0. The owner may crash or doubt at any step, and a takeover is one step here: model (a) takes it apart.

use dinnerbell_core::lane::round::plan::{CursorSide, PlannableCampaign, plan, side_of};
use dinnerbell_core::model::campaign::Window;
use dinnerbell_core::model::number::Seconds;
use dinnerbell_core::model::round_capacity::RoundCapacity;
use stateright::{Model, Property};

use crate::check::{CAN_COMPLETE, Protocol, Without};

const CLIENTS: u8 = 5;
const PAGE: usize = 2;
const FROM_THE_BEGINNING: u8 = 0b01101;
const TOLD_BEFORE: u8 = 0b00100;
const JOINERS: [u8; 2] = [0b00010, 0b10000];
/// The joiner who may leave.
const LEAVES: usize = 1;
const ANSWERS: u8 = 0b00001;

const TWICE: &str = "nobody is told twice";
const ROW_FIRST: &str = "a message has its row";
const EQUAL_AT_REST: &str = "at rest both sinks are equal, but for rows that somebody answered in";
const COMPLETE: &str = "complete is complete";
const NO_COLLISION: &str = "no round collides with itself or with what is recorded";
const ANSWER_STAYS: &str = "a row that somebody answered in stays";
const IN_TIME: &str = "no publication is begun after the end";

/// What keeps the promises; each can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Newcomers are checked against the planned cursor, not the recorded one.
    PlannedCursor,
    /// After the last page every newcomer is late, wherever they stand.
    FinishedPassesAll,
    /// A newcomer on one of the round's pages is not late.
    NotOnPage,
    /// A newcomer with a row is not late.
    NoRowYet,
    /// Newcomers are forgotten only when the round that checked them is recorded.
    ForgottenWhenRecorded,
    /// Who is seen again while a round checks them is checked again.
    SeenAgainIsCheckedAgain,
    /// A take-over is followed by a rescan.
    RescanAfterTakeOver,
    /// An end put off is followed by a rescan.
    RescanAfterRevival,
    /// A rescan that an update overtook is not noted as done.
    RescanNotOvertaken,
    /// A campaign whose main pass found nobody is rescanned like any other.
    RescanOfNobody,
    /// The tail scan's high-water mark is taken before any page is read, the rescan's included.
    TailScanFirst,
    /// An error of the tail scan leaves its high-water mark where it was.
    MarkKept,
    /// Every five minutes comes a rescan.
    RescanInTime,
    /// A page leaves out who has a row.
    PageLessTold,
    /// The unique index on (campaign, client).
    UniqueIndex,
    /// What a round published is told by client, not by range.
    PublishedByClient,
    /// What a round withdraws is told by client, not by range.
    WithdrawnByClient,
    /// A withdrawal puts the cursor back.
    CursorPutBack,
    /// A withdrawal leaves rows that somebody answered in.
    AnswersStay,
    /// The ends are read again when a round is sealed.
    EndsAtSeal,
    /// A page is read ahead of the next round only when the round before it has checked its newcomers.
    ReadAheadAfterCheck,
    /// A page that was read ahead is dropped when an update came since.
    ReadAheadOfSameVersion,
    /// A round planned before an update is not sealed after it: its pages are older than the time in which nobody was scanned.
    VersionAtSeal,
    /// The ends are read before a publication is begun.
    EndsBeforePublication,
    /// A round is sealed only when the one before is published.
    Gate,
}

/// Every guard, and what follows when it alone is taken out.
pub const GUARDS: &[(Guard, Without)] = &[
    (Guard::PlannedCursor, Without::Breaks(CAN_COMPLETE)),
    (Guard::FinishedPassesAll, Without::Breaks(CAN_COMPLETE)),
    (Guard::NotOnPage, Without::Breaks(NO_COLLISION)),
    (Guard::NoRowYet, Without::Breaks(NO_COLLISION)),
    (Guard::ForgottenWhenRecorded, Without::Breaks(CAN_COMPLETE)),
    (Guard::SeenAgainIsCheckedAgain, Without::Breaks(CAN_COMPLETE)),
    (Guard::RescanAfterTakeOver, Without::Breaks(CAN_COMPLETE)),
    (Guard::RescanAfterRevival, Without::Breaks(CAN_COMPLETE)),
    (Guard::RescanNotOvertaken, Without::Breaks(CAN_COMPLETE)),
    (Guard::RescanOfNobody, Without::Breaks(CAN_COMPLETE)),
    (Guard::TailScanFirst, Without::Breaks(CAN_COMPLETE)),
    (Guard::MarkKept, Without::Breaks(CAN_COMPLETE)),
    (Guard::RescanInTime, Without::Breaks(CAN_COMPLETE)),
    (Guard::PageLessTold, Without::Breaks(NO_COLLISION)),
    (
        Guard::UniqueIndex,
        Without::Holds(
            "pages, rescan and newcomers leave out who has a row, and nobody else writes: a violation halts",
        ),
    ),
    (Guard::PublishedByClient, Without::Breaks(TWICE)),
    (Guard::WithdrawnByClient, Without::Breaks(ROW_FIRST)),
    (Guard::CursorPutBack, Without::Breaks(COMPLETE)),
    (Guard::AnswersStay, Without::Breaks(ANSWER_STAYS)),
    (
        Guard::EndsAtSeal,
        Without::Holds(
            "the ends are read again before publication, and the withdrawal takes the drafts back: it spares that",
        ),
    ),
    (Guard::ReadAheadAfterCheck, Without::Breaks(CAN_COMPLETE)),
    (Guard::ReadAheadOfSameVersion, Without::Breaks(CAN_COMPLETE)),
    (Guard::VersionAtSeal, Without::Breaks(CAN_COMPLETE)),
    (Guard::EndsBeforePublication, Without::Breaks(IN_TIME)),
    (Guard::Gate, Without::Breaks(EQUAL_AT_REST)),
];

/// The model.
#[derive(Clone, Copy)]
pub struct PagesModel {
    /// The guards taken out, a bit for each.
    without: u32,
    /// Inserts commit in the order of their ids, and no replica lags: then nobody waits for the rescan that comes every five minutes, and
    /// there is none. Somebody who joined leaves, and comes again.
    orderly: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Ends {
    Open,
    Over,
    PutOff,
}

/// A client that joins: their row's place in the order of ids, and whether readers see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Joiner {
    id: u8,
    visible: bool,
}

/// How far the main pass is recorded, or planned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Cursor {
    client: Option<u8>,
    over: bool,
}

impl Cursor {
    fn has_passed(self, client: u8) -> bool {
        side_of(&client, self.client.as_ref(), self.over) == CursorSide::AtOrBeforeCursor
    }
}

/// The last recorded round, until it is published.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Round {
    drafts: u8,
    range: u8,
    before: Cursor,
}

/// A round that is being planned and copied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Plan {
    page: u8,
    range: u8,
    upto: Cursor,
    late: u8,
    checked: u8,
    copied: bool,
    /// An update came since its pages were read.
    updated: bool,
    /// The page after it, if that was read meanwhile.
    ahead: Option<PageAhead>,
}

/// A page that is read before its round is planned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct PageAhead {
    page: u8,
    range: u8,
    upto: Cursor,
    updated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Owner {
    /// The newest id that the tail scan has seen, once it began.
    mark: Option<u8>,
    newcomers: u8,
    /// The rescan that follows a take-over is to come.
    first_rescan: bool,
    rescan: Rescan,
    plan: Option<Plan>,
    /// For the round that is planned next.
    ahead: Option<PageAhead>,
}

/// A rescan has read, and is not noted yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Rescan {
    None,
    Read,
    /// An update came since.
    Overtaken,
}

/// The whole world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    from_the_beginning: u8,
    joiners: [Joiner; 2],
    /// The last joiner has left once.
    left: bool,
    ends: Ends,
    /// The ledger says that a rescan is due.
    rescan_due: bool,
    rows: u8,
    cursor: Cursor,
    round: Option<Round>,
    complete: bool,
    answered: bool,
    out: u8,
    owner: Option<Owner>,
    told_twice: bool,
    collided: bool,
    begun_late: bool,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Enter,
    Crash,
    BeginSweep,
    Sweep,
    TailScanFails,
    FiveMinutesPass,
    ReadRepass,
    NoteRescan,
    ReadPage,
    CheckAndCopy,
    ReadAhead,
    PlanAgain,
    Seal,
    SealReplyLost,
    Publish,
    PublishReplyLost,
    Withdraw,
    WithdrawReplyLost,
    Insert(usize),
    /// An insert becomes visible.
    Appear(usize),
    /// The replica fails over to one that lags.
    Disappear(usize),
    /// The last joiner takes the restaurant out of their favourites, and adds it again.
    Leave,
    ComeAgain,
    Answer,
    End,
    PutOff,
}

const ACTIONS: [Action; 29] = [
    Action::Enter,
    Action::Crash,
    Action::BeginSweep,
    Action::Sweep,
    Action::TailScanFails,
    Action::FiveMinutesPass,
    Action::ReadRepass,
    Action::NoteRescan,
    Action::ReadPage,
    Action::CheckAndCopy,
    Action::ReadAhead,
    Action::PlanAgain,
    Action::Seal,
    Action::SealReplyLost,
    Action::Publish,
    Action::PublishReplyLost,
    Action::Withdraw,
    Action::WithdrawReplyLost,
    Action::Insert(0),
    Action::Insert(1),
    Action::Appear(0),
    Action::Appear(1),
    Action::Disappear(0),
    Action::Disappear(1),
    Action::Leave,
    Action::ComeAgain,
    Action::Answer,
    Action::End,
    Action::PutOff,
];

impl Model for PagesModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let begun = |from_the_beginning: u8| State {
            from_the_beginning,
            joiners: [Joiner::default(); 2],
            left: false,
            ends: Ends::Open,
            rescan_due: false,
            rows: from_the_beginning & TOLD_BEFORE,
            cursor: Cursor { client: None, over: false },
            round: None,
            complete: false,
            answered: false,
            out: from_the_beginning & TOLD_BEFORE,
            owner: None,
            told_twice: false,
            collided: false,
            begun_late: false,
        };
        vec![begun(FROM_THE_BEGINNING), begun(0)]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend(ACTIONS);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut after = *state;
        let happens = match action {
            Action::Enter => state.owner.is_none() && self.enter(&mut after),
            Action::Insert(who) => self.insert(&mut after, who),
            Action::Appear(who) => !self.orderly && after.joiners[who].appear(),
            Action::Disappear(who) => !self.orderly && std::mem::take(&mut after.joiners[who].visible),
            Action::Leave => {
                after.left = true;
                self.orderly && !state.left && std::mem::take(&mut after.joiners[LEAVES].visible)
            }
            Action::ComeAgain => {
                after.joiners[LEAVES] = Joiner { id: state.next_id(), visible: true };
                state.left && !state.joiners[LEAVES].visible
            }
            Action::Answer => {
                after.answered = true;
                state.rows & ANSWERS != 0
            }
            Action::End => {
                after.ends = Ends::Over;
                state.ends == Ends::Open
            }
            Action::PutOff => {
                after.ends = Ends::PutOff;
                after.rescan_due |= self.on(Guard::RescanAfterRevival);
                if let Some(owner) = &mut after.owner {
                    let plans = owner.plan.iter_mut();
                    let ahead = plans.flat_map(|plan| {
                        plan.updated = true;
                        plan.ahead.as_mut()
                    });
                    ahead.chain(owner.ahead.as_mut()).for_each(|ahead| ahead.updated = true);
                    if owner.rescan == Rescan::Read && self.on(Guard::RescanNotOvertaken) {
                        owner.rescan = Rescan::Overtaken;
                    }
                }
                state.ends == Ends::Over
            }
            _ => state.owner.is_some_and(|owner| self.step(&mut after, owner, action)),
        };
        (happens && after != *state).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TWICE, |_, s: &State| !s.told_twice),
            Property::always(ROW_FIRST, |_, s: &State| s.out & !s.rows == 0),
            Property::always(EQUAL_AT_REST, |_, s: &State| s.round.is_some() || s.rows & !s.out & !s.kept() == 0),
            Property::always(COMPLETE, |_, s: &State| !s.complete || s.from_the_beginning & !s.out & !s.kept() == 0),
            Property::always(NO_COLLISION, |_, s: &State| !s.collided),
            Property::always(ANSWER_STAYS, |_, s: &State| !s.answered || s.rows & ANSWERS != 0),
            Property::always(IN_TIME, |_, s: &State| !s.begun_late),
            Property::sometimes("everybody is told", |_, s: &State| s.out == mask(|_| true)),
            Property::sometimes("a newcomer is late", |_, s: &State| s.plan().is_some_and(|plan| plan.late != 0)),
            Property::sometimes("who left is seen again while a round checks them", |model: &Self, s: &State| {
                let seen_again = |(owner, plan): (Owner, Plan)| {
                    plan.copied && owner.newcomers & !plan.checked & JOINERS[LEAVES] != 0
                };
                !model.orderly || (s.left && s.owner.zip(s.plan()).is_some_and(seen_again))
            }),
            Property::sometimes("a rescan is overtaken", |_, s: &State| {
                s.owner.is_some_and(|owner| owner.rescan == Rescan::Overtaken)
            }),
            Property::sometimes("a page is read while a round waits", |_, s: &State| {
                s.round.is_some() && s.plan().is_some_and(|plan| plan.page != 0)
            }),
            Property::sometimes("a page is held for the next round", |_, s: &State| {
                s.owner.is_some_and(|owner| owner.plan.is_none() && owner.ahead.is_some_and(|ahead| ahead.page != 0))
            }),
            Property::sometimes("a row that was answered in is kept, and its client not told", |_, s: &State| {
                s.complete && s.round.is_none() && s.kept() & !s.out != 0
            }),
        ]
    }
}

impl Protocol for PagesModel {
    fn is_good(&self, action: &Action) -> bool {
        !matches!(
            action,
            Action::Crash
                | Action::TailScanFails
                | Action::PlanAgain
                | Action::SealReplyLost
                | Action::PublishReplyLost
                | Action::WithdrawReplyLost
                | Action::Insert(_)
                | Action::Disappear(_)
                | Action::Leave
                | Action::ComeAgain
                | Action::Answer
                | Action::End
                | Action::PutOff
        )
    }

    fn is_done(&self, s: &State) -> bool {
        let untold = s.audience() & !s.out & !s.kept();
        s.round.is_none() && (s.ends == Ends::Over || (untold == 0 && s.complete))
    }
}

impl Joiner {
    fn appear(&mut self) -> bool {
        self.id != 0 && !std::mem::replace(&mut self.visible, true)
    }
}

impl State {
    /// Who favours the restaurant, as readers see it.
    fn audience(&self) -> u8 {
        let joined = |who: usize| if self.joiners[who].visible { JOINERS[who] } else { 0 };
        self.from_the_beginning | joined(0) | joined(1)
    }

    fn plan(&self) -> Option<Plan> {
        self.owner.and_then(|owner| owner.plan)
    }

    fn next_id(&self) -> u8 {
        self.joiners.iter().map(|joiner| joiner.id).max().unwrap_or(0) + 1
    }

    fn newest_id(&self) -> u8 {
        self.joiners.iter().filter(|joiner| joiner.visible).map(|joiner| joiner.id).max().unwrap_or(0)
    }

    /// Rows without a message, because somebody answered in them before the withdrawal.
    fn kept(&self) -> u8 {
        if self.answered { ANSWERS & self.rows } else { 0 }
    }

    /// The page after a cursor, its range, and the cursor after it.
    fn page_after(&self, cursor: Cursor, rows: usize) -> PageAhead {
        let is_after = |client: &u8| !cursor.has_passed(*client);
        let found: Vec<u8> =
            (0..CLIENTS).filter(is_after).filter(|client| self.audience() & 1 << client != 0).take(rows).collect();
        let upto = Cursor { client: found.last().copied().or(cursor.client), over: false };
        let range = mask(|client| is_after(&client) && upto.has_passed(client));
        let page = found.iter().fold(0, |page, client| page | 1 << client);
        PageAhead { page, range, upto: Cursor { over: found.len() < rows, ..upto }, updated: false }
    }
}

/// The clients for whom it is so.
fn mask(so: impl Fn(u8) -> bool) -> u8 {
    (0..CLIENTS).filter(|&client| so(client)).fold(0, |mask, client| mask | 1 << client)
}

impl PagesModel {
    /// The model less some guards.
    pub fn new(without: &[Guard], orderly: bool) -> Self {
        Self { without: without.iter().fold(0, |bits, &guard| bits | 1 << guard as u32), orderly }
    }

    fn on(&self, guard: Guard) -> bool {
        self.without & (1 << guard as u32) == 0
    }

    fn enter(&self, s: &mut State) -> bool {
        let first_rescan = self.on(Guard::RescanAfterTakeOver) && self.has_begun(s);
        s.owner = Some(Owner { mark: None, newcomers: 0, first_rescan, rescan: Rescan::None, plan: None, ahead: None });
        true
    }

    fn insert(&self, s: &mut State, who: usize) -> bool {
        let new = s.joiners[who].id == 0;
        s.joiners[who] = Joiner { id: s.next_id(), visible: self.orderly };
        new
    }

    fn step(&self, s: &mut State, owner: Owner, action: Action) -> bool {
        let mut me = owner;
        match action {
            Action::Crash => {
                s.owner = None;
                return true;
            }
            Action::BeginSweep if me.mark.is_none() => me.mark = Some(s.newest_id()),
            Action::Sweep => {
                let Some(mark) = me.mark else { return false };
                for (joiner, client) in s.joiners.iter().zip(JOINERS) {
                    if joiner.visible && joiner.id > mark && s.ends != Ends::Over {
                        self.add_newcomers(&mut me, client);
                    }
                }
                me.mark = Some(mark.max(s.newest_id()));
            }
            Action::TailScanFails if !self.on(Guard::MarkKept) => me.mark = me.mark.map(|_| s.newest_id()),
            Action::FiveMinutesPass => s.rescan_due |= !self.orderly && self.on(Guard::RescanInTime),
            Action::ReadRepass => return self.read_repass(s, me),
            Action::NoteRescan if me.rescan != Rescan::None => {
                s.rescan_due &= me.rescan == Rescan::Overtaken;
                (me.first_rescan, me.rescan) = (false, Rescan::None);
            }
            Action::ReadPage => return me.plan.is_none() && self.read_page(s, me),
            Action::CheckAndCopy => return self.check_and_copy(s, me),
            Action::ReadAhead => return self.read_ahead(s, me),
            Action::PlanAgain => (me.plan, me.ahead) = (None, None),
            Action::Seal | Action::SealReplyLost => return self.seal(s, me, action == Action::Seal),
            Action::Publish | Action::PublishReplyLost => return self.publish(s, action == Action::Publish),
            Action::Withdraw | Action::WithdrawReplyLost => return self.withdraw(s, action == Action::Withdraw),
            _ => return false,
        }
        s.owner = Some(me);
        true
    }

    /// Adds whom a round is to check; a round that checks them at this moment does not count.
    fn add_newcomers(&self, me: &mut Owner, clients: u8) {
        me.newcomers |= clients;
        if let Some(plan) = me.plan.as_mut().filter(|_| self.on(Guard::SeenAgainIsCheckedAgain)) {
            plan.checked &= !clients;
        }
    }

    /// Begins a plan: the next page, where one is due.
    fn read_page(&self, s: &mut State, me: Owner) -> bool {
        let (now, end): (Seconds, Seconds) = match s.ends {
            Ends::Open => (Seconds::new(1), Seconds::new(2)),
            Ends::Over => (Seconds::new(2), Seconds::new(2)),
            Ends::PutOff => (Seconds::new(2), Seconds::new(3)),
        };
        let campaign = PlannableCampaign {
            window: Window { start: Seconds::new(0), end },
            begun: s.cursor.client.is_some(),
            remaining: None,
            size: 1,
        };
        let share = plan(
            now,
            RoundCapacity::rows_only(PAGE),
            None,
            if s.cursor.over { &[] } else { std::slice::from_ref(&campaign) },
        );
        let nothing = share.is_empty() && me.newcomers == 0;
        if nothing || (me.mark.is_none() && self.on(Guard::TailScanFirst)) || s.ends == Ends::Over {
            return false;
        }
        let nobody = PageAhead { page: 0, range: 0, upto: s.cursor, updated: false };
        let usable = me.ahead.filter(|ahead| !(ahead.updated && self.on(Guard::ReadAheadOfSameVersion)));
        let page = share.first().map(|share| usable.unwrap_or_else(|| s.page_after(s.cursor, share.rows)));
        let PageAhead { page, range, upto, .. } = page.unwrap_or(nobody);
        let plan = Plan { page, range, upto, late: 0, checked: 0, copied: false, updated: false, ahead: None };
        s.owner = Some(Owner { plan: Some(plan), ahead: None, ..me });
        true
    }

    /// Reads the page that follows the plan, for the next round.
    fn read_ahead(&self, s: &mut State, mut me: Owner) -> bool {
        let checked = |plan: &&mut Plan| plan.copied || !self.on(Guard::ReadAheadAfterCheck);
        let Some(plan) = me.plan.as_mut().filter(checked).filter(|plan| !plan.upto.over && plan.ahead.is_none()) else {
            return false;
        };
        plan.ahead = Some(s.page_after(plan.upto, PAGE));
        s.owner = Some(me);
        true
    }

    /// The cursor, less what only [`Guard::FinishedPassesAll`] knows.
    fn passed(&self, cursor: Cursor) -> Cursor {
        Cursor { over: cursor.over && self.on(Guard::FinishedPassesAll), ..cursor }
    }

    /// Whether the main pass has passed anybody who could be rescanned.
    fn has_begun(&self, s: &State) -> bool {
        s.cursor.client.is_some() || (s.cursor.over && self.on(Guard::RescanOfNobody))
    }

    /// Passes the audience again; whom it finds is to be checked like whom the tail scan finds.
    fn read_repass(&self, s: &mut State, mut me: Owner) -> bool {
        let asked = (me.first_rescan || s.rescan_due) && me.rescan == Rescan::None;
        let due = asked && s.ends != Ends::Over && self.has_begun(s);
        if !due || (me.mark.is_none() && self.on(Guard::TailScanFirst)) {
            return false;
        }
        let upto = self.passed(s.cursor);
        self.add_newcomers(&mut me, mask(|client| upto.has_passed(client)) & s.audience() & !s.rows);
        me.rescan = Rescan::Read;
        s.owner = Some(me);
        true
    }

    /// The transaction's beginning: newcomers are checked, and what has a row by now is left out.
    fn check_and_copy(&self, s: &mut State, mut me: Owner) -> bool {
        let newcomers = me.newcomers;
        let Some(plan) = me.plan.as_mut().filter(|plan| !plan.copied) else { return false };
        let planned = self.passed(if self.on(Guard::PlannedCursor) { plan.upto } else { s.cursor });
        let on_page = if self.on(Guard::NotOnPage) { plan.page } else { 0 };
        let told = if self.on(Guard::NoRowYet) { s.rows } else { 0 };
        plan.late = newcomers & mask(|client| planned.has_passed(client)) & !on_page & !told;
        if self.on(Guard::PageLessTold) {
            plan.page &= !s.rows;
        }
        plan.checked = newcomers;
        plan.copied = true;
        let collides = (plan.page | plan.late) & s.rows != 0 || plan.page & plan.late != 0;
        if collides && self.on(Guard::UniqueIndex) {
            s.collided = true;
        } else {
            s.told_twice |= collides;
        }
        if !self.on(Guard::ForgottenWhenRecorded) {
            me.newcomers = 0;
        }
        s.owner = Some(me);
        true
    }

    fn seal(&self, s: &mut State, mut me: Owner, replied: bool) -> bool {
        let Some(plan) = me.plan.filter(|plan| plan.copied) else { return false };
        if s.round.is_some() && self.on(Guard::Gate) {
            return false;
        }
        let over = s.ends == Ends::Over && self.on(Guard::EndsAtSeal);
        if over || (plan.updated && self.on(Guard::VersionAtSeal)) {
            me.plan = None;
            s.owner = Some(me);
            return replied;
        }
        let drafts = plan.page | plan.late;
        s.round = Some(Round { drafts, range: plan.range, before: s.cursor });
        s.rows |= drafts;
        s.cursor = plan.upto;
        me.newcomers &= !plan.checked;
        (me.plan, me.ahead) = (None, plan.ahead);
        s.owner = Some(me).filter(|_| replied);
        true
    }

    fn publish(&self, s: &mut State, replied: bool) -> bool {
        let Some(round) = s.round.take() else { return false };
        let late = s.ends == Ends::Over && round.drafts != 0;
        if late && self.on(Guard::EndsBeforePublication) {
            return false;
        }
        s.begun_late |= late;
        let by_range = if self.on(Guard::PublishedByClient) { 0 } else { round.range & s.rows };
        s.told_twice |= s.out & (round.drafts | by_range) != 0;
        s.out |= round.drafts | by_range;
        s.complete |= s.cursor.over;
        if !replied {
            s.owner = None;
        }
        true
    }

    /// At the takeover: what has ended is taken out of the recorded round, and the rest, nothing, is published.
    fn withdraw(&self, s: &mut State, replied: bool) -> bool {
        let Some(round) = s.round.take().filter(|round| s.ends == Ends::Over && round.drafts != 0) else {
            return false;
        };
        let by_range = if self.on(Guard::WithdrawnByClient) { 0 } else { round.range };
        let stay = if s.answered && self.on(Guard::AnswersStay) { ANSWERS } else { 0 };
        s.rows &= !((round.drafts | by_range) & !stay);
        if self.on(Guard::CursorPutBack) {
            s.cursor = round.before;
        }
        self.enter(s);
        if !replied {
            s.owner = None;
        }
        true
    }
}
