//! The statements that take more than a few lines. Each is in a file of its own in `sql/`, with what it does, what it locks and which index
//! serves it. A file names fragments, which [`fragments`] has, and pieces, which only its caller knows: `{open}`, `{feedback}`.

pub mod fragments;

use std::sync::OnceLock;

/// A statement of a file, which its caller completes.
pub struct Statement<const PIECES: usize> {
    file: &'static str,
    pieces: [&'static str; PIECES],
    text: OnceLock<String>,
}

impl<const PIECES: usize> Statement<PIECES> {
    const fn new(file: &'static str, pieces: [&'static str; PIECES]) -> Self {
        Self { file, pieces, text: OnceLock::new() }
    }

    /// The statement without its comments and line ends, its fragments filled in. That is done once.
    fn filled(&self) -> &str {
        self.text.get_or_init(|| fill(&without_comments(self.file), fragments::named))
    }

    /// The text with the caller's pieces, each with its name.
    pub fn with(&self, pieces: [(&str, &str); PIECES]) -> String {
        debug_assert!(self.pieces.iter().all(|name| pieces.iter().any(|(piece, _)| piece == name)), "{pieces:?}");
        let piece = |name: &str| pieces.iter().find(|(piece, _)| *piece == name);
        fill(self.filled(), |name, _| piece(name).map(|(_, text)| (*text).to_owned()))
    }
}

impl Statement<0> {
    /// The text.
    pub fn text(&self) -> &str {
        self.filled()
    }
}

/// The statement in one line: comments are in lines of their own.
fn without_comments(file: &str) -> String {
    let lines = file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--"));
    lines.collect::<Vec<_>>().join(" ")
}

/// Fills each `{name}` and `{name(argument, ...)}` whose text is known; the others, and all else in braces, stay as they are.
fn fill(text: &str, known: impl Fn(&str, &[&str]) -> Option<String>) -> String {
    let mut filled = String::with_capacity(2 * text.len());
    let mut rest = text;
    while let Some(begin) = rest.find('{') {
        let (before, behind) = rest.split_at(begin);
        filled.push_str(before);
        let piece = placeholder(behind).and_then(|(name, arguments, end)| Some((known(name, &arguments)?, end)));
        let (piece, end) = piece.unwrap_or_else(|| ("{".to_owned(), 1));
        filled.push_str(&piece);
        rest = &behind[end..];
    }
    filled.push_str(rest);
    filled
}

/// The placeholder with which a text begins: its name, its arguments, and where it ends.
fn placeholder(text: &str) -> Option<(&str, Vec<&str>, usize)> {
    let end = text.find('}')?;
    let inside = &text[1..end];
    let (name, arguments) = match inside.strip_suffix(')').and_then(|inside| inside.split_once('(')) {
        Some((name, arguments)) => (name, arguments.split(", ").collect()),
        None => (inside, Vec::new()),
    };
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    is_name.then_some((name, arguments, end + 1))
}

macro_rules! statements {
    ($($name:ident = $file:literal [$($piece:literal),*];)*) => {
        $(
            #[doc = concat!("`sql/", $file, ".sql`.")]
            pub static $name: Statement<{ <[&str]>::len(&[$($piece),*]) }> =
                Statement::new(include_str!(concat!("../sql/", $file, ".sql")), [$($piece),*]);
        )*

        /// Every statement: the name of its file, its pieces, and its text as far as it is known without them.
        #[cfg(test)]
        fn all() -> Vec<(&'static str, Vec<&'static str>, String)> {
            vec![$(($file, vec![$($piece),*], $name.filled().to_owned())),*]
        }
    };
}

