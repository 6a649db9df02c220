//! The indexes that the service rests on: what they are, whether something like them is there, and how they are built beside a
//! running service.

use std::time::Duration;

use tokio_postgres::types::Type;
use xxhash_rust::xxh3::xxh3_64;

use super::{Event, Job, lock_was_busy};
use crate::errors::{OUR_INDEXES, PostgresError};
use crate::predicate::{short_enough, too_long};
use dinnerbell_config::TableName;

/// How often an index is begun again after a leftover, a lock or a new partition came between.
const TRIES: u32 = 5;
/// How often the progress of a build is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// An index that should be there.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    purpose: &'static str,
    unique: bool,
    /// Column and whether it is compared as bytes.
    keys: Vec<(&'static str, bool)>,
    predicate: String,
    from_id: Option<i64>,
}

/// Both as bytes: the order of a collation changes with its library, and an index in the old order misses rows.
const FEEDBACK_KEYS: &[(&str, bool)] = &[("adv_campaign_id", true), ("client_id", true)];
/// As earlier versions made it.
const FEEDBACK_KEYS_BEFORE: &[(&str, bool)] = &[("adv_campaign_id", false), ("client_id", true)];
const AUDIENCE_KEYS: &[(&str, bool)] = &[("restaurant_id", false), ("client_id", true)];

impl Wanted {
    /// On the feedback table: no two rows of a (campaign, client).
    pub(super) fn once() -> Self {
        let predicate = short_enough("adv_campaign_id");
        Self { purpose: "once_c", unique: true, keys: FEEDBACK_KEYS.to_vec(), predicate, from_id: None }
    }

    /// The same for rows above an id.
    pub(super) fn above(self, id: i64) -> Self {
        Self { predicate: format!("{} and id > {id}", self.predicate), from_id: Some(id), ..self }
    }

    /// The same with these columns as they are behind the bytes: a unique index must hold the partition key in its own collation.
    fn with(mut self, columns: &[&'static str]) -> Self {
        self.keys.extend(columns.iter().map(|column| (*column, false)));
        self
    }

    /// On a feedback table that cannot have the first: who has a row.
    pub(super) fn told() -> Self {
        Self { purpose: "told_c", unique: false, ..Self::once() }
    }

    /// On the subscribers table: the clients of a restaurant in their order.
    pub(super) fn audience() -> Self {
        let predicate = short_enough("restaurant_id");
        Self { purpose: "audience", unique: false, keys: AUDIENCE_KEYS.to_vec(), predicate, from_id: None }
    }

    /// On the subscribers table: those who are in no page, to be counted. Nearly always empty.
    pub(super) fn skipped() -> Self {
        let predicate = too_long();
        Self { purpose: "skipped", unique: false, keys: AUDIENCE_KEYS[..1].to_vec(), predicate, from_id: None }
    }

    /// Its name on a table: says whose it is and what for, and fits into the 63 bytes of a name.
    pub(super) fn name(&self, table: &str) -> String {
        let name = format!("{OUR_INDEXES}{}_{table}", self.purpose);
        if name.len() <= 63 {
            return name;
        }
        let mut end = 63 - 9;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}_{:08x}", &name[..end], xxh3_64(name.as_bytes()) as u32)
    }

    /// The statement for an operator: as this program runs it on a table without partitions.
    pub(super) fn statement(&self, table: &TableName) -> String {
        self.sql("concurrently if not exists", &self.name(&table.table), &table.sql())
    }

    fn sql(&self, how: &str, name: &str, on: &str) -> String {
        let unique = if self.unique { "unique " } else { "" };
        let keys: Vec<String> = self
            .keys
            .iter()
            .map(|(column, bytes)| if *bytes { format!("{column} collate \"C\"") } else { (*column).to_owned() })
            .collect();
        format!("create {unique}index {how} {} on {on} ({}) where {}", quote(name), keys.join(", "), self.predicate)
    }

    /// Whether an index that is there does what this one shall do.
    fn is_served_by(&self, found: &Found) -> bool {
        let keys = found.keys.len() == self.keys.len()
            && found
                .keys
                .iter()
                .zip(&self.keys)
                .all(|(found, (column, bytes))| found.column == *column && (!bytes || found.is_bytewise()));
        keys && found.unique == self.unique && found.predicate == plain(&self.predicate)
    }

