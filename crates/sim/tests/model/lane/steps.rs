//! The steps of an instance in the lane's model.

use uuid::Uuid;

use dinnerbell_core::model::mark::{CommittedMark, CommittedOffset};
use dinnerbell_core::model::number::Seq;
use dinnerbell_core::model::reconcile::{LedgerSide, Reconciled, reconcile};

use super::guards::Guard;
use super::outside::{commit, leave};
use super::state::State;
use super::state::{
    At, CLIENTS, Copying, DEAD_LETTER, DOWN, Epoch, FIRST, Head, Instance, Maker, PAGES, Publishing, Txn, Window,
    page_of,
};
use super::{LaneModel, Step};

impl LaneModel {
    /// Takes the lane over again: nothing in memory survives, and an open transaction is left to the server.
    pub(super) fn start_again(&self, s: &mut State, who: usize) -> bool {
        let me = &mut s.instances[who];
        let producer = if self.on(Guard::FreshProducer) { Maker::None } else { me.producer };
        let at = if self.on(Guard::EpochBeforeInit) { At::Acquire } else { At::Init };
        let head = if self.on(Guard::ReadBack) { FIRST } else { me.head };
        *me = Instance { at, producer, head, ..DOWN };
        leave(s, who);
        true
    }

    /// As [`Self::start_again`], after an error that says that the producer is of no use.
    pub(super) fn start_again_fenced(&self, s: &mut State, who: usize) -> bool {
        s.instances[who].producer = Maker::None;
        self.start_again(s, who)
    }

    pub(super) fn step(&self, s: &mut State, who: usize, step: Step) -> bool {
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

    pub(super) fn way_in(&self, s: &mut State, who: usize, step: Step) -> bool {
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
                // A read that waits in vain for another's transaction ends in an error, and that in another takeover.
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

    pub(super) fn acquire(&self, s: &mut State, who: usize, then: At) -> bool {
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

    pub(super) fn read_mark(s: &mut State, who: usize) -> bool {
        let me = &mut s.instances[who];
        let ledger = Uuid::nil();
        let ours = LedgerSide {
            ledger,
            head: me.head.real(),
            previous: me.previous.map(Head::real),
            published: me.published.map(|seq| Seq::new(seq.into())),
            compared: true,
        };
        let theirs = s.kafka.mark.map_or(CommittedOffset::None, |head| {
            CommittedOffset::Mark(CommittedMark { ledger, version: head.real() })
        });
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

    pub(super) fn withdraw(&self, s: &mut State, who: usize, replied: bool) -> bool {
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

    pub(super) fn run(&self, s: &mut State, who: usize, step: Step) -> bool {
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

    pub(super) fn take_in(&self, s: &mut State, who: usize, replied: bool) -> bool {
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
    pub(super) fn copy(&self, s: &mut State, who: usize) -> bool {
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
    pub(super) fn seal(&self, s: &mut State, who: usize, replied: bool) -> bool {
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

    pub(super) fn publish(&self, s: &mut State, who: usize, step: Step) -> bool {
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
                !self.on(Guard::BrokenConnectionEndsProducer) || self.start_again_fenced(s, who)
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