statements! {
    WAITING = "waiting" [];
    NOTE_TAIL_SCANNED = "note_tail_scanned" [];
    NOTE_RESCANNED = "note_rescanned" [];
    TURN_STATES = "turn_states" [];
    NEXT_CHANGE = "next_change" [];
    RUNNING = "running" [];
    OPEN_OF_LANE = "open_of_lane" ["from", "which"];
    LATE_FOR = "late_for" [];
    DEAD_LETTERS = "dead_letters" ["which"];
    CREATE_LANE = "create_lane" [];
    ACQUIRE_LANE = "acquire_lane" [];
    HOLDERS = "holders" [];
    END_HOLD = "end_hold" [];
    JUDGED_NEXT = "judged_next" [];
    MOVE_POSITION = "move_position" [];
    KNOWN_CAMPAIGNS = "known_campaigns" ["which"];
    INSERT_DEAD_LETTERS = "insert_dead_letters" [];
    INSERT_CHANGES = "insert_changes" [];
    CHANGE_CAMPAIGNS = "change_campaigns" [];
    INSERT_CAMPAIGNS = "insert_campaigns" [];
    COUNT_ARRIVALS = "count_arrivals" [];
    NOTE_OUTPUTS = "note_outputs" [];
    KNOWN_OUTPUTS = "known_outputs" [];
    PRUNE_ROUNDS = "prune_rounds" [];
    PRUNE_CHANGES = "prune_changes" [];
    PRUNE_DEAD_LETTERS = "prune_dead_letters" [];
    PRUNE_CAMPAIGNS = "prune_campaigns" [];
    PRUNE_TOMBSTONES = "prune_tombstones" [];
    PRUNE_AUDIT = "prune_audit" [];
    NOTE_ORDER = "note_order" [];
    STANDING_OF_CAMPAIGNS = "standing_of_campaigns" ["which"];
    DRAFTS_OF_CLIENT = "drafts_of_client" ["feedback"];
    ROUNDS_OF_CLIENT = "rounds_of_client" [];
    WITHDRAWN_FOR = "withdrawn_for" [];
    WITHDRAWN_PAGES = "withdrawn_pages" [];
    UNUSABLE_OF_RESTAURANT = "unusable_of_restaurant" ["subscribers", "and_legible"];
    TOLD_OVER_TIME = "told_over_time" [];
    FAVOURED_BY = "favoured_by" ["subscribers"];
    TAKE_ROWS_BACK = "take_rows_back" ["feedback"];
    RECORDED_ROWS = "recorded_rows" ["feedback"];
    WHAT_A_LANE_HOLDS = "what_a_lane_holds" [];
    LANE_ROW = "lane_row" [];
    RESTART_AT = "restart_at" [];
    DRAFTS_WITHOUT_ROW = "drafts_without_row" ["feedback"];
    HOLD_AS_FOUND = "hold_as_found" [];
    SET_BACK = "set_back" [];
    RESTORE_ROWS = "restore_rows" ["feedback"];
    CORRECT_ROWS = "correct_rows" ["feedback"];
    MAKE_CAMPAIGN = "make_campaign" [];
    COUNT_RESTORED = "count_restored" [];
    SETTLE_ROUND = "settle_round" [];
    FREE_DEAD_LETTERS = "free_dead_letters" [];
    ADVANCE_LANE = "advance_lane" [];
    MOVE_CURSORS = "move_cursors" [];
    WRITE_ROUND = "write_round" [];
    WRITE_PARTS = "write_parts" [];
    ACTIVE_CAMPAIGNS = "active_campaigns" [];
    PARTS = "parts" [];
    ROWS_OF_PARTS = "rows_of_parts" ["part", "columns", "feedback", "limit"];
    KEEP_LOCKED_ROWS = "keep_locked_rows" ["rows"];
    WITHDRAW_FREE_ROWS = "withdraw_free_rows" ["feedback"];
    SETTLE_LOCKED_ROWS = "settle_locked_rows" ["feedback"];
    DELETE_ROWS_OF_PARTS = "delete_rows_of_parts" ["feedback", "of", "condition"];
    SET_PARTS_BACK = "set_parts_back" [];
    COMPLETE = "complete" [];
    COUNT_ROWS = "count_rows" ["feedback"];
    ALREADY_TOLD = "already_told" ["feedback"];
    LATE = "late" ["feedback"];
    PAGE = "page" ["subscribers", "restaurant", "after", "upto", "and_legible", "most"];
    NEXT_CLIENT = "next_client" ["subscribers", "after", "and_legible"];
    PAGE_BY_CLIENT = "page_by_client" ["first", "next"];
    PAGES = "pages" ["page"];
    SKIPPED = "skipped" ["subscribers", "restaurant"];
    ILLEGIBLE_OF_EACH = "illegible_of_each" ["subscribers", "legible"];
    UNUSABLE = "unusable" ["subscribers", "cannot_be_told", "or_illegible", "named"];
    HAS_AUDIENCE_INDEX = "has_audience_index" [];
    COLUMNS = "columns" [];
    NOT_OVER = "not_over" [];
    REPLICA = "replica" [];
    LACKING_ROWS = "lacking_rows" ["from", "to"];
    LEDGER_RIGHTS = "ledger_rights" [];
    INDEXES = "indexes" [];
    INDEX_PROGRESS = "index_progress" [];
    PARTITION_KEYS = "partition_keys" [];
    HOOKS = "hooks" [];
    SEQUENCE = "sequence" [];
    CURRENT_HOLD = "current_hold" [];
    UNPUBLISHED_ROUNDS = "unpublished_rounds" [];
    CAMPAIGN_SUMMARIES = "campaign_summaries" ["page", "columns"];
    RECORD_CANCELLATION = "record_cancellation" [];
    CANCEL_STATUS = "cancel_status" [];
    MEASURED_PACE = "measured_pace" [];
    TOLD_CLIENTS = "told_clients" ["feedback"];
    UNTOLD_CLIENTS = "untold_clients" ["feedback"];
    CLAIM_REPLAY = "claim_replay" [];
    AUDIT_ENTRIES = "audit_entries" [];
    LAST_VERIFIED = "last_verified" [];
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_placeholder_of_a_statement_is_left_but_the_pieces_that_its_caller_gives() {
        for (file, pieces, text) in all() {
            let names = text.match_indices('{').filter_map(|(begin, _)| placeholder(&text[begin..]));
            let left: BTreeSet<&str> = names.map(|(name, ..)| name).collect();
            assert_eq!(left, pieces.into_iter().collect(), "{file}.sql");
        }
    }

    #[test]
    fn every_file_in_the_folder_is_a_statement_and_says_what_it_locks_and_asks() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql");
        let mut files = BTreeSet::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(["-- ", "\n-- Locks: ", "\n-- Index: "].iter().all(|said| text.contains(said)), "{path:?}");
            files.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
        assert_eq!(files, all().iter().map(|(file, ..)| (*file).to_owned()).collect());
    }

    /// The files below a folder.
    fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn each_statement_that_writes_a_lanes_row_sets_who_wrote_it() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let begins = concat!("update dinnerbell", ".lane ");
        let mut seen = 0;
        for file in [root.join("sql"), root.join("src")].iter().flat_map(|folder| files(folder)) {
            let text = std::fs::read_to_string(&file).unwrap().to_lowercase();
            for (at, _) in text.match_indices(begins) {
                let first = text[at..].split_once("set ").unwrap().1;
                let sets = ["{written}", "{cleared}", "{next_epoch}"].iter().any(|set| first.starts_with(set));
                assert!(sets, "{file:?}: {}", first.lines().next().unwrap());
                seen += 1;
            }
        }
        assert!(seen > 10, "{seen}");
    }

    #[test]
    fn pieces_and_arguments_stand_in_their_places_and_other_braces_stay() {
        let known = |name: &str, arguments: &[&str]| Some(format!("<{name}:{}>", arguments.join("|")));
        assert_eq!(fill("a {b} '{}' {c(d.e, $1)}", known), "a <b:> '{}' <c:d.e|$1>");
        let none = |_: &str, _: &[&str]| None;
        assert_eq!(fill("{a} '{}' {2}", none), "{a} '{}' {2}");
        assert_eq!(without_comments("-- a {b}\nselect 1\n  -- two\n  from c\n"), "select 1 from c");
    }
}
