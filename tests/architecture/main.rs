//! What may import what. The layers are listed from the ground up; a module imports its own layer and those below it, and no two modules
//! import each other, on whatever way round. And the documents name what is there.

mod documents;
mod imports;

use std::collections::{BTreeMap, BTreeSet};

use imports::{Imports, of_source};

/// From the ground up: what stands in one line may be imported by that line and by all lines below it.
const LAYERS: &[&[&str]] = &[
    &["backoff", "fail_point", "guard", "shutdown", "text_table"],
    &["model"],
    &["ports", "config", "recovery"],
    &["telemetry", "lane", "instance"],
    &["kafka"],
    &["postgres"],
    &["simulation", "operator"],
    &["verify", "doctor", "service"],
    &["demo", "bench"],
    &["cli"],
    &["main"],
];

/// Circles that are still to be cut: one module of each.
const STILL_THERE: [&str; 2] = ["lane::context", "simulation::world"];

#[test]
fn no_module_imports_one_that_imports_it() {
    let mut circles = circles(&of_source());
    circles.retain(|circle| !STILL_THERE.iter().any(|known| circle.contains(*known)));
    assert!(circles.is_empty(), "these modules import one another in a circle: {circles:#?}");
}

#[test]
fn every_module_imports_its_own_layer_and_lower_ones_alone() {
    let imports = of_source();
    let layer = |module: &str| {
        let room = module.split("::").next().expect("split gives at least one part");
        LAYERS
            .iter()
            .position(|rooms| rooms.contains(&room))
            .unwrap_or_else(|| panic!("{room} has no layer: add it to LAYERS"))
    };
    let upward: Vec<_> = imports
        .iter()
        .flat_map(|(from, into)| into.iter().map(move |to| (from, to)))
        .filter(|(from, to)| layer(to) > layer(from))
        .collect();
    assert!(upward.is_empty(), "these imports go up: {upward:#?}");
}

#[test]
fn a_circle_of_three_is_found() {
    let arrows = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")];
    let mut imports = Imports::new();
    for (from, to) in arrows {
        imports.entry(from.to_owned()).or_default().insert(to.to_owned());
    }
    let all: BTreeSet<String> = ["a", "b", "c"].map(str::to_owned).into();
    assert_eq!(circles(&imports), [all]);
}

/// Sets of modules that all reach one another.
fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        imports.keys().map(|from| (from, reach(imports, from))).collect();
    let mut circles: Vec<BTreeSet<String>> = Vec::new();
    for (module, into) in &reached {
        let mutual = |other: &&&String| reached.get(**other).is_some_and(|back| back.contains(module));
        let circle: BTreeSet<String> = into.iter().filter(mutual).map(|other| (*other).clone()).collect();
        if !circle.is_empty() && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

/// Everything that a module reaches by imports; itself only if it is in a circle.
fn reach<'a>(imports: &'a Imports, from: &String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = imports.get(from).into_iter().flatten().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(imports.get(module).into_iter().flatten());
        }
    }
    reached
}
