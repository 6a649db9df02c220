//! The feedback table is another one than the ledger knows, or rows of it are gone: nobody is told again.

use std::process::{Command, Stdio};

use crate::life::scene::{LONG, OpenTransaction, await_running, await_state, number, stage};
use crate::support::{Campaign, Database, Expected, PostgresServer, Service, Stage, wait_for, wait_until};

/// Another table comes into the place of the one that is there.
const SWAP: &str = "alter table public.subscribers_feedback rename to subscribers_feedback_old; \
                    create table public.subscribers_feedback (like public.subscribers_feedback_old including all)";
/// The one that was there comes back.
const SWAP_BACK: &str = "begin; drop table public.subscribers_feedback; \
                         alter table public.subscribers_feedback_old rename to subscribers_feedback; commit";
/// The rescan that comes each five minutes is due.
const REPASS: &str = "update dinnerbell.campaign set repass_at = 0";

/// A service that told a campaign of thirty, which goes on.
struct Told {
    service: Service,
    stage: Stage,
    expected: Expected,
}

impl Told {
    fn new() -> Self {
        let stage = stage(1);
        let service = stage.start();
        await_running(&stage, 1);
        let mut told = Self { stage, expected: Expected::default(), service };
        told.tell("first", 30);
        await_state(&told.stage, "first", "complete");
        told
    }

    #[track_caller]
    fn tell(&mut self, name: &str, subscribers: u64) {
        self.stage.subscribers.subscribe(name, subscribers);
        let campaign = Campaign::now(name, name);
        self.expected.add(&campaign, self.stage.subscribers.clients_of(name));
        self.stage.send(&campaign);
        self.stage.await_sinks(&self.expected, LONG);
    }

    fn execute(&self, sql: &str) {
        self.stage.feedback.execute(sql);
    }

    /// Waits for this halt; what was found.
    #[track_caller]
    fn await_halt(&self, name: &str) -> String {
        let sql = "select halted, halted_found from dinnerbell.lane where halted is not null";
        let row = wait_for("the lane is halted", LONG, || self.stage.feedback.query(sql).pop());
        let found = row["halted_found"].as_str().unwrap().to_owned();
        assert_eq!(row["halted"], name, "{found}");
        found
    }