    /// Whether an index that is there is one of an earlier version, which compares ids of campaigns by the database's collation.
    fn is_of_before(found: &Found) -> bool {
        let mut columns = FEEDBACK_KEYS_BEFORE.iter().zip(&found.keys);
        found.name.starts_with(OUR_INDEXES)
            && found.keys.len() >= FEEDBACK_KEYS_BEFORE.len()
            && columns.all(|((column, bytes), found)| found.column == *column && found.is_bytewise() == *bytes)
    }

    /// The id from which an index that is there keeps rows unique, where this one shall do so for all.
    fn is_served_from(&self, found: &Found) -> Option<i64> {
        let id = found.predicate.strip_prefix(&plain(&self.predicate))?.strip_prefix("andid>")?.parse().ok()?;
        let like_me = Found { predicate: plain(&self.predicate), ..found.clone() };
        (self.unique && self.is_served_by(&like_me)).then_some(id)
    }
}

/// An index that is there.
#[derive(Debug, Clone)]
struct Found {
    name: String,
    valid: bool,
    unique: bool,
    keys: Vec<FoundKey>,
    /// Without spaces, parentheses and casts, which the server adds.
    predicate: String,
    /// The index of the partitioned table that it belongs to.
    parent: Option<String>,
}

#[derive(Debug, Clone)]
struct FoundKey {
    column: String,
    collation: String,
}

impl Found {
    fn is_ours(&self, name: &str) -> bool {
        self.name == name
    }
}

impl FoundKey {
    fn is_bytewise(&self) -> bool {
        matches!(self.collation.as_str(), "C" | "POSIX")
    }
}

/// A predicate in a form in which ours and the server's are equal.
fn plain(predicate: &str) -> String {
    let text: String = predicate.chars().filter(|c| !matches!(c, '(' | ')' | ' ')).collect();
    text.to_lowercase().replace("::text", "").replace("::charactervarying", "").replace("::bpchar", "")
}

/// What became of an index.
#[derive(Debug)]
pub(super) enum Ensured {
    /// It is there.
    There(String),
    /// One is there that serves for rows above an id.
    ThereFrom {
        /// Its name.
        name: String,
        /// The id.
        id: i64,
    },
    /// Rows contradict it; nothing of it was left behind.
    Duplicates,
}

/// A table or partition, and the index of its parent to join.
struct Place {
    table: TableName,
    partitioned: bool,
}

