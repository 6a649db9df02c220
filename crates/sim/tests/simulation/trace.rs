//! One seed decides one life: lived twice, it leaves the same trace, event by event, and the same world.

use dinnerbell_core::guard::Guards;
use dinnerbell_sim::world::Traced;

use crate::life::live_and_look;
use crate::plan::Plan;

/// Lives that are lived twice: of each kind there are some.
const LIVES: u64 = 40;
/// No life leaves fewer events than this.
const FEWEST: usize = 200;

/// Each request of a life, with its time and its outcome; and what it left in both sinks and the ledger.
fn trace_of(seed: u64) -> (Vec<Traced>, String) {
    let (broken, (trace, left)) = live_and_look(Plan::of(seed), seed, Guards::default(), |state| {
        let left = format!("{:#?}\n{:#?}", state.database.campaigns, state.kafka.notifications);
        (std::mem::take(&mut state.trace), left)
    });
    (trace, format!("{left}\n{broken:#?}"))
}

#[test]
fn a_seed_that_is_lived_twice_leaves_the_same_trace() {
    for seed in 0..LIVES {
        let ((once, left_once), (again, left_again)) = (trace_of(seed), trace_of(seed));
        assert!(once.len() > FEWEST, "seed {seed} leaves a trace of {} events", once.len());
        if let Some(at) = once.iter().zip(&again).position(|(one, other)| one != other) {
            let around = |trace: &[Traced]| format!("{:#?}", &trace[at.saturating_sub(3)..trace.len().min(at + 2)]);
            panic!("seed {seed} differs at event {at}, once:\n{}\nand again:\n{}", around(&once), around(&again));
        }
        assert_eq!(once.len(), again.len(), "seed {seed} goes on longer once than again");
        let differs = left_once.lines().zip(left_again.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "what is left by seed {seed}");
    }
}
