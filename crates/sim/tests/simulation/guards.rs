//! Each guard is needed: without it some life breaks a promise, random or steered, or a test on real servers is red (`tests/guards`). Of those
//! that no life was seen to need, it is said why, and lives keep every promise without them.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dinnerbell_core::guard::{Guard, Guards};

use crate::contract_simulated;
use crate::life::live;
use crate::proofs::{PROOFS, Proof};
use crate::red::RED;
use crate::steered::LIVES;

/// Seeds that are lived to find one that breaks a promise.
const MAX_LIVES: u64 = 2_000;
/// Seeds that are lived without a guard that no life was seen to need.
const LIVES_WITHOUT: u64 = 1_000;
/// Guards that are soon missed, and seeds that show it: a part of the proof for every run.
const SOON_MISSED: [Guard; 6] = [
    Guard::PublishedIsNoted,
    Guard::NextChangeWakes,
    Guard::LateAfterTheLastPage,
    Guard::LateLessWhoHasARow,
    Guard::PrimaryKeyDecides,
    Guard::AppliedAndMarkedTogether,
];
const SOON: u64 = 200;
/// Where docs/model.md holds the table.
const BEGIN: &str = "<!-- guards: printed by crates/sim/tests/simulation/guards.rs -->\n";
const END: &str = "<!-- /guards -->";

/// The guards that hold in every life but for the proofs'.
pub fn of_process() -> Guards {
    Guards::of_process()
}

/// The first seed whose life breaks a promise without these; `hint` is lived first.
fn first_broken(without: &[Guard], hint: u64, most: u64) -> Option<(u64, String)> {
    let seeds = std::iter::once(hint).chain(0..most);
    seeds.into_iter().find_map(|seed| Some((seed, live(seed, Guards::without(without)).into_iter().next()?)))
}

/// Proves one thing about a guard; what it found, as an error where it is not as it is said to be.
fn prove(guard: Guard, proof: &Proof) -> Result<String, String> {
    let (without, seed) = match proof {
        Proof::Random(seed) => (vec![guard], *seed),
        Proof::Together(other, seed) => (vec![guard, *other], *seed),
        Proof::NotSeen(_) => {
            return match first_broken(&[guard], 0, LIVES_WITHOUT) {
                None => Ok(format!("{guard:?}: {LIVES_WITHOUT} lives keep every promise")),
                Some((seed, broken)) => Err(format!("{guard:?}: a life needs it after all: seed {seed}: {broken}")),
            };
        }
    };
    match first_broken(&without, seed, MAX_LIVES) {
        Some((found, broken)) if found == seed => Ok(format!("{without:?}: seed {seed}: {broken}")),
        Some((found, broken)) => Ok(format!("{without:?}: seed {found}, and no more {seed}: {broken}")),
        None => Err(format!("{without:?}: {MAX_LIVES} lives keep every promise")),
    }
}

/// `DINNERBELL_WITHOUT` picks some; without it these are all.
fn is_picked(guard: Guard) -> bool {
    of_process() == Guards::default() || !of_process().enabled(guard)
}

/// The whole proof; as many at a time as there are processors. It prints what it found, and the table.
#[test]
#[ignore = "takes half an hour"]
fn each_guard_is_needed_as_its_proof_says() {
    let picked = PROOFS.iter().filter(|(guard, _)| is_picked(*guard));
    let proofs = picked.flat_map(|(guard, proofs)| proofs.iter().map(move |proof| (*guard, proof)));
    let mut proofs: Vec<_> = proofs.collect();
    // What takes longest comes last.
    proofs.sort_by_key(|(_, proof)| matches!(proof, Proof::NotSeen(_)));
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((guard, proof)) = proofs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = prove(*guard, proof);
                    println!("without {}", found.as_ref().unwrap_or_else(|wrong| wrong));
                    wrong.lock().unwrap().extend(found.err());
                }
            });
        }
    });
    println!("{}", table());
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn guards_that_are_soon_missed_are_missed() {
    for guard in SOON_MISSED {
        assert!(first_broken(&[guard], 0, SOON).is_some(), "without {guard:?} the seeds 0..{SOON} keep every promise");
    }
}

/// Whether it stands in the ledger's SQL or in Kafka: each of those is tried by the contract suite, too.
fn is_of_servers(guard: Guard) -> bool {
    guard >= Guard::EpochAtBegin
}

/// Everything that is known of a guard, for the table.
fn known(guard: Guard) -> Vec<String> {
    let names = |others: &[Guard]| -> String {
        let names: Vec<_> = others.iter().map(|guard| format!("`{guard:?}`")).collect();
        names.join(", ")
    };
    let proofs = PROOFS.iter().filter(|(of, _)| *of == guard).flat_map(|(_, proofs)| proofs.iter());
    let mut known: Vec<String> = proofs
        .map(|proof| match proof {
            Proof::Random(seed) => format!("random lives break a promise ({seed})"),
            Proof::Together(other, seed) => format!("random lives, `{other:?}` out too ({seed})"),
            Proof::NotSeen(why) => format!("not seen in a random life: {why}"),
        })
        .collect();
    for life in LIVES.iter().filter(|life| life.without.contains(&guard)) {
        let others: Vec<Guard> = life.without.iter().copied().filter(|other| *other != guard).collect();
        let together = if others.is_empty() { String::new() } else { format!(", {} out too", names(&others)) };
        known.push(format!("steered{together}: {}", life.shows));
    }
    if is_of_servers(guard) && !contract_simulated::NOT_SEEN.contains(&guard) {
        known.push("red in the contract suite".to_owned());
    }
    let red = RED.iter().filter(|(of, _)| *of == guard);
    known.extend(red.map(|(_, test)| format!("red on real servers: `{test}`")));
    known
}

/// What docs/model.md holds.
fn table() -> String {
    let mut table = "| guard | what it does | without it |\n| --- | --- | --- |\n".to_owned();
    for guard in Guard::ALL {
        let known = known(*guard).join("; ");
        writeln!(table, "| `{guard:?}` | {} | {known} |", guard.what()).unwrap();
    }
    table
}

#[test]
fn each_guard_has_a_proof_or_the_reason_why_there_is_none() {
    let bare: Vec<_> = Guard::ALL.iter().filter(|guard| known(**guard).is_empty()).collect();
    assert!(bare.is_empty(), "nothing is known of {bare:?}");
    let listed: Vec<_> = PROOFS.iter().map(|(guard, _)| *guard).collect();
    assert!(listed.is_sorted_by(|one, next| one < next), "in the order of the guards, each once: {listed:?}");
}

#[test]
fn the_documents_table_of_guards_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/model.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, behind) = text.split_once(BEGIN).expect("docs/model.md says where the table begins");
    let (shown, _) = behind.split_once(END).expect("docs/model.md says where it ends");
    assert!(shown.trim() == table().trim(), "between its marks docs/model.md is to hold this:\n{}", table());
}
