//! What the owners of lanes do, and an operator.

use dinnerbell_core::model::halt::CommitLoss;
use dinnerbell_core::model::mark::{CommittedMark, CommittedOffset};
use dinnerbell_core::model::number::Seq;
use dinnerbell_core::model::reconcile::{LedgerSide, Reconciled, reconcile};
use dinnerbell_core::recovery::decide::{Decision, Evidence, LastRound, decide};
use uuid::Uuid;

use super::{At, CLIENTS, DOWN, Guard, LaneRow, LossesModel, Owner, Partition, Publishing, Round, State, Step, Txn};

impl LossesModel {
    /// The model less some guards.
    pub fn new(without: &[Guard]) -> Self {
        Self { without: without.iter().fold(0, |bits, &guard| bits | 1 << guard as u32) }
    }

    fn on(&self, guard: Guard) -> bool {
        self.without & (1 << guard as u32) == 0
    }

    fn mine(&self, me: &Owner) -> bool {
        me.is_current && (me.same_server || !self.on(Guard::Postmaster))
    }

    fn is_held(&self, s: &State) -> bool {
        !s.ledger.compared && self.on(Guard::HeldUntilCompared)
    }

    pub(super) fn step(&self, s: &mut State, lane: usize, step: Step) -> bool {
        let fence_first = self.on(Guard::FencedBeforeCompared);
        match (step, s.owners[lane].at) {
            (Step::Enter, At::Down) if !s.ledger.lanes[lane].halted => {
                let row = s.ledger.lanes[lane];
                let at = if fence_first { At::Fence } else { At::Compare };
                let (owns, rows) = (s.ledger.owner == Some(number(lane)), s.ledger.rows);
                s.owners[lane] =
                    Owner { at, is_current: true, same_server: true, stands: true, row, owns, rows, ..DOWN };
                true
            }
            (Step::Fence, At::Fence) => {
                s.kafka[lane].txn = None;
                s.owners[lane].at = if fence_first { At::Compare } else { At::Run };
                self.mine(&s.owners[lane]) || goes(s, lane)
            }
            (Step::Compare, At::Compare) => self.compare(s, lane, if fence_first { At::Run } else { At::Fence }),
            (Step::Crash, at) => at != At::Down && goes(s, lane),
            (Step::LateEnd, _) => {
                let is_late = s.kafka[lane].txn.is_some_and(|txn| txn.late);
                if is_late {
                    s.commit(lane);
                }
                is_late
            }
            (Step::Resolve, _) => s.ledger.lanes[lane].halted && self.resolve(s, lane),
            (_, At::Run) => self.run(s, lane, step),
            _ => false,
        }
    }

    /// What the takeover makes of both sides; the ledger learns that no commits of the lane are missing.
    fn compare(&self, s: &mut State, lane: usize, then: At) -> bool {
        let me = s.owners[lane];
        let compared = me.row.compared || !self.on(Guard::ComparedBeforeRestore);
        let decided = reconciled(&me.row, compared, &committed(&s.kafka[lane]));
        let hides_loss = matches!(&decided, Reconciled::Contradiction(kind) if kind.may_hide_loss());
        if !me.row.compared && (!hides_loss || !self.on(Guard::AgreedBeforeNoted)) {
            if !self.mine(&me) {
                return goes(s, lane);
            }
            if me.stands {
                s.note_compared(lane);
            }
        }
        let (publishing, mark_only) = match decided {
            Reconciled::Equal => (Publishing::Idle, false),
            Reconciled::PublishRecorded => (Publishing::Begin, false),
            Reconciled::RestoreMark => (Publishing::Begin, true),
            Reconciled::Contradiction(kind) => {
                if self.mine(&me) {
                    s.ledger.lanes[lane].halted = true;
                    if kind.halt().commit_loss() == CommitLoss::Certain && s.ledger.compared {
                        compare_again(s);
                    }
                }
                return goes(s, lane);
            }
        };
        s.owners[lane] = Owner { at: then, publishing, mark_only, ..me };
        true
    }

    fn run(&self, s: &mut State, lane: usize, step: Step) -> bool {
        let me = s.owners[lane];
        // What it believes to be done already does not bring it to the ledger.
        let writes = match step {
            Step::TakeIn => !me.row.has_taken_in,
            Step::Record => me.publishing == Publishing::Idle && me.owns && me.rows != CLIENTS,
            Step::Note => me.publishing == Publishing::Idle && me.row.published != Some(me.row.round.seq),
            _ => return self.run_beside(s, lane, step),
        };
        if !writes {
            return false;
        }
        let (mine, standing) = (self.mine(&me), s.ledger.lanes[lane]);
        let as_known = standing.round == me.row.round && standing.has_taken_in == me.row.has_taken_in;
        if !mine || !as_known {
            return goes(s, lane);
        }
        let row = &mut s.ledger.lanes[lane];
        match step {
            Step::TakeIn if !s.ledger.compared && self.on(Guard::HeldUntilCompared) => return false,
            Step::TakeIn => {
                row.has_taken_in = true;
                s.ledger.owner = s.ledger.owner.or(Some(number(lane)));
                let owns = s.ledger.owner == Some(number(lane));
                (s.owners[lane].row.has_taken_in, s.owners[lane].owns) = (true, owns);
            }
            Step::Record => record(s, lane),
            _ => {
                (row.published, row.mark_overruled) = (Some(row.round.seq), false);
                s.owners[lane].row.published = row.published;
            }
        }
        true
    }

