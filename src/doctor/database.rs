//! The two databases: reachable, as the configuration says, with the right tables, columns, rights and indexes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::types::Type;

use super::{Findings, Status};
use dinnerbell_config::{Config, Database};
use dinnerbell_postgres::audience::{Unusable, time_of_newest, unusable};
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::{ErrorKind, PostgresError};
use dinnerbell_postgres::legible::Legible;
use dinnerbell_postgres::migrate::{
    FeedbackIndex, count_duplicates, feedback_index, feedback_indexes_of_before, missing_subscriber_indexes,
};
use dinnerbell_postgres::needs::Missing;
use dinnerbell_postgres::replica::Replica;
use dinnerbell_postgres::{encryption, headroom as left, needs};

/// The oldest PostgreSQL whose statements this service was written for.
const OLDEST_SERVER: i32 = 120_000;
/// Between two looks at a replica that is in trouble.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// A difference of clocks that is worth a warning, in seconds.
const NOTABLE_DIFFERENCE: f64 = 2.0;
/// How long rows are looked through for ids that cannot be told.
const COUNT_UNUSABLE: Duration = Duration::from_secs(4);
/// A largest id that takes longer has no index.
const SLOW_ID: Duration = Duration::from_secs(1);
/// How long rows are counted.
const COUNT: Duration = Duration::from_secs(60);

/// Looks at the feedback database; none where it cannot be contacted.
pub(super) async fn feedback(config: &Config, found: &mut Findings) -> Option<Pool> {
    let pool = reach(&config.feedback, "feedback", found).await?;
    let checked = CheckedDatabase { pool: &pool, database: &config.feedback, check: &FEEDBACK };
    tell(FEEDBACK.server, checked.feedback(found).await, found);
    Some(pool)
}

/// Looks at the subscribers database; none where it cannot be contacted.
pub(super) async fn subscribers(config: &Config, found: &mut Findings) -> Option<Pool> {
    let pool = reach(&config.subscribers, "subscribers", found).await?;
    let checked = CheckedDatabase { pool: &pool, database: &config.subscribers, check: &SUBSCRIBERS };
    tell(SUBSCRIBERS.server, checked.subscribers(found).await, found);
    Some(pool)
}

/// Whether ids and times are near the end of their types.
pub(super) async fn headroom(feedback: &Pool, subscribers: &Pool, found: &mut Findings) {
    match left::read(feedback, subscribers).await {
        Ok(all) => {
            for one in all {
                match (one.left() == 0, one.is_low()) {
                    (true, _) => found.fail("ids-and-times", one.to_string(), one.remedy()),
                    (false, true) => found.warn("ids-and-times", one.to_string(), one.remedy()),
                    (false, false) => found.ok("ids-and-times", one.to_string()),
                }
            }
        }
        Err(error) => found.refused("ids-and-times", error),
    }
}

/// The names of the checks in one of the two databases.
struct Checks {
    connection: &'static str,
    tls: &'static str,
    server: &'static str,
    role: &'static str,
    connections: &'static str,
    table: &'static str,
    rights: &'static str,
    index: &'static str,
}

const FEEDBACK: Checks = Checks {
    connection: "feedback-connection",
    tls: "feedback-tls",
    server: "feedback-server",
    role: "feedback-recovery",
    connections: "feedback-connections",
    table: "feedback-table",
    rights: "feedback-rights",
    index: "feedback-index",
};
const SUBSCRIBERS: Checks = Checks {
    connection: "subscribers-connection",
    tls: "subscribers-tls",
    server: "subscribers-server",
    role: "subscribers-recovery",
    connections: "subscribers-connections",
    table: "subscribers-table",
    rights: "subscribers-rights",
    index: "subscribers-index",
};

fn tell(check: &'static str, looked: Result<(), PostgresError>, found: &mut Findings) {
    if let Err(error) = looked {
        found.refused(check, error);
    }
}

async fn reach(database: &Database, section: &'static str, found: &mut Findings) -> Option<Pool> {
    let check = if section == "feedback" { &FEEDBACK } else { &SUBSCRIBERS };
    let opened = async {
        let pool = Pool::open(database, section)?;
        pool.query("select 1", &[]).await?;
        Ok::<_, PostgresError>(pool)
    };
    match opened.await {
        Ok(pool) => {
            found.ok(check.connection, format!("{} answers", pool.address()));
            Some(pool)
        }
        Err(error) => {
            found.refused(check.connection, error);
            None
        }
    }
}

struct CheckedDatabase<'a> {
    pool: &'a Pool,
    database: &'a Database,
    check: &'a Checks,
}

