//! The documents against the repository: a link leads somewhere, and a file that is named is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use dinnerbell_core::model::halt::HaltKind;

/// What is of its day, and names files and tests as they were.
const OF_THEIR_DAY: [&str; 2] = ["CHANGELOG.md", "decisions/"];

/// Pages whose words in backticks are those of the source.
const OF_THE_SOURCE: [&str; 7] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/design.md",
    "docs/glossary.md",
    "docs/model.md",
    "docs/pictures.md",
    "docs/verification.md",
];

/// What is searched for a word that a page names.
const SOURCE: [&str; 7] = ["src", "crates", "tests", "benches", "scripts", "docs/alerts.yml", "clippy.toml"];

/// Where the documents stand.
const FOLDERS: [&str; 3] = ["", "docs", "docs/decisions"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The documents, by their paths in the repository.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(root().join(folder)).expect("a folder of documents can be read");
        let paths = entries.map(|entry| entry.expect("an entry of it can be read").path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

/// The documents that are true of the repository as it is now.
fn pages_of_today() -> impl Iterator<Item = PathBuf> {
    let dated = |path: &Path| OF_THEIR_DAY.iter().any(|name| path.to_string_lossy().contains(name));
    documents().into_iter().filter(move |path| !dated(path))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines that are text: none of a block of code.
fn text(page: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence && !line.starts_with("    ")
    })
}

/// Where the links of a line lead.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// What stands in backticks in a line, if it is the path of a file or a folder.
fn named_files(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|word| {
        let path = word.contains('/') && (word.ends_with(".rs") || word.ends_with(".md") || word.ends_with('/'));
        path && !word.contains([' ', '*', '<', '{', '…', ':']) && !word.starts_with('/') && !word.contains("NAME")
    })
}

/// The anchors of a page, as GitHub makes them of its headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = text(page).filter_map(|line| line.strip_prefix('#')).map(|rest| rest.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept =
            heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let page = read(&document);
        for link in text(&page).flat_map(links).filter(|link| !link.starts_with("http")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().expect("a document stands in a folder").join(path),
            };
            let leads = target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !leads {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere: {broken:#?}");
}

/// Whether a file that a document names is there: named from the repository, from the program's source or the core's, from a folder of tests,
/// or from a crate by the crate's name.
fn is_there(name: &str) -> bool {
    let of_a_crate = name.split_once('/').map(|(name, rest)| root().join("crates").join(name).join("src").join(rest));
    let from = ["", "src", "crates/core/src", "tests", "crates/sim/tests"];
    from.iter().map(|folder| root().join(folder).join(name)).chain(of_a_crate).any(|path| path.exists())
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let (mut missing, mut there) = (Vec::new(), 0);
    for document in pages_of_today() {
        for name in text(&read(&document)).flat_map(named_files) {
            // What a build makes is not in the repository.
            match name == "target/" || is_there(name) {
                true => there += 1,
                false => missing.push(format!("{}: {name}", document.display())),
            }
        }
    }
    assert!(there > 100, "only {there} files are named");
    assert!(missing.is_empty(), "these are not there: {missing:#?}");
}

/// Every word of the source.
fn words_of_the_source() -> BTreeSet<String> {
    let (mut words, mut left) = (BTreeSet::new(), SOURCE.map(|path| root().join(path)).to_vec());
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder of the source can be read");
            left.extend(entries.map(|entry| entry.expect("an entry of it can be read").path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            words.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
        }
    }
    words
}

/// The names of items in backticks in a line: of two words or more, or with a path. A `…` stands for the beginning of a name. Metrics are left
/// out, since their names are put together.
fn named_items(line: &str) -> impl Iterator<Item = &str> {
    let names = line.split('`').skip(1).step_by(2).map(|word| word.trim_start_matches('…'));
    names.filter(|word| {
        let name =
            word.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':') && !word.starts_with("dinnerbell_");
        let camel = word.chars().skip(1).any(char::is_uppercase) && word.contains(char::is_lowercase);
        name && (camel || word.contains('_') || word.contains("::"))
    })
}