impl Job<'_> {
    /// Makes an index unless something like it is there.
    pub(super) async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, PostgresError> {
        if self.relkind().await?.as_deref() != Some("p") {
            return self.ensure_on(wanted, self.table()).await;
        }
        // Partitions can be added meanwhile: look again until the whole index calls itself valid.
        for _ in 0..TRIES {
            if let Some(there) = self.look_for(wanted, self.table()).await? {
                return Ok(there);
            }
            let top = Place { table: self.table().clone(), partitioned: true };
            let answer = Box::pin(self.ensure_below(wanted, &top)).await?;
            if let Ensured::Duplicates = answer {
                self.forget_below(wanted).await?;
                return Ok(answer);
            }
        }
        Err(PostgresError::passing(format!(
            "{}: partitions of {} come and go while its index is built; run `dinnerbell migrate` again",
            self.pool.address(),
            self.table()
        )))
    }

    /// A valid index on the table that serves; makes nothing.
    pub(super) async fn look(&self, wanted: &Wanted) -> Result<Option<Ensured>, PostgresError> {
        self.look_for(wanted, self.table()).await
    }

    /// The same on one table or leaf partition.
    async fn ensure_on(&self, wanted: &Wanted, table: &TableName) -> Result<Ensured, PostgresError> {
        let name = wanted.name(&table.table);
        for attempt in 1.. {
            if let Some(there) = self.look_for(wanted, table).await? {
                return Ok(there);
            }
            if self.indexes(table).await?.iter().any(|found| found.is_ours(&name) && !found.valid) {
                self.drop_leftover(table, &name).await?;
            }
            match self.build(table, &wanted.sql("concurrently", &name, &table.sql())).await {
                Ok(()) => {}
                Err(error) if error.constraint() == Some(name.as_str()) => {
                    self.drop_leftover(table, &name).await?;
                    return Ok(Ensured::Duplicates);
                }
                Err(error) if lock_was_busy(&error) && attempt < TRIES => {}
                Err(error) => return Err(error),
            }
            if attempt >= TRIES {
                break;
            }
        }
        Err(PostgresError::passing(format!(
            "{}: index {name} on {table} did not become valid; run `dinnerbell migrate` again",
            self.pool.address()
        )))
    }

    /// A valid index on this very table that serves.
    async fn look_for(&self, wanted: &Wanted, table: &TableName) -> Result<Option<Ensured>, PostgresError> {
        let indexes = self.indexes(table).await?;
        let mut valid = indexes.into_iter().filter(|found| found.valid);
        Ok(valid.find_map(|found| {
            if wanted.is_served_by(&found) {
                return Some(match wanted.from_id {
                    Some(id) => Ensured::ThereFrom { name: found.name, id },
                    None => Ensured::There(found.name),
                });
            }
            wanted.is_served_from(&found).map(|id| Ensured::ThereFrom { name: found.name.clone(), id })
        }))
    }

    /// Builds an index concurrently and shows how far it is.
    async fn build(&self, table: &TableName, sql: &str) -> Result<(), PostgresError> {
        (self.tell)(Event::Doing(&format!("{}: {sql}", self.pool.address())));
        let builder = self.pool.get().await?;
        let built = tokio::select! {
            built = builder.batch_without_deadline(sql) => built,
            never = self.watch(table) => never,
        };
        match built {
            Ok(()) => {
                builder.release();
                Ok(())
            }
            Err(error) if error.code().is_some_and(|code| code.code() == "57014") => {
                Err(PostgresError::refused(format!(
                    "{error}; an index takes its time: `alter role ... set statement_timeout = 0` for the role that migrates, or pass \
                     it by a direct connection without the pooler"
                )))
            }
            Err(error) => Err(error),
        }
    }

    /// Shows the progress of a build until it is dropped. What it cannot see it does not show.
    async fn watch(&self, table: &TableName) -> Result<(), PostgresError> {
        let sql = "select phase, coalesce(case when phase like 'waiting%' then lockers_done \
                     when tuples_total > 0 then tuples_done else blocks_done end, 0), \
                   coalesce(case when phase like 'waiting%' then lockers_total \
                     when tuples_total > 0 then tuples_total else blocks_total end, 0) \
                   from pg_stat_progress_create_index where relid = to_regclass($1) and phase is not null";
        loop {
            tokio::time::sleep(LOOK).await;
            let Ok(rows) = self.pool.query(sql, &[(&table.sql(), Type::TEXT)]).await else { continue };
            if let Some(row) = rows.first() {
                let count = |index| u64::try_from(row.get::<_, i64>(index)).unwrap_or(0);
                (self.tell)(Event::Building { phase: row.get(0), done: count(1), total: count(2) });
            }
        }
    }

    /// Drops what an interrupted build left, unless it is a build that goes on: that one holds the lock that is asked for first.
    async fn drop_leftover(&self, table: &TableName, name: &str) -> Result<(), PostgresError> {
        let index = TableName { schema: table.schema.clone(), table: name.to_owned() }.sql();
        self.with_short_lock(&format!(
            "lock table {on} in share update exclusive mode; \
             do $$ begin \
               if exists (select from pg_index where indexrelid = to_regclass({literal}) and not indisvalid) then \
                 drop index {index}; \
               end if; \
             end $$",
            on = table.sql(),
            literal = literal(&index),
        ))
        .await
    }

    /// The indexes of an earlier version on the table itself, which serve no longer.
    pub(super) async fn of_before(&self) -> Result<Vec<String>, PostgresError> {
        let indexes = self.indexes(self.table()).await?;
        Ok(indexes.into_iter().filter(Wanted::is_of_before).map(|found| found.name).collect())
    }

    /// The indexes on a table.
    async fn indexes(&self, table: &TableName) -> Result<Vec<Found>, PostgresError> {
        let sql = "select c.relname::text, i.indisvalid, i.indisunique, coalesce(pg_get_expr(i.indpred, i.indrelid), ''), \
                     (select p.relname::text from pg_inherits h join pg_class p on p.oid = h.inhparent where h.inhrelid = c.oid), \
                     array(select coalesce(a.attname, '') || '/' || coalesce(o.collname, '') \
                           from unnest(i.indkey::int2[], i.indcollation::oid[]) with ordinality k (attnum, collation_oid, n) \
                           left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum and k.attnum > 0 \
                           left join pg_collation o on o.oid = k.collation_oid \
                           where k.n <= i.indnkeyatts order by k.n)::text[] \
                   from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam \
                   where i.indrelid = to_regclass($1) and m.amname = 'btree'";
        let rows = self.pool.query(sql, &[(&table.sql(), Type::TEXT)]).await?;
        let key = |key: &String| {
            let (column, collation) = key.split_once('/').unwrap_or((key, ""));
            FoundKey { column: column.to_owned(), collation: collation.to_owned() }
        };
        let found = rows.iter().map(|row| Found {
            name: row.get(0),
            valid: row.get(1),
            unique: row.get(2),
            predicate: plain(row.get(3)),
            parent: row.get(4),
            keys: row.get::<_, Vec<String>>(5).iter().map(key).collect(),
        });
        Ok(found.collect())
    }
}

