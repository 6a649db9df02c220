//! Random lives of the real lanes in a simulated world: each is decided by its seed alone, and each must keep promises 1 to 5.
//!
//!     cargo test --workspace --release --features fail-points --test simulation
//!     DINNERBELL_SEED=123 cargo test --workspace --release --features fail-points --test simulation random_lives -- --nocapture

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../../tests/contract/mod.rs"]
mod contract;
#[path = "../../../../tests/contract/simulated.rs"]
mod contract_simulated;
mod guards;
mod instance;
mod life;
mod orders;
mod plan;
mod promises;
mod proofs;
#[path = "../../../../tests/guards/red.rs"]
mod red;
mod shrink;
mod steered;
mod trace;

use dinnerbell_core::guard::Guards;
use plan::Plan;

/// Most broken seeds that are shown.
const MAX_SHOWN: usize = 3;

/// From here on what the lanes log is printed.
fn show_log() {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    // Another test may have had it printed already.
    let _ = log.without_time().with_target(false).try_init();
}

/// Lives the seeds one after the other; says what those break that break something, with the fewest events that were found to do it, and how to
/// live them again.
fn live_all(seeds: impl Iterator<Item = u64>) {
    let guards = guards::of_process();
    let lives = seeds.map(|seed| {
        let plan = Plan::of(seed);
        let kept = shrink::kept(&plan);
        (seed, life::live_through(plan.with_only(&kept), seed, guards), kept)
    });
    let most = if guards == Guards::default() { MAX_SHOWN } else { 1 };
    let broken = lives.filter(|(_, broken, _)| !broken.is_empty()).take(most);
    let broken: Vec<String> = broken.map(|(seed, broken, kept)| shown(seed, &broken, kept, guards)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A life that breaks something, and the shortest that was found.
fn shown(seed: u64, broken: &[String], kept: Vec<usize>, guards: Guards) -> String {
    let of = kept.len();
    let kept = shrink::shortest(seed, kept, guards);
    let events = Plan::of(seed).with_only(&kept).events;
    let events: Vec<String> = events.iter().map(|(at, event)| format!("{at:?} {event:?}")).collect();
    format!(
        "seed {seed} breaks promises:\n  {}\n{} of its {of} events are enough:\n  {}\nlive it again: {}\n",
        broken.join("\n  "),
        kept.len(),
        events.join("\n  "),
        shrink::command(seed, &kept, guards)
    )
}

/// How many lives there are, unless `DINNERBELL_LIVES` says it: `make check` has half of them.
const RANDOM_LIVES: u64 = 400;

/// `DINNERBELL_SEED` names a single one: it is lived with its plan and its log. `DINNERBELL_EVENTS` keeps some of its events alone.
#[test]
fn random_lives_keep_every_promise() {
    let lives =
        std::env::var("DINNERBELL_LIVES").ok().map(|lives| lives.parse().expect("DINNERBELL_LIVES is a number"));
    let Ok(seed) = std::env::var("DINNERBELL_SEED") else { return live_all(0..lives.unwrap_or(RANDOM_LIVES)) };
    let seed = seed.parse().expect("DINNERBELL_SEED is a number");
    show_log();
    let plan = Plan::of(seed);
    let kept = shrink::kept(&plan);
    println!("{:#?}", plan.with_only(&kept));
    live_all(std::iter::once(seed));
}

/// Lives that once broke a promise: a former owner took in records between the reading of the watermarks and the acquisition, and the new one
/// halted as if the topic had been replaced (1975). An owner whose last round was withdrawn as a whole said how far the lane is, which a pause
/// does not stop (2398).
#[test]
fn lives_that_once_broke_a_promise_keep_it() {
    live_all([1975, 2398].into_iter());
}

/// The larger run of `make prove`; `DINNERBELL_SEEDS=first..end` names other seeds, `DINNERBELL_WITHOUT` a guard that is taken out.
#[test]
#[ignore = "takes minutes"]
fn many_random_lives_keep_every_promise() {
    let seeds = std::env::var("DINNERBELL_SEEDS").unwrap_or_else(|_| "1000..11000".to_owned());
    let (first, end) = seeds.split_once("..").expect("DINNERBELL_SEEDS is first..end");
    live_all(first.parse().unwrap()..end.parse().unwrap());
}
