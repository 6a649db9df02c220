//! A life that breaks a promise is shrunk: events are dropped from its plan for as long as it stays broken.

use std::time::Duration;

use dinnerbell_core::guard::{Guard, Guards};
use dinnerbell_sim::random::Random;

use crate::life::live_through;
use crate::plan::{Event, Plan};

/// Most lives that shrinking takes.
const MAX_TRIES: usize = 200;

/// The fewest events that were found with which the life stays broken, by their places in its plan.
pub fn shortest(seed: u64, kept: Vec<usize>, guards: Guards) -> Vec<usize> {
    let plan = Plan::of(seed);
    let (frame, others): (Vec<usize>, Vec<usize>) = kept.into_iter().partition(|place| is_frame(&plan, *place));
    let together = |others: &[usize]| {
        let mut all = [&frame[..], others].concat();
        all.sort_unstable();
        all
    };
    let is_broken = |others: &[usize]| {
        let fewer = Plan::of(seed).with_only(&together(others));
        !live_through(fewer, seed, guards).is_empty()
    };
    together(&shrink(others, is_broken))
}

/// Without an owner from the beginning a lane does nothing: that breaks promises, and shows nothing.
fn is_frame(plan: &Plan, place: usize) -> bool {
    matches!(&plan.events[place], (Duration::ZERO, Event::Assign { .. }))
}

/// Drops portions, ever smaller ones, while what is left stays broken. At the end it drops one by one, until none can be dropped or there were
/// enough tries.
fn shrink(mut kept: Vec<usize>, mut is_broken: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let (mut tries, mut portion) = (0, kept.len().div_ceil(2));
    while portion > 0 && tries < MAX_TRIES {
        let (mut from, before) = (0, kept.len());
        while from < kept.len() && tries < MAX_TRIES {
            let mut fewer = kept.clone();
            fewer.drain(from..(from + portion).min(kept.len()));
            tries += 1;
            if is_broken(&fewer) {
                kept = fewer;
            } else {
                from += portion;
            }
        }
        // What one needed may be gone with another.
        let once_more = portion == 1 && kept.len() < before;
        portion = if once_more { 1 } else { portion / 2 };
    }
    kept
}

/// How to live it again, with these events alone.
pub fn command(seed: u64, kept: &[usize], guards: Guards) -> String {
    let events: Vec<String> = kept.iter().map(usize::to_string).collect();
    let without: Vec<String> =
        Guard::ALL.iter().filter(|guard| !guards.enabled(**guard)).map(|guard| format!("{guard:?}")).collect();
    let without =
        if without.is_empty() { String::new() } else { format!("{}={} ", Guards::VARIABLE, without.join("+")) };
    format!(
        "{without}DINNERBELL_SEED={seed} DINNERBELL_EVENTS={} cargo test --workspace --release --features fail-points --test simulation random_lives -- \
         --nocapture",
        events.join(",")
    )
}

/// The events that `DINNERBELL_EVENTS` keeps; all, where it does not say.
pub fn kept(plan: &Plan) -> Vec<usize> {
    let Ok(named) = std::env::var("DINNERBELL_EVENTS") else { return (0..plan.events.len()).collect() };
    let places = named.split(',').map(|place| place.parse().expect("DINNERBELL_EVENTS is numbers between commas"));
    places.filter(|place| *place < plan.events.len()).collect()
}

#[test]
fn what_is_left_is_what_breaks() {
    let mut lived = 0;
    let needs = |kept: &[usize]| {
        lived += 1;
        [7, 31].iter().all(|place| kept.contains(place)) && (!kept.contains(&50) || kept.contains(&51))
    };
    assert_eq!(shrink((0..120).collect(), needs), [7, 31]);
    assert!(lived <= MAX_TRIES, "{lived} lives");
    let mut lived = 0;
    let never = |_: &[usize]| {
        lived += 1;
        false
    };
    assert_eq!(shrink((0..3_000).collect(), never).len(), 3_000);
    assert_eq!(lived, MAX_TRIES, "there is an end to the tries");
}

/// What a life breaks with some of its events alone, it does not break by what was left out.
#[test]
fn a_life_with_some_of_its_events_alone_keeps_every_promise() {
    for seed in 0..60 {
        let (plan, mut random) = (Plan::of(seed), Random::new(seed));
        let some = |place: &usize| is_frame(&plan, *place) || random.chance(500);
        let kept: Vec<usize> = (0..plan.events.len()).filter(some).collect();
        let broken = live_through(Plan::of(seed).with_only(&kept), seed, Guards::default());
        assert!(broken.is_empty(), "{}: {broken:?}", command(seed, &kept, Guards::default()));
    }
}

/// A life that is broken since a guard was taken out is left with a few events, and breaks by the command that is printed.
#[test]
fn a_broken_life_is_shrunk_to_a_few_events_that_live_again_by_the_command() {
    let guards = Guards::without(&[Guard::PublishedIsNoted]);
    let is_broken = |seed: &u64| !crate::life::live(*seed, guards).is_empty();
    let seed = (0..100).find(is_broken).expect("one of a hundred lives needs the guard");
    let all: Vec<usize> = (0..Plan::of(seed).events.len()).collect();
    let fewest = shortest(seed, all.clone(), guards);
    assert!(fewest.len() <= 8 && fewest.len() * 3 < all.len(), "{} of {} events: {fewest:?}", fewest.len(), all.len());

    let command = command(seed, &fewest, guards);
    let (variables, _) = command.split_once(" cargo ").expect("the command begins with variables");
    let variables = variables.split(' ').map(|variable| variable.split_once('=').expect("a variable has a value"));
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "random_lives_keep_every_promise"])
        .envs(variables)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(said.contains("breaks promises") && said.contains("1 failed"), "{command}:\n{said}");
}
