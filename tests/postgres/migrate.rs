//! `dinnerbell migrate`.

use std::process::Stdio;
use std::sync::Arc;

use dinnerbell_postgres::migrate::schema_is_current;

use crate::postgres::place::{Login, Migration, SOON, empty_database, feedback_pool, seed_database};
use crate::support::database::psql_command;
use crate::support::{Database, wait_until};

const ONCE: &str = "dinnerbell_once_c_subscribers_feedback";
const TOLD: &str = "dinnerbell_told_c_subscribers_feedback";

/// Each index of ours with whether it is valid, and its definition.
fn our_indexes(database: &Database) -> Vec<(String, bool, String)> {
    let rows = database.query(
        "select c.relname as name, i.indisvalid as valid, pg_get_indexdef(c.oid) as definition, c.oid::int8 as oid
         from pg_index i join pg_class c on c.oid = i.indexrelid where c.relname like 'dinnerbell\\_%' order by 1",
    );
    let index = |row: &serde_json::Value| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (text("name"), row["valid"].as_bool().unwrap(), format!("{} {}", row["oid"], text("definition")))
    };
    rows.iter().map(index).collect()
}

fn definition(database: &Database, name: &str) -> String {
    let found = our_indexes(database).into_iter().find(|index| index.0 == name);
    let (_, valid, definition) = found.unwrap_or_else(|| panic!("index {name} is missing"));
    assert!(valid, "{name} is not valid");
    definition
}

fn add_feedback(database: &Database, campaign: &str, clients: &str) {
    database
        .execute(&format!("insert into {FEEDBACK_COLUMNS} select {ROW}, '{campaign}', c, 1 from ({clients}) t (c)"));
}

const FEEDBACK_COLUMNS: &str = "public.subscribers_feedback (restaurant_id, adv_campaign_content, adv_campaign_owner,
    adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, adv_campaign_id,
    client_id, trigger_datetime_created)";
const ROW: &str = "'r', 'x', 'o', 'k', 1, 2, 1";

/// How many migrations there are.
fn migrations() -> i64 {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
    i64::try_from(files.count()).unwrap()
}

#[test]
fn a_missing_table_is_named_with_its_key_and_the_remedy() {
    let database = empty_database();
    let errors = Migration::of_one(&database).fail();
    assert!(errors.contains("public.subscribers_restaurants does not exist"), "{errors}");
    assert!(errors.contains("subscribers.table") && errors.contains("--create-tables"), "{errors}");
    database.execute("create table public.subscribers_restaurants (client_id varchar, restaurant_id varchar)");
    let errors = Migration::of_one(&database).fail();
    assert!(
        errors.contains("public.subscribers_feedback does not exist") && errors.contains("feedback.table"),
        "{errors}"
    );
    assert_eq!(
        database.number("select count(*) from pg_namespace where nspname = 'dinnerbell'"),
        0,
        "nothing half made"
    );
}

#[test]
fn tables_ledger_and_indexes_are_made_once_and_left_alone_afterwards() {
    let (subscribers, feedback) = (empty_database(), empty_database());
    let migration = Migration::of(&subscribers.plain_url(), &feedback.plain_url());
    migration.succeed(&["--create-tables"]);
    let made = (our_indexes(&subscribers), our_indexes(&feedback));
    let names: Vec<_> = made.0.iter().chain(&made.1).map(|index| (index.0.as_str(), index.1)).collect();
    assert_eq!(
        names,
        [
            ("dinnerbell_audience_subscribers_restaurants", true),
            ("dinnerbell_skipped_subscribers_restaurants", true),
            (ONCE, true)
        ]
    );
    assert!(made.1[0].2.contains("UNIQUE INDEX"), "{made:?}");
    let tables = |database: &Database| {
        database.number("select count(*) from pg_class where relkind = 'r' and relname like 'subscribers\\_%'")
    };
    assert_eq!((tables(&subscribers), tables(&feedback)), (1, 1), "each table in its own database");

    migration.succeed(&["--create-tables"]);
    migration.succeed(&[]);
    assert_eq!((our_indexes(&subscribers), our_indexes(&feedback)), made);
    assert_eq!(feedback.number("select count(*) from dinnerbell.migrations"), migrations());
}

#[test]
fn the_indexes_do_not_refuse_rows_that_do_not_fit_into_them() {
    let database = seed_database();
    Migration::of_one(&database).succeed(&[]);
    // Random, so that it cannot be compressed to what btree takes.
    let long = "(select string_agg(md5(random()::text), '') from generate_series(1, 500))";
    database.execute(&format!(
        "insert into public.subscribers_restaurants (client_id, restaurant_id) values ({long}, 'r'), ('c', {long}), ({long}, {long})"
    ));
    add_feedback(&database, "c", &format!("select {long}"));
}