impl CheckedDatabase<'_> {
    async fn feedback(&self, found: &mut Findings) -> Result<(), PostgresError> {
        encryption::check(self.pool, self.database, self.check.tls, found).await?;
        self.server(found).await?;
        self.durability(found).await?;
        self.clock(found).await?;
        match needs::of_encoding(self.pool).await {
            Err(error) if error.kind() == ErrorKind::Refused => found.refused("feedback-encoding", error),
            looked => looked.map(|()| found.ok("feedback-encoding", "its encoding holds every campaign (UTF8)"))?,
        }
        self.connections(found).await?;
        let missing = needs::missing_in_feedback(self.pool).await?;
        if !self.needs(&missing, found) {
            return Ok(());
        }
        self.feedback_index(found).await
    }

    async fn subscribers(&self, found: &mut Findings) -> Result<(), PostgresError> {
        encryption::check(self.pool, self.database, self.check.tls, found).await?;
        self.server(found).await?;
        self.connections(found).await?;
        // Whether late subscribers are told can be switched on later.
        let missing = needs::missing_in_subscribers(self.pool, true).await?;
        if !self.needs(&missing, found) {
            return Ok(());
        }
        self.subscriber_indexes(found).await?;
        self.kind_of_table(found).await?;
        match missing.is_empty() {
            true => self.unusable(found).await,
            false => Ok(()),
        }
    }

    /// What is no plain table may leave out or delay rows by conditions of its own, which nobody can see from here.
    async fn kind_of_table(&self, found: &mut Findings) -> Result<(), PostgresError> {
        let table = self.pool.table();
        let sql = "select relkind::text from pg_class where oid = to_regclass($1)";
        let rows = self.pool.query(sql, &[(&table.sql(), Type::TEXT)]).await?;
        let kind = match rows.first().map(|row| row.get::<_, String>(0)).as_deref() {
            Some("v") => "a view: clients whom its conditions leave out are never told",
            Some("m") => "a materialized view: who subscribes is told after its next refresh",
            Some("f") => "a foreign table: clients whom the other server hides are never told",
            _ => return Ok(()),
        };
        found.ok(self.check.table, format!("{table} is {kind}"));
        Ok(())
    }

    /// Rows whose client nobody can tell: counted where that is quick.
    async fn unusable(&self, found: &mut Findings) -> Result<(), PostgresError> {
        const CHECK: &str = "subscribers-ids";
        const ENCODING: &str = "subscribers-encoding";
        let legible = match Legible::of(self.pool).await {
            Err(error) if error.kind() == ErrorKind::Refused => {
                found.refused(ENCODING, error);
                return Ok(());
            }
            legible => legible?,
        };
        if let Some(warning) = legible.warning() {
            found.warn(ENCODING, warning, "let subscribers.url lead to a database whose encoding is UTF8");
        }
        match unusable(self.pool, &legible, COUNT_UNUSABLE).await {
            Ok(Unusable { rows: 0, .. }) => found.ok(CHECK, "every row has ids that can be told"),
            Ok(Unusable { rows, ids }) => found.warn(
                CHECK,
                format!("{rows} rows have an id that is empty, longer than 256 bytes or not UTF-8: nobody is told for them; the first: id {ids}"),
                format!("correct or delete these rows of {}", self.pool.table()),
            ),
            Err(error) if error.kind() == ErrorKind::Transient => {
                found.ok(CHECK, format!("whether rows have ids that cannot be told was not to be counted in {} s", COUNT_UNUSABLE.as_secs()))
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Version, recovery and what it costs.
    async fn server(&self, found: &mut Findings) -> Result<(), PostgresError> {
        let sql = "select current_setting('server_version_num')::int4, current_setting('server_version'), pg_is_in_recovery(), \
                   current_setting('default_transaction_read_only') = 'on'";
        let rows = self.pool.query(sql, &[]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (number, version): (i32, &str) = (row.get(0), row.get(1));
        match number >= OLDEST_SERVER {
            true => found.ok(self.check.server, format!("PostgreSQL {version}")),
            false => found.fail(self.check.server, format!("PostgreSQL {version}"), "PostgreSQL 12 or later is needed"),
        }
        let (replica, read_only): (bool, bool) = (row.get(2), row.get(3));
        let check = self.check.role;
        match (self.pool.address().section, replica, read_only) {
            ("feedback", true, _) => {
                found.fail(check, "it is a replica: nothing can be written", "let feedback.url lead to the primary")
            }
            ("feedback", false, true) => found.fail(
                check,
                "its transactions are read-only",
                "alter role ... set default_transaction_read_only = off",
            ),
            ("feedback", false, false) => found.ok(check, "it takes writes"),
            (_, false, _) => found.ok(check, "it is a primary: favourites are seen as soon as they are committed"),
            (_, true, _) => self.replica(found).await?,
        }
        Ok(())
    }

    /// Whether the subscribers' replica is up to date. A trouble that is over at a second look was none.
    async fn replica(&self, found: &mut Findings) -> Result<(), PostgresError> {
        let check = self.check.role;
        let Some(mut replica) = Replica::look(self.pool).await? else { return Ok(()) };
        if replica.trouble().is_some() {
            tokio::time::sleep(RETRY_INTERVAL).await;
            replica = Replica::look(self.pool).await?.unwrap_or(replica);
        }
        if let Some(trouble) = replica.trouble() {
            let remedy = "look at the replication: pg_stat_wal_receiver and pg_get_wal_replay_pause_state() on the replica, its log, and \
                          pg_stat_replication on the primary; max_standby_streaming_delay bounds how long queries hold it up";
            found.warn(check, trouble, remedy);
            return Ok(());
        }
        let behind = replica.behind().map_or("it is not known how far".to_owned(), |behind| format!("{behind:.1} s"));
        let hidden = match replica.is_visible() {
            true => "",
            false => "; what its receiver does this role may not see (grant pg_read_all_stats)",
        };
        found.ok(check, format!("it is a replica, {behind} behind{hidden}"));
        Ok(())
    }

    /// A commit that can be lost is a draft that can be told twice.
    async fn durability(&self, found: &mut Findings) -> Result<(), PostgresError> {
        let sql = "select current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_standby_names') <> ''";
        let rows = self.pool.query(sql, &[]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        for (setting, value) in [("fsync", row.get::<_, &str>(0)), ("full_page_writes", row.get(1))] {
            if value == "off" {
                found.warn(
                    "feedback-durability",
                    format!(
                        "{setting} is off: a crash of the server can lose commits, and the lanes halt as kafka-ahead"
                    ),
                    format!("alter system set {setting} = on; select pg_reload_conf()"),
                );
            }
        }
        let standby: bool = row.get(2);
        found.ok(
            "feedback-durability",
            match standby {
                true => "commits are on disk before they are announced, and on a synchronous standby",
                false => "commits are on disk before they are announced; a fail-over to an asynchronous standby can lose some (`lane resolve --from-kafka`)",
            },
        );
        Ok(())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the machine's own clock is meant: it is compared with the database's"
    )]
    async fn clock(&self, found: &mut Findings) -> Result<(), PostgresError> {
        let before = SystemTime::now();
        let rows = self.pool.query("select extract(epoch from clock_timestamp())::float8", &[]).await?;
        let after = SystemTime::now();
        let Some(row) = rows.first() else { return Ok(()) };
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let difference = (seconds(before) + seconds(after)) / 2.0 - row.get::<_, f64>(0);
        let told = format!(
            "this machine's clock is {difference:+.1} s from the feedback database's, by which campaigns start and end"
        );
        match difference.abs() < NOTABLE_DIFFERENCE {
            true => found.ok("clock", told),
            false => found.warn("clock", told, "check the time synchronisation of both machines"),
        }
        Ok(())
    }

    /// Whether a pooler is in between, and whether the server has room for what this service opens.
    async fn connections(&self, found: &mut Findings) -> Result<(), PostgresError> {
        let check = self.check.connections;
        let most = i64::try_from(self.pool.most()).unwrap_or(i64::MAX);
        if self.pool.most() > 1 && self.is_pooled().await? {
            found.ok(
                check,
                format!("a pooler in transaction mode is in between: its pool needs room for {most} transactions of each instance, and to spare"),
            );
            return Ok(());
        }
        let sql = "select current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8 \
                     - (select coalesce(sum(numbackends), 0)::int8 from pg_stat_database), \
                   (select rolconnlimit::int8 from pg_roles where rolname = current_user)";
        let rows = self.pool.query(sql, &[]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (free, limit): (i64, i64) = (row.get(0), row.get(1));
        let section = self.pool.address().section;
        let told = format!("{free} connections are free, an instance opens at most {most}");
        if limit >= 0 && limit < most {
            found.warn(
                check,
                format!("the role may open {limit} connections, an instance opens at most {most}"),
                format!("alter role ... connection limit -1, or lower {section}.max_connections"),
            );
        } else if free < most {
            found.warn(check, told, format!("raise max_connections of the server, or lower {section}.max_connections"));
        } else {
            found.ok(check, told);
        }
        Ok(())
    }

    /// Two connections of ours that are served by one backend: only a pooler does that.
    async fn is_pooled(&self) -> Result<bool, PostgresError> {
        let (one, other) = (self.pool.get().await?, self.pool.get().await?);
        let sql = "select pg_backend_pid()";
        let pids: (i32, i32) = (one.query_one(sql, &[]).await?.get(0), other.query_one(sql, &[]).await?.get(0));
        one.release();
        other.release();
        Ok(pids.0 == pids.1)
    }

    /// What the service would miss in the table; whether its columns are as they must be.
    fn needs(&self, missing: &[Missing], found: &mut Findings) -> bool {
        let table = self.pool.table();
        let (mut shape, mut rights, mut hidden) = (true, Vec::new(), false);
        for one in missing {
            match one {
                Missing::Right(right, column) => {
                    let column = column.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
                    rights.push(format!("{}{column}", right.to_lowercase()));
                    continue;
                }
                Missing::Sequence(sequence) => {
                    rights.push(format!("use sequence {sequence}, which gives the rows their ids"));
                    continue;
                }
                Missing::AllRows => {
                    found.fail(self.check.rights, one.found(self.pool), one.remedy(self.pool));
                    hidden = true;
                    continue;
                }
                _ => {}
            }
            shape &= !one.is_another_shape();
            found.fail(self.check.table, one.found(self.pool), one.remedy(self.pool));
        }
        if !shape {
            return false;
        }
        found.ok(self.check.table, format!("table {table} has the columns that are needed"));
        match rights.is_empty() {
            true if hidden => {}
            true => found.ok(self.check.rights, format!("the role has every right on {table} that is needed")),
            false => found.fail(
                self.check.rights,
                format!("the role may not, in table {table}: {}", rights.join(", ")),
                "`dinnerbell doctor --grants` prints the rights that are needed",
            ),
        }
        true
    }

    async fn feedback_index(&self, found: &mut Findings) -> Result<(), PostgresError> {
        let check = self.check.index;
        let status = feedback_index(self.pool).await?;
        match &status {
            FeedbackIndex::Once(name) => found.ok(check, format!("index {name} keeps each (campaign, client) once")),
            FeedbackIndex::OnceFrom { name, id } => {
                found.warn(
                    check,
                    format!("index {name} keeps each (campaign, client) once only for rows with id > {id}"),
                    format!("remove the duplicates, drop index {name}, and run `dinnerbell migrate`"),
                );
                self.duplicates(found).await;
            }
            FeedbackIndex::Plain(name) => found.warn(
                check,
                format!("index {name} is plain: the service tells nobody twice by itself, but nothing keeps others from writing a second row"),
                "run `dinnerbell migrate`, which says why it could not make a unique one",
            ),
            FeedbackIndex::Missing => {
                found.fail(check, "the unique index on (adv_campaign_id, client_id) is missing", "run `dinnerbell migrate`");
            }
        }
        for of_before in feedback_indexes_of_before(self.pool).await? {
            let (what, remedy) = of_before.split_once("; ").unwrap_or((&of_before, "run `dinnerbell migrate`"));
            found.warn(check, what, remedy);
        }
        Ok(())
    }

    async fn duplicates(&self, found: &mut Findings) {
        match tokio::time::timeout(COUNT, count_duplicates(self.pool)).await {
            Ok(Ok(0)) => found.ok("feedback-duplicates", "no (campaign, client) has more than one row"),
            Ok(Ok(pairs)) => found.warn(
                "feedback-duplicates",
                format!("{pairs} (campaign, client) pairs have more than one row"),
                "an earlier job wrote them; nobody is told again because of them",
            ),
            Ok(Err(error)) => found.refused("feedback-duplicates", error),
            Err(_) => found.add(
                "feedback-duplicates",
                Status::Warning,
                format!("duplicates could not be counted in {} s", COUNT.as_secs()),
                "`dinnerbell migrate` counts them",
            ),
        }
    }

    async fn subscriber_indexes(&self, found: &mut Findings) -> Result<(), PostgresError> {
        let missing = missing_subscriber_indexes(self.pool).await?;
        match missing.is_empty() {
            true => found.ok(self.check.index, "the indexes that give an audience page by page are there"),
            false => found.warn(
                self.check.index,
                "each page of an audience is a scan of the table: an index is missing",
                format!("run `dinnerbell migrate`, or have the table's owner run: {}", missing.join("; ")),
            ),
        }
        self.newest(found).await
    }

    /// Newcomers are found by their ids, which begin behind the largest.
    async fn newest(&self, found: &mut Findings) -> Result<(), PostgresError> {
        let table = self.pool.table();
        let took = match time_of_newest(self.pool).await? {
            Some(took) if took < SLOW_ID => {
                found.ok(self.check.index, format!("the largest id of {table} is found at once"));
                return Ok(());
            }
            Some(took) => format!("is found in {:.1} s", took.as_secs_f64()),
            None => "is not found in time".to_owned(),
        };
        found.warn(
            self.check.index,
            format!("the largest id of {table} {took}: newcomers may wait for the rescan of every five minutes"),
            "create an index whose first column is id, in each table or partition behind it",
        );
        Ok(())
    }
}
