//! Which module of the workspace imports which, read from the text: every path that begins with `crate::`, `super::`, `self::` or the name of
//! one of our crates, outside of comments and of tests. rustfmt keeps the text such that this is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// For each module, those that it imports. A module's name begins with its crate: `core::model::draft`.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

type Files = BTreeMap<Vec<String>, PathBuf>;

/// The imports of the whole source.
pub fn of_source() -> Imports {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut all = Files::new();
    add(&mut all, "dinnerbell", &root.join("src"));
    for entry in fs::read_dir(root.join("crates")).expect("the crates can be listed") {
        let folder = entry.expect("an entry of the folder can be read").path();
        let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        add(&mut all, &name, &folder.join("src"));
    }
    assert!(all.len() > 100, "the source stands in {}", root.display());
    let mut imports = Imports::new();
    for (module, file) in &all {
        let text = fs::read_to_string(file).expect("a file of the source can be read");
        let into = imports.entry(module.join("::")).or_default();
        for path in paths(&without_tests_and_comments(&text)) {
            let imported = resolve(module, &path).and_then(|path| longest(&all, path));
            into.extend(imported.filter(|imported| imported != module).map(|imported| imported.join("::")));
        }
    }
    // What a crate's root says of its own modules is their list, and theirs of it are its re-exports.
    for (module, into) in &mut imports {
        into.retain(|imported| {
            module.contains("::") && imported.contains("::")
                || !module.contains("::") && !imported.starts_with(module.as_str())
        });
    }
    imports
}

fn add(all: &mut Files, name: &str, root: &Path) {
    for file in files(root) {
        let inside = file.strip_prefix(root).expect("the file stands in the folder").with_extension("");
        let mut parts = vec![name.to_owned()];
        parts.extend(inside.iter().map(|part| part.to_string_lossy().into_owned()));
        if parts.last().is_some_and(|last| last == "mod") || (parts.len() == 2 && parts[1] == "lib") {
            parts.pop();
        }
        all.insert(parts, file);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the source can be read");
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry of it can be read").path()) {
        match path.is_dir() {
            true => found.extend(files(&path)),
            // A file of tests is part of no layer.
            false if path.ends_with("tests.rs") || path.extension().is_none_or(|extension| extension != "rs") => {}
            false => found.push(path),
        }
    }
    found
}

fn without_tests_and_comments(text: &str) -> String {
    let code = text.find("#[cfg(test)]\nmod ").map_or(text, |tests| &text[..tests]);
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// All paths that begin in one of our crates; those in braces one by one.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::", "dinnerbell_"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
                expand(&code[at..], &mut Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Follows a path, and each of those that braces hold; returns what is left of the code.
fn expand<'a>(code: &'a str, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let depth = before.len();
    let mut rest = code;
    loop {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        if !word.is_empty() {
            before.push(word.to_owned());
        }
        match behind.strip_prefix("::") {
            Some(behind) if behind.starts_with('{') => {
                rest = group(&behind[1..], before, found);
                break;
            }
            Some(behind) if !behind.starts_with('<') => rest = behind,
            _ => {
                found.push(before.clone());
                rest = behind;
                break;
            }
        }
    }
    before.truncate(depth);
    rest
}

fn group<'a>(code: &'a str, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let mut rest = code;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if let Some(behind) = rest.strip_prefix('}') {
            return behind;
        }
        let left = expand(rest, before, found);
        // A glob, or a new name.
        rest = left.trim_start_matches(|c: char| c != ',' && c != '}');
        if rest.is_empty() {
            return rest;
        }
    }
}

/// The path from the workspace's root; none for a path that leaves it.
fn resolve(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let first = path.first()?;
    if let Some(name) = first.strip_prefix("dinnerbell_") {
        return Some(std::iter::once(name.to_owned()).chain(path[1..].iter().cloned()).collect());
    }
    let mut from = match first.as_str() {
        "crate" => module[..1].to_vec(),
        _ => module.to_vec(),
    };
    for word in path {
        match word.as_str() {
            "crate" | "self" => {}
            "super" => drop(from.pop()?),
            word => from.push(word.to_owned()),
        }
    }
    Some(from)
}

/// The longest beginning of a path that is a module.
fn longest(all: &Files, mut path: Vec<String>) -> Option<Vec<String>> {
    while !path.is_empty() && !all.contains_key(&path) {
        path.pop();
    }
    (!path.is_empty()).then_some(path)
}
