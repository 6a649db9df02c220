//! What these tests do with a stage.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::campaign::epoch_seconds;
use crate::support::database::psql_command;
use crate::support::{Campaign, Database, Expected, Setting, Stage, sinks, wait_for, wait_until};

/// How long something may take on a busy machine that takes a second on a quiet one.
pub const LONG: Duration = Duration::from_secs(60);

/// A stage whose group notices a dead member soon.
pub fn stage(lanes: i32) -> Stage {
    unmigrated(Setting { lanes, ..Setting::default() }, |_| {})
}

/// The same with small rounds at a slow pace: a hundred subscribers take some seconds.
pub fn slow_stage(lanes: i32) -> Stage {
    unmigrated(Setting { lanes, ..Setting::default() }, |stage| {
        stage.config.set("fanout", "round_rows", 10).set("fanout", "rate_limit", 30);
    })
}

/// The same, configured otherwise.
pub fn unmigrated(setting: Setting, configure: impl FnOnce(&mut Stage)) -> Stage {
    let mut stage = Stage::with(setting);
    stage.config.set("kafka.client", "session.timeout.ms", 3_000).set("kafka.client", "heartbeat.interval.ms", 1_000);
    configure(&mut stage);
    stage.migrate();
    stage
}

/// A restaurant's clients in the order of the main pass.
pub fn clients(stage: &Stage, restaurant: &str) -> Vec<String> {
    let mut clients = stage.subscribers.clients_of(restaurant);
    clients.sort();
    clients
}

/// A newer version of a campaign, with other content.
pub fn update(of: &Campaign) -> Campaign {
    let version = of.datetime_created + 1;
    Campaign { datetime_created: version, adv_campaign_content: format!("version {version}"), ..of.clone() }
}

/// Sends a tombstone.
pub fn cancel(stage: &Stage, lane: i32, campaign: &Campaign) {
    stage.kafka.produce(&stage.campaigns, Some(lane), Some(campaign.adv_campaign_id.as_bytes()), None, &[]);
}

/// Orders a cancellation as an operator does.
pub fn cancel_by_operator(stage: &Stage, campaign: &Campaign) {
    let id = &campaign.adv_campaign_id;
    let columns = "(adv_campaign_id, key, arrived_by)";
    stage.feedback.execute(&format!(
        "insert into dinnerbell.change {columns} values ('{id}', convert_to('{id}', 'UTF8'), 'a test')"
    ));
}

/// A campaign's row of the ledger; none if it is not there.
pub fn known(stage: &Stage, id: &str) -> Option<Value> {
    stage.feedback.query(&format!("select * from dinnerbell.campaign where adv_campaign_id = '{id}'")).pop()
}

/// A number of a campaign's row.
#[track_caller]
pub fn number(stage: &Stage, id: &str, column: &str) -> i64 {
    known(stage, id).and_then(|row| row[column].as_i64()).unwrap_or_else(|| panic!("{id} has no {column}"))
}

/// Waits until a campaign's row is as asked for, and returns it.
#[track_caller]
pub fn await_row(stage: &Stage, id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut last = None;
    wait_until_shown(&format!("{id} is {what}"), || {
        last = known(stage, id);
        last.as_ref().is_some_and(&is)
    });
    last.unwrap()
}

/// Waits until a campaign has a state, and returns its row.
#[track_caller]
pub fn await_state(stage: &Stage, id: &str, state: &str) -> Value {
    await_row(stage, id, state, |row| row["state"] == state)
}

/// Waits until the untold of an ended campaign are counted, and returns how many they are.
#[track_caller]
pub fn await_unsent(stage: &Stage, id: &str) -> i64 {
    await_row(stage, id, "counted", |row| row["unsent"].is_i64())["unsent"].as_i64().unwrap()
}

/// Waits until so many of a campaign were told, at least.
#[track_caller]
pub fn await_told(stage: &Stage, id: &str, told: i64) -> i64 {
    let row = await_row(stage, id, "told", |row| row["told"].as_i64() >= Some(told));
    row["told"].as_i64().unwrap()
}

#[track_caller]
fn wait_until_shown(what: &str, condition: impl FnMut() -> bool) {
    wait_until(what, LONG, condition);
}

/// Waits until this second has come.
pub fn wait_for_second(second: i64) {
    wait_until("the second has come", LONG, || epoch_seconds() >= second);
}

/// The dead letters' reasons, oldest first.
pub fn reasons(stage: &Stage) -> Vec<String> {
    let rows = stage.feedback.query("select reason from dinnerbell.dead_letter order by id");
    rows.iter().map(|row| row["reason"].as_str().unwrap().to_owned()).collect()
}

/// A count of all lanes together.
pub fn counted(stage: &Stage, column: &str) -> i64 {
    stage.feedback.number(&format!("select coalesce(sum({column}), 0) from dinnerbell.lane"))
}

/// Pauses all sending, or resumes it.
pub fn pause(stage: &Stage, paused: bool) {
    let at = if paused { "clock_timestamp()" } else { "null" };
    stage.feedback.execute(&format!("update dinnerbell.service set paused_at = {at}"));
}

/// Waits until lanes of an instance run.
pub fn await_running(stage: &Stage, lanes: i64) {
    wait_until("the lanes are taken over", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.lane where published_seq is not null") >= lanes
    });
}

/// Who of a restaurant was told by a version of a campaign, as the rows show it; in the order of the main pass.
pub fn told_by(stage: &Stage, version: &Campaign) -> Vec<String> {
    let rows = sinks::rows(&stage.feedback)
        .into_iter()
        .map(|row| row.draft)
        .filter(|draft| draft.campaign == version.adv_campaign_id && draft.created == version.datetime_created);
    let mut clients: Vec<_> = rows.map(|draft| draft.client).collect();
    clients.sort();
    clients
}

/// Two versions of a campaign shared out its audience: those told first got the old content, all others the new one.
#[track_caller]
pub fn expect_versions(stage: &Stage, old: &Campaign, new: &Campaign) -> Expected {
    let all = clients(stage, &old.restaurant_id);
    let first = told_by(stage, old).len();
    assert!(first > 0 && first < all.len(), "{first} of {} were told before the update", all.len());
    Expected::from([(old, &all[..first]), (new, &all[first..])])
}

/// A transaction that stays open.
pub struct OpenTransaction {
    psql: Child,
}

impl OpenTransaction {
    /// Begins one and runs statements in it.
    pub fn begin(database: &Database, sql: &str) -> Self {
        let mut psql = psql_command(database.server(), &database.name);
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = psql.stdin.as_mut().unwrap();
        writeln!(input, "begin; {sql}; select 'done';").unwrap();
        let mut output = std::io::BufReader::new(psql.stdout.as_mut().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_eq!(line, "done\n");
        Self { psql }
    }

    /// Commits it.
    pub fn commit(self) {
        self.end("commit");
    }

    /// Undoes it.
    pub fn roll_back(self) {
        self.end("rollback");
    }

    fn end(mut self, how: &str) {
        writeln!(self.psql.stdin.take().unwrap(), "{how};").unwrap();
        assert!(self.psql.wait().unwrap().success());
    }
}

/// Waits until an instance other than this owner has taken over the first lane.
pub fn await_other_owner(stage: &Stage, pid: u32) -> String {
    wait_for("another instance owns the lane", LONG, || {
        let rows = stage.feedback.query("select owner from dinnerbell.lane where lane = 0");
        let owner = rows.first()?["owner"].as_str()?.to_owned();
        (!owner.ends_with(&format!("/{pid}"))).then_some(owner)
    })
}
