//! What may import what. The layers are listed from the ground up; a module imports its own layer and those below it, and no two modules
//! import each other, on whatever way round. And the documents name what is there.

mod documents;
mod imports;

use std::collections::{BTreeMap, BTreeSet};

use imports::{Imports, of_source};

/// From the ground up: what stands in one line may be imported by that line and by all lines below it. Of the core it is each folder, of the
/// other crates the whole.
const LAYERS: &[&[&str]] = &[
    &["core::backoff", "core::fail_point", "core::guard", "core::periodic", "core::shutdown", "core::text_table"],
    &["core::model"],
    &["core::ports", "core::recovery"],
    &["core::telemetry", "core::lane", "core::instance"],
    &["net"],
    &["token"],
    &["config"],
    &["wire"],
    &["kafka", "postgres", "sim"],
    &["bench"],
    &["dinnerbell"],
];

#[test]
fn no_module_imports_one_that_imports_it() {
    let circles = circles(&of_source());
    assert!(circles.is_empty(), "these modules import one another in a circle: {circles:#?}");
}

#[test]
fn every_module_imports_its_own_layer_and_lower_ones_alone() {
    let mut imports = of_source();
    imports.remove("core");
    let layer = |module: &str| {
        let mut parts = module.split("::");
        let name = parts.next().expect("split gives at least one part");
        let room = if name == "core" { format!("core::{}", parts.next().unwrap_or_default()) } else { name.to_owned() };
        LAYERS
            .iter()
            .position(|rooms| rooms.contains(&room.as_str()))
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
