//! Triggers, rules and constraints of the feedback table: what else decides about a row that the service writes or withdraws.

use tokio_postgres::types::Type;

use crate::connect::{Connection, Pool};
use crate::errors::PostgresError;
use crate::sql;
use dinnerbell_core::model::finding::Findings;

/// How many names are said at once.
const NAMED: usize = 5;

/// What else acts on the table's rows, by name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Triggers that can leave out or change a row that is copied.
    pub before_insert: Vec<Hook>,
    /// Triggers and rules that can keep a row from being withdrawn.
    pub on_delete: Vec<Hook>,
    /// Triggers that run afterwards, and can refuse.
    pub after: Vec<Hook>,
    /// Constraints that a draft can break, beside those that the service knows.
    pub constraints: Vec<Hook>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// `trigger`, `rule`, `foreign key`, `check`, `exclusion`, `unique`, `unique index`.
    pub kind: String,
    /// Its name, quoted for SQL.
    pub name: String,
    /// The table or partition that has it, quoted where it must be.
    pub table: String,
}

impl Hook {
    /// What takes it out of the way.
    pub fn remove(&self) -> String {
        let Self { kind, name, table } = self;
        match kind.as_str() {
            "trigger" => format!("alter table {table} disable trigger {name}"),
            "rule" => format!("drop rule {name} on {table}"),
            "unique index" => format!("drop index {name}"),
            _ => format!("alter table {table} drop constraint {name}"),
        }
    }
}

/// The names of hooks, a few of them.
pub fn names(hooks: &[Hook]) -> String {
    // Partitions have what their table has.
    let mut named: Vec<String> = hooks.iter().map(|hook| format!("{} {}", hook.kind, hook.name)).collect();
    named.dedup();
    let more = named.len().saturating_sub(NAMED);
    named.truncate(NAMED);
    if more > 0 {
        named.push(format!("{more} more"));
    }
    named.join(", ")
}

/// Bits of `pg_trigger.tgtype`.
const EACH_ROW: i16 = 1;
const BEFORE: i16 = 2;
const INSERT: i16 = 4;
const DELETE: i16 = 8;

impl Hooks {
    /// Reads what acts on the rows of the table and of its partitions. COPY runs triggers, and no rules.
    pub async fn read(connection: &Connection, table: &str) -> Result<Self, PostgresError> {
        let mut hooks = Self::default();
        for row in connection.query(sql::HOOKS.text(), &[(&table, Type::TEXT)]).await? {
            let hook = Hook { kind: row.get("kind"), name: row.get("name"), table: row.get("table_name") };
            hooks.put(hook, row.get("trigger"));
        }
        Ok(hooks)
    }

    fn put(&mut self, hook: Hook, trigger: Option<i16>) {
        let of_row = |event: i16, of: i16| of & (EACH_ROW | BEFORE | event) == EACH_ROW | BEFORE | event;
        match trigger {
            Some(of) => {
                let (inserts, deletes) = (of_row(INSERT, of), of_row(DELETE, of));
                if inserts {
                    self.before_insert.push(hook.clone());
                }
                if deletes {
                    self.on_delete.push(hook.clone());
                }
                if !inserts && !deletes && of & (INSERT | DELETE) != 0 {
                    self.after.push(hook);
                }
            }
            None if hook.kind == "rule" => self.on_delete.push(hook),
            None => self.constraints.push(hook),
        }
    }

    /// Says what of it somebody should know: a try shows what they do to two drafts, not what they do to others.
    pub fn check(&self, pool: &Pool, check: &'static str, found: &mut Findings) {
        let table = pool.table();
        let halts = "a draft that it leaves out, changes or refuses halts its lane";
        if !self.before_insert.is_empty() {
            let told = format!("table {table} has {}: {halts}", names(&self.before_insert));
            found.warn(
                check,
                told,
                format!("make sure that it leaves drafts alone, or: {}", self.before_insert[0].remove()),
            );
        }
        if !self.on_delete.is_empty() {
            let told = format!(
                "table {table} has {}: a draft that it keeps from being deleted cannot be withdrawn",
                names(&self.on_delete)
            );
            found.warn(
                check,
                told,
                format!("make sure that it leaves drafts alone, or: {}", self.on_delete[0].remove()),
            );
        }
        let hard: Vec<Hook> = self.constraints.iter().filter(|hook| hook.kind != "check").cloned().collect();
        if !hard.is_empty() {
            let told = format!("table {table} has {}: a draft that breaks it halts its lane", names(&hard));
            found.warn(check, told, format!("make sure that no draft can break it, or: {}", hard[0].remove()));
        }
        let soft: Vec<Hook> =
            self.constraints.iter().filter(|hook| hook.kind == "check").chain(&self.after).cloned().collect();
        if !soft.is_empty() {
            found
                .ok(check, format!("table {table} has {}: a draft that is refused by it halts its lane", names(&soft)));
        }
    }
}
