//! What happens to the lane's model from outside: servers, time and operators.

use super::Action;
use super::state::*;

/// What no instance does.
pub(super) fn outside(s: &mut State, action: Action) -> bool {
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
pub(super) fn fail_over(s: &mut State) {
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
pub(super) fn commit(s: &mut State) {
    if let Some(txn) = s.kafka.txn.take() {
        let content = if txn.mark_only { 0 } else { txn.head.content };
        s.told_twice |= s.kafka.out & content != 0;
        s.kafka.out |= content;
        if txn.offsets.is_some() {
            s.kafka.mark = txn.offsets;
        }
    }
}

/// The instance goes on without its transaction.
pub(super) fn leave(s: &mut State, who: usize) {
    s.copying[who] = s.copying[who].map(|tx| Copying { orphan: true, ..tx });
}