    /// What a command says that must fail with this status.
    #[track_caller]
    fn refused(&self, status: i32, args: &[&str]) -> String {
        let output = self.stage.dinnerbell(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        said
    }

    fn rows(&self) -> usize {
        self.stage.row_count()
    }
}

#[test]
fn a_service_that_is_configured_to_another_table_does_not_start_and_no_command_works_with_it() {
    let mut told = Told::new();
    let Told { stage, .. } = &mut told;
    stage.feedback.execute("create table public.feedback_of_may (like public.subscribers_feedback including all)");
    stage.config.set("feedback", "table", "public.feedback_of_may");
    let names = "feedback.table is public.feedback_of_may, and the ledger knows public.subscribers_feedback";
    for (status, args) in [
        (1, &["run"][..]),
        (1, &["migrate"]),
        (1, &["doctor"]),
        (3, &["verify"]),
        (1, &["lane", "resolve", "0", "--retry"]),
    ] {
        let said = told.refused(status, args);
        assert!(said.contains(names) && said.contains("dinnerbell migrate --adopt-feedback-table"), "{args:?}: {said}");
    }
    assert_eq!(told.stage.feedback.number("select count(*) from public.feedback_of_may"), 0);
    told.service.stop();
}

#[test]
fn a_table_that_comes_into_the_place_of_another_is_adopted_when_it_holds_the_rows_of_what_goes_on() {
    let mut told = Told::new();
    told.execute(&format!("begin; {SWAP}; commit; {REPASS}"));
    let found = told.await_halt("feedback-table-replaced");
    assert!(found.contains("the known one is called public.subscribers_feedback_old now"), "{found}");
    assert_eq!(told.rows(), 0, "nobody was told again");

    let said = told.refused(1, &["migrate", "--adopt-feedback-table"]);
    assert!(said.contains("of first 30 clients were told, and 0 rows are there"), "{said}");
    let copy = said.split_once("insert into").expect("it says how").1.split("; or add --without-rows").next().unwrap();
    told.execute(&format!("insert into{copy}"));
    // A single row that did not get over, of many, is a client who would be told again.
    told.execute("delete from public.subscribers_feedback where client_id = (select min(client_id) from public.subscribers_feedback)");
    let said = told.refused(1, &["migrate", "--adopt-feedback-table"]);
    assert!(said.contains("of first 30 clients were told, and 29 rows are there"), "{said}");
    told.execute(&format!("insert into{copy}"));
    told.stage.dinnerbell_ok(&["migrate", "--adopt-feedback-table"]);
    told.execute(REPASS);
    told.tell("second", 5);
    wait_until("the rescan is over", LONG, || {
        told.stage.feedback.number("select count(*) from dinnerbell.campaign where repass_at = 0") == 0
    });
    told.stage.assert_sinks(&told.expected);
    told.service.stop();
}

#[test]
fn a_table_is_adopted_only_while_nothing_is_sent_and_with_an_earlier_jobs_rows_of_campaigns_to_come() {
    let mut told = Told::new();
    let columns = "restaurant_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, adv_campaign_datetime_start, \
                   adv_campaign_datetime_end, datetime_created, client_id, trigger_datetime_created";
    let to_come = Campaign::now("to come", "first");
    let start = to_come.adv_campaign_datetime_start;
    told.stage.send(&to_come.lasting(start + 3_000, start + 6_000));
    await_state(&told.stage, "to come", "scheduled");
    told.execute(&format!(
        "insert into public.subscribers_feedback (adv_campaign_id, {columns})
           select 'to come', {columns} from public.subscribers_feedback limit 1;
         create table public.feedback_of_may (like public.subscribers_feedback including all);
         insert into public.feedback_of_may select * from public.subscribers_feedback where adv_campaign_id = 'first'"
    ));
    told.stage.config.set("feedback", "table", "public.feedback_of_may");
    let said = told.refused(1, &["migrate", "--adopt-feedback-table"]);
    assert!(said.contains("only while nothing is sent; run `dinnerbell pause` before"), "{said}");
    told.execute("update dinnerbell.service set paused_at = clock_timestamp()");
    let said = told.refused(1, &["migrate", "--adopt-feedback-table"]);
    assert!(said.contains("of to come 1 clients were told, and 0 rows are there"), "{said}");
    told.execute("insert into public.feedback_of_may select * from public.subscribers_feedback where adv_campaign_id = 'to come'");
    told.stage.dinnerbell_ok(&["migrate", "--adopt-feedback-table"]);
    told.service.stop();
}

#[test]
fn a_table_that_is_adopted_without_its_rows_tells_nobody_again_before_an_operator_decides() {
    let mut told = Told::new();
    told.execute(&format!("begin; {SWAP}; commit"));
    told.await_halt("feedback-table-replaced");
    told.execute("alter table public.subscribers_feedback alter id drop default; drop table public.subscribers_feedback_old cascade");
    told.execute("create sequence public.again; alter table public.subscribers_feedback alter id set default nextval('public.again')");
    let said = told.refused(1, &["migrate", "--adopt-feedback-table"]);
    assert!(said.contains("put them back from a backup") && said.contains("--without-rows"), "{said}");
    told.stage.dinnerbell_ok(&["migrate", "--adopt-feedback-table", "--without-rows"]);
    told.await_halt("rows-removed");
    assert_eq!(told.stage.messages().len(), 30, "nobody was told again");
    told.stage.dinnerbell_ok(&["lane", "resolve", "0", "--from-kafka"]);
    told.tell("second", 5);
    told.stage.dinnerbell_ok(&["verify"]);
    told.service.stop();
}

#[test]
fn a_round_that_waits_for_a_table_while_another_comes_into_its_place_writes_nothing_there() {
    let mut told = Told::new();
    // The name leads to the other table only with the commit: until then the round waits for the lock.
    let swap = OpenTransaction::begin(&told.stage.feedback, SWAP);
    told.stage.subscribers.subscribe("second", 5);
    let campaign = Campaign::now("second", "second");
    told.stage.send(&campaign);
    wait_until("a round waits for the table", LONG, || {
        let waiting = "select count(*) from pg_locks where not granted and relation is not null and database = \
                       (select oid from pg_database where datname = current_database())";
        told.stage.feedback.number(waiting) > 0
    });
    swap.commit();
    told.await_halt("feedback-table-replaced");
    assert_eq!(told.rows(), 0);
    told.execute(SWAP_BACK);
    told.expected.add(&campaign, told.stage.subscribers.clients_of("second"));
    told.stage.dinnerbell_ok(&["lane", "resolve", "0", "--retry"]);
    told.stage.await_sinks(&told.expected, LONG);
    told.service.stop();
}

#[test]
fn a_database_that_was_restored_from_a_dump_keeps_its_feedback_table() {
    let Told { mut stage, service, .. } = Told::new();
    service.stop();
    let server = PostgresServer::shared();
    let restored = Database::create(&server);
    let mut dump = Command::new(server.programs.join("pg_dump"));
    dump.args(["--host=127.0.0.1", "--username=postgres", &format!("--port={}", server.port), &stage.feedback.name]);
    let dumped = dump.env("PGPASSWORD", &server.password).stderr(Stdio::inherit()).output().unwrap();
    assert!(dumped.status.success());
    restored.execute(&String::from_utf8(dumped.stdout).unwrap());
    for section in ["feedback", "subscribers"] {
        stage.config.set(section, "url", restored.url());
    }
    let known = "select count(*) from dinnerbell.service where feedback_oid = 'public.subscribers_feedback'::regclass";
    assert_eq!((stage.feedback.number(known), restored.number(known)), (1, 0), "another table by its identity");
    let service = stage.start();
    wait_until("the lane runs", LONG, || {
        restored.number("select count(*) from dinnerbell.lane where owner is not null and halted is null and epoch > 1")
            == 1
    });
    assert_eq!(restored.number(known), 1, "the ledger knows the table again");
    restored.execute(&format!("begin; {SWAP}; commit; {REPASS}"));
    wait_until("what comes into its place is noticed", LONG, || {
        restored.number("select count(*) from dinnerbell.lane where halted = 'feedback-table-replaced'") == 1
    });
    service.stop();
}

/// The rows of a campaign that goes on are removed, and its rescan is due.
fn removed() -> Told {
    let told = Told::new();
    told.execute("create table public.removed as select * from public.subscribers_feedback; truncate public.subscribers_feedback");
    told.execute(REPASS);
    let found = told.await_halt("rows-removed");
    assert!(found.contains("first has told 30 clients, and 0 of their rows"), "{found}");
    assert_eq!((told.rows(), told.stage.messages().len()), (0, 30), "nobody was told again");
    told
}

#[test]
fn rows_that_were_removed_halt_the_lane_and_come_back_from_their_messages() {
    let mut told = removed();
    told.stage.dinnerbell_ok(&["lane", "resolve", "0", "--from-kafka"]);
    told.tell("second", 5);
    assert_eq!(number(&told.stage, "first", "told"), 30, "who was told is counted once");
    told.stage.dinnerbell_ok(&["verify"]);
    told.service.stop();
}

#[test]
fn clients_whose_rows_were_removed_are_told_again_only_when_an_operator_says_so() {
    let told = removed();
    let dry = told.stage.dinnerbell_ok(&["lane", "resolve", "0", "--tell-again", "--dry-run"]);
    assert!(dry.contains("campaign first has told 30, and has 0 rows") && dry.contains("nothing was changed"), "{dry}");
    told.await_halt("rows-removed");
    told.stage.dinnerbell_ok(&["lane", "resolve", "0", "--tell-again"]);
    wait_until("they were told again", LONG, || told.rows() == 30 && told.stage.messages().len() == 60);
    assert_eq!(number(&told.stage, "first", "told"), 30);
    told.service.stop();
}

#[test]
fn a_single_row_that_was_taken_out_halts_nothing() {
    let told = Told::new();
    told.execute(
        "delete from public.subscribers_feedback where id = (select min(id) from public.subscribers_feedback)",
    );
    told.execute(REPASS);
    wait_until("anyone who has no row is told", LONG, || told.rows() == 30);
    wait_until("the lane is at rest", LONG, || told.stage.unrest().is_none());
    assert_eq!(number(&told.stage, "first", "told"), 31);
    assert_eq!(told.stage.feedback.number("select count(*) from dinnerbell.lane where halted is not null"), 0);
    told.service.stop();
}