#[test]
fn an_index_that_serves_is_accepted_under_any_name() {
    let database = seed_database();
    database.execute(
        "create unique index theirs on public.subscribers_feedback (adv_campaign_id collate \"C\", client_id collate \"C\")
         where octet_length(adv_campaign_id) <= 256 and octet_length(client_id) <= 256",
    );
    let output = Migration::of_one(&database).succeed(&[]);
    assert!(output.contains("index theirs keeps each (campaign, client) once"), "{output}");
    assert!(our_indexes(&database).iter().all(|index| index.0 != ONCE));
}

#[test]
fn an_index_of_an_earlier_version_gives_way_to_one_that_no_collation_can_break_while_that_version_still_runs() {
    let database = seed_database();
    // The rig's databases compare by ICU, whose order changes from version to version.
    let migration = Migration::of_one(&database);
    migration.succeed(&[]);
    let of_before = "dinnerbell_once_subscribers_feedback";
    database.execute(&format!(
        "drop index public.{ONCE};
         create unique index {of_before} on public.subscribers_feedback (adv_campaign_id, client_id collate \"C\")
           where octet_length(adv_campaign_id) <= 256 and octet_length(client_id) <= 256;
         alter table dinnerbell.campaign alter column adv_campaign_id type text collate \"default\";
         alter table dinnerbell.lane drop column round_bytes; drop table dinnerbell.audit, dinnerbell.locked_row, dinnerbell.lock_wait;
         delete from dinnerbell.migrations where version > 8"
    ));
    let before = definition(&database, of_before);
    let told = migration.succeed(&[]);
    assert!(definition(&database, ONCE).contains("adv_campaign_id COLLATE \"C\", client_id COLLATE \"C\""));
    assert_eq!(definition(&database, of_before), before, "the earlier version still needs it");
    let drop = told.rsplit("no instance of an earlier version runs any more: ").next().expect("it says how").trim();
    let drop = drop.lines().next().expect("one line");
    database.execute(drop);
    assert!(our_indexes(&database).iter().all(|index| index.0 != of_before), "{drop}");
    let told = migration.succeed(&[]);
    assert!(!told.contains("earlier version"), "{told}");
    let by_collation = "select count(*) from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_collation o on o.oid = a.attcollation
        where c.relnamespace = 'dinnerbell'::regnamespace and c.relkind = 'r' and a.attname in ('adv_campaign_id', 'restaurant_id')
        and o.collname <> 'C'";
    assert_eq!(database.number(by_collation), 0, "nor can one break the ledger's keys");
}

#[test]
fn several_migrates_at_once_do_the_work_once() {
    let database = empty_database();
    let migration = Migration::of_one(&database);
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = migration.command(&["--create-tables"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(our_indexes(&database).len(), 3);
    assert_eq!(database.number("select count(*) from dinnerbell.migrations"), migrations());
}

#[test]
fn what_an_interrupted_build_left_is_dropped_and_built_again() {
    let database = seed_database();
    add_feedback(&database, "spring", "select 'k' || i from generate_series(1, 1000) i");
    let migration = Migration::of_one(&database);
    // A transaction that wrote to the table holds the build up; then the build's client is killed, and its server process ended.
    let mut writer = Writer::start(&database);
    writer.say("begin; update public.subscribers_feedback set feedback = 'good' where id = 1;");
    let migrating = migration.start();
    let building = "select count(*) from pg_stat_activity where query like 'create unique index%' and datname = current_database()";
    wait_until("the build waits", SOON, || database.number(building) == 1 && our_indexes(&database).len() == 1);
    migrating.kill();
    database.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where query like 'create unique index%' and pid <> pg_backend_pid()
           and datname = current_database()",
    );
    wait_until("the build has ended", SOON, || database.number(building) == 0);
    writer.say("commit;");
    writer.end();
    assert!(!our_indexes(&database)[0].1, "the leftover is there, and not valid");

    migration.succeed(&[]);
    assert!(definition(&database, ONCE).contains("UNIQUE"));
}

#[test]
fn a_running_writer_is_neither_stopped_nor_in_the_way_for_long() {
    let database = seed_database();
    let migration = Migration::of_one(&database);
    let mut writer = Writer::start(&database);
    writer.say("begin; insert into public.subscribers_restaurants (client_id, restaurant_id) values ('alice', 'r');");
    let mut migrating = migration.start();
    migrating.wait_for_log("waiting for writers before build", SOON);
    // Others write meanwhile.
    database.subscribe("r", 10);
    writer.say("commit;");
    writer.end();
    assert!(migrating.wait(SOON).success(), "{}", migrating.log());
    definition(&database, "dinnerbell_audience_subscribers_restaurants");
}

#[test]
fn a_ledger_of_an_earlier_version_is_brought_up_to_date_when_whoever_reads_it_is_done() {
    let database = seed_database();
    let migration = Migration::of_one(&database);
    migration.succeed(&[]);
    // As the fourth version left it.
    database.execute(
        "delete from dinnerbell.migrations where version > 4; drop index dinnerbell.campaign_uncounted;
         create index campaign_uncounted on dinnerbell.campaign (lane) where unsent is null and state in ('expired', 'closed');
         alter table dinnerbell.dead_letter drop column bytes, drop column left_out, drop column value_size, drop column value_sha256;
         alter table dinnerbell.lane drop column round_bytes; drop table dinnerbell.audit, dinnerbell.locked_row, dinnerbell.lock_wait",
    );
    let mut reader = Writer::start(&database);
    reader.say("begin; lock table dinnerbell.campaign in access share mode;");
    let mut migrating = migration.start();
    migrating.wait_for_log("waiting for a lock on the ledger's tables", SOON);
    // Anyone who tells campaigns goes on meanwhile.
    database.execute("insert into dinnerbell.campaign (adv_campaign_id, lane, state) values ('offer', 0, 'cancelled')");
    reader.say("commit;");
    reader.end();
    assert!(migrating.wait(SOON).success(), "{}", migrating.log());
    let indexed =
        "select count(*) from pg_indexes where indexname = 'campaign_uncounted' and indexdef like '%cancelled%'";
    assert_eq!(database.number(indexed), 1);
    assert_eq!(database.number("select count(*) from dinnerbell.migrations"), migrations());
}

#[test]
fn duplicates_are_counted_and_later_rows_kept_unique() {
    let database = seed_database();
    add_feedback(&database, "spring", "select 'k' || (i % 95) from generate_series(1, 100) i");
    let migration = Migration::of_one(&database);
    let output = migration.succeed(&[]);
    assert!(output.contains("5 (campaign, client) pairs have more than one row"), "{output}");
    assert!(output.contains("id > 100"), "{output}");
    assert!(definition(&database, ONCE).contains("id > 100"));
    assert!(!definition(&database, TOLD).contains("UNIQUE"));

    // Old rows stay as they are; new ones are kept once.
    add_feedback(&database, "spring", "values ('k1'), ('new')");
    let again = feedback_insert(&database, "new");
    assert!(again.contains(ONCE), "{again}");
    let before = our_indexes(&database);
    let output = migration.succeed(&[]);
    assert!(output.contains("only for rows with id > 100"), "{output}");
    assert_eq!(our_indexes(&database), before);

    // As the warning says: remove them, drop the index, run it again.
    database.execute(&format!(
        "delete from public.subscribers_feedback a using public.subscribers_feedback b
           where a.client_id = b.client_id and a.id > b.id; drop index public.{ONCE}"
    ));
    migration.succeed(&[]);
    assert!(!definition(&database, ONCE).contains("id >"));
}

/// The error of an insert.
fn feedback_insert(database: &Database, client: &str) -> String {
    let sql = format!("insert into {FEEDBACK_COLUMNS} values ({ROW}, 'spring', '{client}', 1)");
    let output = psql_command(database.server(), &database.name).args(["--command", &sql]).output().unwrap();
    assert!(!output.status.success(), "the row was taken");
    String::from_utf8(output.stderr).unwrap()
}

fn partitioned(database: &Database, by: &str, partitions: &str) {
    database.execute(&format!(
        "create table public.subscribers_restaurants (id serial4, client_id varchar not null, restaurant_id varchar not null);
         create table public.subscribers_feedback (id serial4 not null, restaurant_id text not null, adv_campaign_id text not null,
           adv_campaign_content text not null, adv_campaign_owner text not null, adv_campaign_owner_contact text not null,
           adv_campaign_datetime_start int8 not null, adv_campaign_datetime_end int8 not null, datetime_created int8 not null,
           client_id text not null, trigger_datetime_created int4 not null, feedback varchar) partition by {by};
         {partitions}"
    ));
}

#[test]
fn a_partitioned_table_is_indexed_partition_by_partition() {
    let database = empty_database();
    partitioned(
        &database,
        "hash (adv_campaign_id)",
        "create table public.part_0 partition of public.subscribers_feedback for values with (modulus 2, remainder 0);
         create table public.part_1 partition of public.subscribers_feedback for values with (modulus 2, remainder 1)
           partition by hash (client_id);
         create table public.part_1_0 partition of public.part_1 for values with (modulus 2, remainder 0);
         create table public.part_1_1 partition of public.part_1 for values with (modulus 2, remainder 1);",
    );
    add_feedback(&database, "spring", "select 'k' || i from generate_series(1, 500) i");
    add_feedback(&database, "autumn", "select 'k' || i from generate_series(1, 500) i");
    // As an interrupted run leaves it: an index on the parent alone.
    database.execute(&format!(
        "create unique index {ONCE} on only public.subscribers_feedback
           (adv_campaign_id collate \"C\", client_id collate \"C\", client_id, adv_campaign_id)
           where octet_length(adv_campaign_id) <= 256 and octet_length(client_id) <= 256"
    ));
    let migration = Migration::of_one(&database);
    migration.succeed(&[]);
    let made = our_indexes(&database);
    let on_feedback: Vec<_> = made.iter().filter(|index| index.0.starts_with("dinnerbell_once")).collect();
    assert_eq!(on_feedback.len(), 5, "{made:?}");
    assert!(on_feedback.iter().all(|index| index.1), "{made:?}");
    assert!(feedback_insert(&database, "k7").contains("dinnerbell_once"), "unique across partitions");
    migration.succeed(&[]);
    assert_eq!(our_indexes(&database), made);
}

#[test]
fn a_partitioned_table_with_duplicates_is_unique_from_now_on() {
    let database = empty_database();
    partitioned(
        &database,
        "hash (client_id)",
        "create table public.part_0 partition of public.subscribers_feedback for values with (modulus 2, remainder 0);
         create table public.part_1 partition of public.subscribers_feedback for values with (modulus 2, remainder 1);",
    );
    add_feedback(&database, "spring", "values ('a'), ('a'), ('b'), ('c'), ('c'), ('d'), ('e')");
    let migration = Migration::of_one(&database);
    let output = migration.succeed(&[]);
    assert!(output.contains("2 (campaign, client) pairs"), "{output}");
    assert!(definition(&database, ONCE).contains("id > 7"));
    definition(&database, TOLD);
    let made = our_indexes(&database);
    assert!(made.iter().all(|index| index.1), "{made:?}");
    migration.succeed(&[]);
    assert_eq!(our_indexes(&database), made);
}

#[test]
fn a_table_partitioned_by_time_gets_a_plain_index_and_an_explanation() {
    let database = empty_database();
    partitioned(
        &database,
        "range (trigger_datetime_created)",
        "create table public.part_0 partition of public.subscribers_feedback for values from (0) to (100);",
    );
    let output = Migration::of_one(&database).succeed(&[]);
    assert!(
        output.contains("RANGE (trigger_datetime_created)") && output.contains("must hold its partition key"),
        "{output}"
    );
    assert!(!definition(&database, TOLD).contains("UNIQUE"));
}

#[test]
fn where_the_subscribers_may_only_be_read_the_sql_is_handed_over() {
    let (subscribers, feedback) = (Arc::new(seed_database()), seed_database());
    let login = Login::create(&subscribers);
    subscribers.execute(&format!("grant select on public.subscribers_restaurants to {}", login.name));
    let migration = Migration::of(&login.url, &feedback.plain_url());
    let output = migration.succeed(&[]);
    assert!(output.contains("warning: subscribers database"), "{output}");
    assert!(our_indexes(&subscribers).is_empty());

    // Its owner runs what was printed; then there is nothing to say.
    output.lines().filter(|line| line.starts_with("create index")).for_each(|statement| subscribers.execute(statement));
    assert_eq!(our_indexes(&subscribers).len(), 2);
    let output = migration.succeed(&[]);
    assert!(!output.contains("warning"), "{output}");
}

#[test]
fn a_subscribers_database_that_takes_no_writes_is_no_error() {
    let (subscribers, feedback) = (seed_database(), seed_database());
    // A standby says the same.
    subscribers.execute(&format!("alter database {} set default_transaction_read_only = on", subscribers.name));
    let output = Migration::of(&subscribers.plain_url(), &feedback.plain_url()).succeed(&[]);
    assert!(output.contains("create index concurrently"), "{output}");
    assert!(our_indexes(&subscribers).is_empty());
}

#[test]
fn a_feedback_database_without_the_right_to_change_it_is_refused() {
    let database = Arc::new(seed_database());
    let login = Login::create(&database);
    database.execute(&format!("grant all on all tables in schema public to {}", login.name));
    let errors = Migration::of(&database.plain_url(), &login.url).fail();
    assert!(errors.contains("42501") && errors.contains("feedback database"), "{errors}");
}

#[test]
fn the_printed_script_makes_the_same_without_contacting_anybody() {
    let (by_hand, by_itself) = (empty_database(), empty_database());
    Migration::of_one(&by_itself).succeed(&["--create-tables"]);
    let nowhere = "postgres://postgres:p@127.0.0.1:1/de?sslmode=disable";
    let script = Migration::of(nowhere, nowhere).succeed(&["--create-tables", "--print-sql"]);
    by_hand.execute(&script);
    let schema = |database: &Database| {
        database.query(
            "select table_schema, table_name, column_name, data_type, is_nullable, column_default from information_schema.columns
             where table_schema in ('public', 'dinnerbell') order by 1, 2, ordinal_position",
        )
    };
    assert_eq!(schema(&by_hand), schema(&by_itself));
    let without_oid = |database: &Database| -> Vec<_> {
        let indexes = our_indexes(database).into_iter();
        indexes.map(|(name, valid, text)| (name, valid, text.split_once(' ').unwrap().1.to_owned())).collect()
    };
    assert_eq!(without_oid(&by_hand), without_oid(&by_itself));
    let before = our_indexes(&by_hand);
    Migration::of_one(&by_hand).succeed(&[]);
    assert_eq!(our_indexes(&by_hand), before);
}

#[tokio::test]
async fn the_service_knows_whether_the_ledger_is_its_own_version() {
    let database = seed_database();
    let pool = feedback_pool(&database);
    let error = schema_is_current(&pool).await.unwrap_err().to_string();
    assert!(error.contains("run `dinnerbell migrate`"), "{error}");
    Migration::of_one(&database).succeed(&[]);
    schema_is_current(&pool).await.unwrap();

    database.execute("insert into dinnerbell.migrations values (99, 'later', '2030-01-01T00:00:00Z', '1')");
    let error = schema_is_current(&pool).await.unwrap_err().to_string();
    assert!(error.contains("or a later one"), "{error}");
    let errors = Migration::of_one(&database).fail();
    assert!(errors.contains("V99__later") && errors.contains("or a later one"), "{errors}");

    database.execute(
        "delete from dinnerbell.migrations where version = 99; update dinnerbell.migrations set checksum = '7'",
    );
    let error = schema_is_current(&pool).await.unwrap_err().to_string();
    assert!(error.contains("not the one of this program"), "{error}");
    let errors = Migration::of_one(&database).fail();
    assert!(errors.contains("not the one of this program"), "{errors}");

    database.execute("delete from dinnerbell.migrations");
    let error = schema_is_current(&pool).await.unwrap_err().to_string();
    assert!(error.contains("earlier version; run `dinnerbell migrate`"), "{error}");
}

/// A psql that stays, to hold a transaction open.
struct Writer {
    psql: std::process::Child,
}

impl Writer {
    fn start(database: &Database) -> Self {
        let mut command = psql_command(database.server(), &database.name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self { psql: command.spawn().unwrap() }
    }

    /// Runs statements, and returns when they are done.
    fn say(&mut self, sql: &str) {
        use std::io::{BufRead, BufReader, Write};
        let input = self.psql.stdin.as_mut().unwrap();
        writeln!(input, "{sql}\n\\echo done").unwrap();
        let mut line = String::new();
        // One line each time: nothing else is printed.
        BufReader::with_capacity(1, self.psql.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "done");
    }

    fn end(mut self) {
        drop(self.psql.stdin.take());
        assert!(self.psql.wait().unwrap().success());
    }
}

#[test]
fn a_table_that_the_service_would_refuse_is_warned_of_and_what_widens_a_column_rewrites_no_row() {
    let database = seed_database();
    database.execute(
        "alter table public.subscribers_feedback alter client_id type varchar(50), alter trigger_datetime_created type numeric",
    );
    add_feedback(&database, "spring", "values ('a'), ('b')");
    let told = Migration::of_one(&database).succeed(&[]);
    let widen = "alter table public.subscribers_feedback alter column client_id type text";
    assert!(told.contains("holds at most 50 characters, and must hold 256") && told.contains(widen), "{told}");
    assert!(told.contains("trigger_datetime_created") && told.contains("must be integer or bigint"), "{told}");
    let file = "select pg_relation_filenode('public.subscribers_feedback')::int8 as file";
    let before = database.query(file);
    database.execute(widen);
    assert_eq!(database.query(file), before);
    assert!(definition(&database, ONCE).contains("UNIQUE"));
    let told = Migration::of_one(&database).succeed(&[]);
    assert!(!told.contains("client_id of"), "{told}");
}