    /// What the ledger has no part in.
    fn run_beside(&self, s: &mut State, lane: usize, step: Step) -> bool {
        let me = s.owners[lane];
        match (step, me.publishing) {
            (Step::Notice, _) => {
                let waits = self.is_held(s) && !s.ledger.lanes[lane].compared;
                self.on(Guard::OwnershipAtPoll) && (!self.mine(&me) || waits) && goes(s, lane)
            }
            (Step::Produce, Publishing::Begin) => {
                s.kafka[lane].txn = Some(Txn { round: me.row.round, mark_only: me.mark_only, late: false });
                s.owners[lane].publishing = Publishing::Open;
                true
            }
            (Step::Commit, Publishing::Open) => {
                s.commit(lane);
                s.owners[lane] = Owner { publishing: Publishing::Idle, mark_only: false, ..me };
                true
            }
            (Step::CommitDelayed, Publishing::Open) => {
                s.kafka[lane].txn = s.kafka[lane].txn.map(|txn| Txn { late: true, ..txn });
                goes(s, lane)
            }
            _ => false,
        }
    }

    /// What `lane resolve --from-kafka` does.
    fn resolve(&self, s: &mut State, lane: usize) -> bool {
        s.kafka[lane].txn = None;
        let (row, partition) = (s.ledger.lanes[lane], s.kafka[lane]);
        let theirs = committed(&partition);
        let (told, untold) = (row.round.clients & s.told(), row.round.clients & !s.told());
        let newest = (0..partition.told.len()).filter(|&seq| partition.told[seq] != 0).max();
        let decision = decide(&Evidence {
            ours: side(&row, true),
            theirs,
            newest_in_topic: newest.map_or(Seq::FIRST, |seq| Seq::new(number(seq).into())),
            told: told.count_ones().into(),
            untold: untold.count_ones().into(),
            covered: true,
            assumed: None,
        });
        let decision = decision.expect("the topic holds everything");
        if decision.last == LastRound::PublishedInPart {
            s.ledger.rows &= !untold;
        }
        let told = partition.told.iter().fold(0, |told, clients| told | clients);
        if self.on(Guard::RowsPutBack) && told != 0 {
            s.ledger.rows |= told;
            s.ledger.owner = s.ledger.owner.or(Some(number(lane)));
        }
        apply_decision(&mut s.ledger.lanes[lane], &decision);
        s.note_compared(lane);
        true
    }
}

/// The owner is gone, and starts again; what it left open in Kafka stays there.
fn goes(s: &mut State, lane: usize) -> bool {
    s.owners[lane] = DOWN;
    true
}

/// A round of the next client who has no row; an empty page, where the others were told through another lane.
fn record(s: &mut State, lane: usize) {
    let (row, clients) = (&mut s.ledger.lanes[lane], CLIENTS & !s.ledger.rows);
    s.owners[lane].rows = s.ledger.rows;
    if clients == 0 {
        return;
    }
    let round = Round { seq: row.round.seq + 1, clients: 1 << clients.trailing_zeros() };
    let (previous, published) = (Some(row.round), Some(row.round.seq));
    *row = LaneRow { round, previous, published, mark_overruled: false, ..*row };
    s.ledger.rows |= round.clients;
    let me = &mut s.owners[lane];
    (me.row.round, me.row.published, me.rows) = (round, published, s.ledger.rows);
    me.publishing = Publishing::Begin;
}

/// A lane found commits missing: every lane is to be compared again.
fn compare_again(s: &mut State) {
    s.ledger.compared = false;
    s.ledger.lanes.iter_mut().for_each(|row| row.compared = false);
    s.owners.iter_mut().for_each(|owner| owner.stands = false);
}

fn apply_decision(row: &mut LaneRow, decision: &Decision) {
    let round = Round::of(decision.head);
    row.previous = match round.seq - row.round.seq {
        0 => row.previous,
        1 => Some(row.round),
        _ => None,
    };
    row.published = decision.published.map(|seq| u8::try_from(seq.get()).expect("a model's rounds are few"));
    (row.round, row.mark_overruled, row.halted) = (round, decision.mark_overruled, false);
}

fn committed(partition: &Partition) -> CommittedOffset {
    let mark = |round: Round| CommittedOffset::Mark(CommittedMark { ledger: Uuid::nil(), version: round.version() });
    partition.mark.map_or(CommittedOffset::None, mark)
}

fn side(row: &LaneRow, compared: bool) -> LedgerSide {
    LedgerSide {
        ledger: Uuid::nil(),
        head: row.round.version(),
        previous: row.previous.map(Round::version),
        published: row.published.map(|seq| Seq::new(seq.into())),
        compared,
    }
}

/// What follows from the two sides, and from what an operator overruled.
fn reconciled(row: &LaneRow, compared: bool, theirs: &CommittedOffset) -> Reconciled {
    let ours = side(row, compared);
    match (reconcile(&ours, theirs), row.mark_overruled) {
        (Reconciled::Contradiction(_), true) => match reconcile(&ours, &CommittedOffset::None) {
            Reconciled::Contradiction(_) => Reconciled::PublishRecorded,
            decided => decided,
        },
        (decided, _) => decided,
    }
}

fn number(place: usize) -> u8 {
    u8::try_from(place).expect("a model is small")
}
