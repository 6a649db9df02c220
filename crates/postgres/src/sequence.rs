//! The sequence that gives a table's rows their ids: whether this user may use it, and how much is left of it. After a restore, or an import with ids
//! of its own, it may be behind the ids that are there.

use tokio_postgres::types::Type;

use crate::connect::Pool;
use crate::errors::PostgresError;
use crate::sql;
use dinnerbell_core::model::finding::Findings;

/// Ids that stand this near before the sequence's next one are met soon: a start is refused.
const SOON: i64 = 10_000_000;

/// The sequence behind `id`, whether it is the column's own or only named in its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Its name, quoted for SQL.
    pub name: String,
    /// The type of the column.
    pub column_type: String,
    /// Whether the column is an identity: then the sequence is its own, and no right to it is asked for.
    pub is_identity: bool,
    /// Whether an insert of this user gets an id from it. Of an identity it does without a right.
    pub usable: bool,
    /// The last id that was given out; none before the first, and where this user may not know.
    pub last: Option<i64>,
    /// The highest id that there can be.
    pub end: i64,
    /// The next id, where this user may know.
    pub next: Option<i64>,
    /// The lowest and the highest id from the next one on, where an index keeps each id once.
    pub ahead: Option<(i64, i64)>,
}

/// Looks at the sequence of the pool's table; none where the ids come otherwise.
pub async fn of_ids(pool: &Pool) -> Result<Option<Sequence>, PostgresError> {
    let table = pool.table().sql();
    let rows = pool.query(sql::SEQUENCE.text(), &[(&table, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (increment, may_read, unique): (i64, bool, bool) =
        (row.get("increment"), row.get("may_read"), row.get("is_unique"));
    let mut sequence = Sequence {
        name: row.get("name"),
        column_type: row.get("column_type"),
        is_identity: row.get("is_identity"),
        usable: row.get("usable"),
        last: row.get("last"),
        end: row.get("highest"),
        next: None,
        ahead: None,
    };
    // Before the first id only the sequence itself knows where it begins.
    let known = sequence.last.is_some() || may_read;
    if unique && increment > 0 && known {
        sequence.look_ahead(pool, &table, increment, may_read).await?;
    }
    Ok(Some(sequence))
}

impl Sequence {
    /// One statement reads rows first and the sequence's state later. So a row that is inserted meanwhile is not taken for an id that the sequence
    /// does not know.
    async fn look_ahead(
        &mut self,
        pool: &Pool,
        table: &str,
        increment: i64,
        may_read: bool,
    ) -> Result<(), PostgresError> {
        let name = &self.name;
        let next = match may_read {
            true => format!("select case when is_called then last_value + $1 else last_value end as id from {name}"),
            false => format!("select pg_sequence_last_value('{}'::regclass) + $1 as id", name.replace('\'', "''")),
        };
        let sql = format!(
            "with next as materialized ({next}) select next.id, \
             (select min(f.id)::int8 from {table} f where f.id >= next.id) as lowest, (select max(f.id)::int8 from {table} f) as highest from next"
        );
        let rows = pool.query(&sql, &[(&increment, Type::INT8)]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (next, lowest, highest): (Option<i64>, Option<i64>, Option<i64>) =
            (row.get("id"), row.get("lowest"), row.get("highest"));
        self.next = next;
        self.ahead = lowest.zip(highest);
        Ok(())
    }

    /// What sets it behind the highest id.
    pub fn catch_up(&self, pool: &Pool) -> String {
        let (sequence, table) = (self.name.replace('\'', "''"), pool.table().sql());
        format!("select setval('{sequence}', (select max(id) from {table}))")
    }

    /// Whether the ids that it gives out next are there already.
    pub fn check(&self, pool: &Pool, check: &'static str, found: &mut Findings) {
        let (Some(next), Some((lowest, highest))) = (self.next, self.ahead) else { return };
        let told = format!(
            "the sequence {} that gives the rows of {} their ids is behind them: its next id is {next}, and {lowest} is there (the highest is {highest})",
            self.name,
            pool.table()
        );
        let remedy = format!("as the owner of the sequence: {}", self.catch_up(pool));
        match lowest - next < SOON {
            true => found.fail(check, told, remedy),
            false => found.warn(check, told, remedy),
        }
    }
}