/// Partitioned tables: PostgreSQL builds no index on them concurrently. So: an empty one on the table alone, one on each
/// partition, concurrently, and each is attached; with the last one the first becomes valid.
impl Job<'_> {
    async fn ensure_below(&self, wanted: &Wanted, place: &Place) -> Result<Ensured, PostgresError> {
        if !place.partitioned {
            return self.ensure_on(wanted, &place.table).await;
        }
        let name = self.ensure_parent(wanted, &place.table).await?;
        for partition in self.partitions(&place.table).await? {
            let part = match Box::pin(self.ensure_below(wanted, &partition)).await? {
                Ensured::There(part) | Ensured::ThereFrom { name: part, .. } => part,
                other => return Ok(other),
            };
            self.attach(place, &name, &partition, &part).await?;
        }
        Ok(Ensured::There(name))
    }

    /// The index on the partitioned table alone: it covers no row, and is not valid until every partition's is attached.
    async fn ensure_parent(&self, wanted: &Wanted, table: &TableName) -> Result<String, PostgresError> {
        let indexes = self.indexes(table).await?;
        if let Some(found) = indexes.iter().find(|found| wanted.is_served_by(found)) {
            return Ok(found.name.clone());
        }
        let name = wanted.name(&table.table);
        if indexes.iter().any(|found| found.is_ours(&name) && !found.valid) {
            self.drop_leftover(table, &name).await?;
        }
        self.with_short_lock(&wanted.sql("", &name, &format!("only {}", table.sql()))).await?;
        Ok(name)
    }

    async fn attach(&self, place: &Place, index: &str, partition: &Place, part: &str) -> Result<(), PostgresError> {
        let indexes = self.indexes(&partition.table).await?;
        if indexes.iter().any(|found| found.is_ours(part) && found.parent.is_some()) {
            return Ok(());
        }
        let qualified =
            |table: &TableName, name: &str| TableName { schema: table.schema.clone(), table: name.to_owned() }.sql();
        self.with_short_lock(&format!(
            "alter index {} attach partition {}",
            qualified(&place.table, index),
            qualified(&partition.table, part)
        ))
        .await
    }

    async fn partitions(&self, table: &TableName) -> Result<Vec<Place>, PostgresError> {
        let sql = "select n.nspname::text, c.relname::text, c.relkind = 'p' from pg_inherits h \
                   join pg_class c on c.oid = h.inhrelid join pg_namespace n on n.oid = c.relnamespace \
                   where h.inhparent = to_regclass($1) order by 1, 2";
        let rows = self.pool.query(sql, &[(&table.sql(), Type::TEXT)]).await?;
        let place = |row: &tokio_postgres::Row| Place {
            table: TableName { schema: row.get(0), table: row.get(1) },
            partitioned: row.get(2),
        };
        Ok(rows.iter().map(place).collect())
    }

    /// The unique index that the feedback table can have: it must hold the columns by which the table, and each partition in it, is
    /// partitioned, in their collation. Otherwise why it can have none.
    pub(super) async fn unique_index(&self) -> Result<Result<Wanted, String>, PostgresError> {
        let sql = "select p.partrelid::regclass::text, pg_get_partkeydef(p.partrelid), \
                     bool_and(coalesce(a.attname in ('adv_campaign_id', 'client_id'), false)), \
                     coalesce(bool_or(a.attname = 'client_id' and o.collname not in ('C', 'POSIX')), false), \
                     coalesce(bool_or(a.attname = 'adv_campaign_id' and o.collname not in ('C', 'POSIX')), false) \
                   from pg_partition_tree(to_regclass($1)) t join pg_partitioned_table p on p.partrelid = t.relid \
                   cross join unnest(p.partattrs::int2[], p.partcollation::oid[]) k (attnum, collation_oid) \
                   left join pg_attribute a on a.attrelid = p.partrelid and a.attnum = k.attnum and k.attnum > 0 \
                   left join pg_collation o on o.oid = k.collation_oid group by p.partrelid";
        let rows = self.pool.query(sql, &[(&self.table().sql(), Type::TEXT)]).await?;
        Ok(match rows.iter().find(|row| !row.get::<_, bool>(2)) {
            Some(row) => Err(format!(
                "table {} is partitioned by {}, and a unique index must hold its partition key; partition by adv_campaign_id or client_id",
                row.get::<_, &str>(0),
                row.get::<_, &str>(1)
            )),
            None => {
                let kept = [("client_id", 3), ("adv_campaign_id", 4)].into_iter();
                let kept = kept.filter(|(_, at)| rows.iter().any(|row| row.get::<_, bool>(*at)));
                Ok(Wanted::once().with(&kept.map(|(column, _)| column).collect::<Vec<_>>()))
            }
        })
    }

    /// Drops everything of ours for this purpose on a partitioned table, valid or not.
    async fn forget_below(&self, wanted: &Wanted) -> Result<(), PostgresError> {
        let sql = "select n.nspname::text, c.relname::text from pg_partition_tree(to_regclass($1)) t \
                   join pg_class c on c.oid = t.relid join pg_namespace n on n.oid = c.relnamespace order by t.level";
        let rows = self.pool.query(sql, &[(&self.table().sql(), Type::TEXT)]).await?;
        for row in rows {
            let index = TableName { schema: row.get(0), table: wanted.name(row.get(1)) };
            self.with_short_lock(&format!("drop index if exists {}", index.sql())).await?;
        }
        Ok(())
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_predicate_is_known_again_in_the_servers_words() {
        let server = "((octet_length((restaurant_id)::text) <= 256) AND (octet_length((client_id)::text) <= 256))";
        assert_eq!(plain(server), plain(&Wanted::audience().predicate));
    }

    #[test]
    fn an_index_from_an_id_on_is_told_from_one_for_all_rows() {
        let key = |column: &str, collation: &str| FoundKey { column: column.into(), collation: collation.into() };
        let found = Found {
            name: "any".into(),
            valid: true,
            unique: true,
            keys: vec![key("adv_campaign_id", "C"), key("client_id", "C")],
            predicate: plain(&Wanted::once().above(17).predicate),
            parent: None,
        };
        assert!(!Wanted::once().is_served_by(&found));
        assert_eq!(Wanted::once().is_served_from(&found), Some(17));
        assert!(Wanted::once().above(17).is_served_by(&found));
        let other_order = Found { keys: vec![key("client_id", "C"), key("adv_campaign_id", "C")], ..found.clone() };
        assert_eq!(Wanted::once().is_served_from(&other_order), None);
        let other_collation = Found { keys: vec![key("adv_campaign_id", "default"), key("client_id", "C")], ..found };
        assert!(!Wanted::once().above(17).is_served_by(&other_collation));
        let of_before = Found { name: "dinnerbell_once_t".into(), ..other_collation };
        assert!(Wanted::is_of_before(&of_before));
        assert!(!Wanted::is_of_before(&Found { name: "theirs".into(), ..of_before }), "it is not ours to name");
    }

    #[test]
    fn names_of_indexes_fit_and_differ_for_long_table_names() {
        let long = "subscribers_feedback_of_the_year_two_thousand_twenty_six_part_";
        let (one, two) = (Wanted::once().name(&format!("{long}1")), Wanted::once().name(&format!("{long}2")));
        assert_ne!(one, two);
        assert!(one.len() <= 63 && one.starts_with(OUR_INDEXES), "{one}");
        assert_eq!(Wanted::once().name("subscribers_feedback"), "dinnerbell_once_c_subscribers_feedback");
    }
}
