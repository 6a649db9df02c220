//! The protocol as explicit-state models, before and beside the code. See docs/model.md.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "how long a model takes is printed")]

mod changes;
mod check;
mod lane;
mod losses;
mod pages;

use std::fmt::Debug;
use std::time::Instant;

use check::{Protocol, Without, agrees_with_stateright, first_broken, visit};

/// Every promise holds in every state, a good run can complete from each, and what should happen at times does.
fn holds<M: Protocol>(name: &str, model: &M) -> usize {
    let begun = Instant::now();
    let visit = visit(model);
    println!("{name}: {} states, {:.1?}", visit.states, begun.elapsed());
    if let Some(broken) = visit.broken {
        panic!("{name}: {broken}");
    }
    assert!(visit.unseen.is_empty(), "{name}: never seen: {:?}", visit.unseen);
    visit.states
}

/// Each guard that is needed, taken out alone, breaks the promise that the table names; the others, all taken out together, none.
fn every_guard<G: Debug + Copy, M: Protocol>(table: &[(G, Without)], models: impl Fn(&[G]) -> Vec<M>) {
    let mut wrong = Vec::new();
    let mut assertions = Vec::new();
    for &(guard, without) in table {
        let Without::Breaks(promise) = without else {
            assertions.push(guard);
            continue;
        };
        let begun = Instant::now();
        let visit = first_broken(&models(&[guard]));
        let found = visit.broken.as_ref().map(|broken| broken.promise);
        let trace = visit.broken.as_ref().map(ToString::to_string).unwrap_or_default();
        println!("without {guard:?}, after {} states, {:.1?}: {trace}", visit.states, begun.elapsed());
        if found != Some(promise) {
            wrong.push(format!("without {guard:?} the table says {promise:?}, found {found:?}: {trace}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if !assertions.is_empty() {
        let whole = models(&assertions).pop().expect("the whole model comes last");
        holds(&format!("without {assertions:?}"), &whole);
    }
}

/// `make check` leaves it out: it is about the checker, not about the protocol.
#[test]
fn stateright_visits_the_same_states_and_finds_the_same_promises_kept() {
    let lane = lane::LaneModel::new(&[], false);
    agrees_with_stateright(lane, holds("lane", &lane));
    let pages = pages::PagesModel::new(&[], false);
    agrees_with_stateright(pages, holds("pages", &pages));
    let changes = changes::ChangesModel::new(&[], false);
    agrees_with_stateright(changes, holds("changes", &changes));
    let losses = losses::LossesModel::new(&[]);
    agrees_with_stateright(losses, holds("losses", &losses));
}

#[test]
fn one_lane_keeps_every_promise() {
    holds("lane", &lane::LaneModel::new(&[], false));
}

#[test]
fn every_guard_of_one_lane_is_needed_or_called_an_assertion() {
    every_guard(lane::GUARDS, |without| [true, false].map(|calm| lane::LaneModel::new(without, calm)).to_vec());
}

#[test]
fn pages_keep_every_promise() {
    holds("pages, inserts in order", &pages::PagesModel::new(&[], true));
    holds("pages", &pages::PagesModel::new(&[], false));
}

#[test]
fn every_guard_of_pages_is_needed_or_called_an_assertion() {
    every_guard(pages::GUARDS, |without| {
        [true, false].map(|orderly| pages::PagesModel::new(without, orderly)).to_vec()
    });
}

#[test]
fn changes_keep_every_promise() {
    holds("changes", &changes::ChangesModel::new(&[], false));
}

#[test]
fn every_guard_of_changes_is_needed_or_called_an_assertion() {
    every_guard(changes::GUARDS, |without| [true, false].map(|few| changes::ChangesModel::new(without, few)).to_vec());
}

#[test]
fn losses_keep_every_promise() {
    holds("losses", &losses::LossesModel::new(&[]));
}

#[test]
fn every_guard_of_losses_is_needed_or_called_an_assertion() {
    every_guard(losses::GUARDS, |without| vec![losses::LossesModel::new(without)]);
}