/// The names of tests that a line holds as sentences between quotation marks.
fn quoted_tests(line: &str) -> impl Iterator<Item = String> {
    let quoted = line.split('"').skip(1).step_by(2).filter(|text| text.starts_with(|c: char| c.is_ascii_lowercase()));
    let words = quoted.map(|text| text.replace('\'', "").to_lowercase().replace(|c: char| !c.is_alphanumeric(), " "));
    words
        .filter(|text| text.split_whitespace().count() > 4)
        .map(|text| text.split_whitespace().collect::<Vec<_>>().join("_"))
}

#[test]
fn every_item_and_test_that_a_page_about_the_source_names_is_there() {
    let words = words_of_the_source();
    let is_word =
        |name: &str| words.contains(name) || name.contains('_') && words.iter().any(|word| word.ends_with(name));
    let (mut missing, mut there) = (Vec::new(), 0);
    for document in OF_THE_SOURCE {
        let page = read(&root().join(document));
        let items = text(&page).flat_map(named_items).map(str::to_owned);
        for name in items.chain(text(&page).flat_map(quoted_tests)) {
            match name.split("::").all(is_word) {
                true => there += 1,
                false => missing.push(format!("{document}: {name}")),
            }
        }
    }
    assert!(there > 200, "only {there} items are named");
    assert!(missing.is_empty(), "these are not there: {missing:#?}");
}

#[test]
fn every_folder_of_the_source_has_its_row_in_the_map() {
    let map = read(&root().join("ARCHITECTURE.md"));
    let of = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).expect("the source can be read");
        entries.map(|entry| entry.expect("an entry of it can be read").path()).filter(|path| path.is_dir())
    };
    let folders = of("src").chain(of("crates")).chain(of("crates/core/src"));
    let without_row: Vec<_> = folders
        .map(|folder| folder.file_name().expect("a folder has a name").to_string_lossy().into_owned())
        .filter(|name| !map.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{name}/`"))))
        .collect();
    assert!(without_row.is_empty(), "ARCHITECTURE.md has no row for {without_row:?}");
}

#[test]
fn a_page_without_the_heading_has_no_such_anchor() {
    let page = "# One\n\n## The `way` of a campaign, and its end\n\n```\n# none\n```\n";
    assert_eq!(anchors(page), ["one", "the-way-of-a-campaign-and-its-end"].map(str::to_owned).into());
}

/// The rows of the table of halts in docs/commands.md: the names, what happened, what resolves it.
fn documented_halts(page: &str) -> Vec<(Vec<&str>, &str, &str)> {
    let rows = page.lines().skip_while(|line| !line.starts_with("| halt |")).skip(2);
    let cells = rows.take_while(|line| line.starts_with('|')).map(|line| {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let mut cell = || cells.next().expect("the table has three columns");
        (cell().split(", ").map(|name| name.trim_matches('`')).collect(), cell(), cell())
    });
    cells.collect()
}

#[test]
fn the_table_of_halts_is_that_of_the_source() {
    let page = read(&root().join("docs/commands.md"));
    let rows = documented_halts(&page);
    let names: BTreeSet<&str> = rows.iter().flat_map(|(names, ..)| names.iter().copied()).collect();
    assert_eq!(names, HaltKind::ALL.iter().map(HaltKind::name).collect());
    for (names, meaning, resolution) in rows {
        for kind in names.into_iter().map(HaltKind::from) {
            assert_eq!(kind.meaning(), meaning, "{kind}");
            for end in kind.resolutions() {
                assert!(resolution.contains(end.flag()), "{kind}: {} is not in: {resolution}", end.flag());
            }
        }
    }
}

#[test]
fn every_halt_that_a_document_names_is_one() {
    let mut unknown = Vec::new();
    for document in documents().into_iter().filter(|path| !path.ends_with("CHANGELOG.md")) {
        let page = read(&document);
        let named =
            ["halt as `", "halts as `", "halted as `"].into_iter().flat_map(|before| page.split(before).skip(1));
        let names = named.filter_map(|rest| rest.split('`').next()).map(HaltKind::from);
        unknown.extend(names.filter(|kind| !HaltKind::ALL.contains(kind)).map(|kind| format!("{document:?}: {kind}")));
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}
