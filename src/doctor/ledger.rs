//! The ledger: of this version, of this service, writable, and whether anything stands still in it.

use tokio_postgres::types::Type;

use super::Findings;
use super::kafka::Answered;
use crate::operator::{find_own_ledger, hold, lanes, pause};
use dinnerbell_config::{Config, Topics};
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::output_topics::{OutputTopicIds, is_another};
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::output_topics::KnownOutputTopics;
use dinnerbell_postgres::ledger::{output_topics, probe};
use dinnerbell_postgres::migrate::{FeedbackIndex, feedback_index, schema_is_current};
use dinnerbell_postgres::needs::{hidden_in_ledger, missing_in_feedback, missing_in_ledger, open_ledger};
use dinnerbell_postgres::number::number;

/// Looks at the ledger.
pub(super) async fn examine(config: &Config, pool: &Pool, found: &mut Findings) {
    if let Err(error) = schema_is_current(pool).await {
        found.fail(
            "ledger-version",
            error.to_string(),
            "run `dinnerbell migrate`; the role needs the rights of `dinnerbell doctor --grants`",
        );
        return;
    }
    found.ok("ledger-version", "the ledger is the one of this version");
    if let Err(error) = check(config, pool, found).await {
        found.refused("ledger", error);
    }
}

async fn check(config: &Config, pool: &Pool, found: &mut Findings) -> Result<(), PostgresError> {
    let may_write = rights(pool, found).await?;
    let own_ledger = find_own_ledger(pool, &config.kafka).await?;
    // What is not allowed would be refused once more, and nothing is tried in a table that is another's.
    if may_write && own_ledger.is_ok() {
        probe::ledger(pool, found).await?;
        let index = feedback_index(pool).await?;
        if missing_in_feedback(pool).await?.is_empty() && index != FeedbackIndex::Missing {
            probe::feedback(pool, found).await?;
        }
    }
    match own_ledger {
        Ok(Some(_)) => found.ok("ledger-belongs", "the ledger is that of this group and these topics"),
        Ok(None) => found.ok("ledger-belongs", "no service has used the ledger yet: the first start claims it"),
        Err(why) => found.fail(
            "ledger-belongs",
            why,
            "a ledger serves one service: use another feedback database, or correct kafka",
        ),
    }
    halts(pool, found).await?;
    foreign_holders(pool, found).await?;
    match hold::current(pool).await? {
        Some(hold) if hold.needs_somebody() => found.fail("held", hold.to_string(), hold.remedy()),
        // Every start of the database has one, until the instances have taken over their lanes.
        Some(hold) if hold.is_young => found.ok("held", hold.to_string()),
        Some(hold) => found.warn(
            "held",
            hold.to_string(),
            format!("let an instance run, which compares each lane that it takes over; or {}", hold.remedy()),
        ),
        None => found.ok("held", "nothing is held: no lane is known to lack commits"),
    }
    if let Some(pause) = pause::current(pool).await? {
        let by = pause.by.unwrap_or_default();
        let why = pause.reason.map_or(String::new(), |reason| format!(": {reason}"));
        found.warn(
            "paused",
            format!("all sending has been paused since {} by {by}{why}", pause.since.unwrap_or_default()),
            "`dinnerbell resume` lets it go on",
        );
    }
    Ok(())
}

/// Whether the ledger belongs to the cluster that answers, and each of its lanes still has a partition there. Also whether the topics that are
/// written to are those that it knows.
pub(super) async fn against_cluster(config: &Config, pool: &Pool, cluster: &Answered, found: &mut Findings) {
    let Ok(Ok(Some(own_ledger))) = find_own_ledger(pool, &config.kafka).await else { return };
    if let Err(why) = own_ledger.check_cluster(&cluster.id) {
        return found.fail(
            "ledger-belongs",
            why,
            "let kafka.bootstrap_servers lead to the cluster that the ledger knows",
        );
    }
    if cluster.lanes > 0
        && let Err(error) = left_behind(pool, cluster.lanes, found).await
    {
        found.refused("lanes", error);
    }
    match output_topics::known(pool).await {
        Ok(known) => recreated(&config.kafka.topics, &known, &cluster.outputs, found),
        Err(error) => found.refused("kafka-topics", error),
    }
}

/// Topics that are written to, and are others than the ledger knows.
fn recreated(topics: &Topics, known: &KnownOutputTopics, now: &OutputTopicIds, found: &mut Findings) {
    let drafts = &topics.notifications;
    if is_another(known.ids.notifications.as_deref(), now.notifications.as_deref()) {
        found.fail(
            "kafka-topics",
            format!("topic {drafts} was recreated: the drafts that the ledger knows to be published are not in it"),
            "`dinnerbell run` halts each lane as notifications-replaced, and `dinnerbell lane list` shows what to decide",
        );
    }
    if let (Some(topic), Some(since), 1..) = (&topics.dead_letters, &known.dead_letters_replaced, known.letters_before)
    {
        let before = known.letters_before;
        found.warn(
            "kafka-topics",
            format!("topic {topic} was recreated by {since}: {before} dead letters that were published before are not in it any more"),
            "readers who miss them find them in the ledger: `dinnerbell dead-letter list`",
        );
    }
}

/// Lanes whose partition is gone, and what they hold with them, but for those that were adopted.
async fn left_behind(pool: &Pool, partitions: i32, found: &mut Findings) -> Result<(), PostgresError> {
    let sql = "select lane from dinnerbell.campaign where lane >= $1 union \
               select lane from dinnerbell.dead_letter where lane >= $1 and round_seq is null order by lane";
    for row in pool.query(sql, &[(&partitions, Type::INT4)]).await? {
        let lane: Lane = number(&row, 0);
        found.fail(
            "lanes",
            format!("lane {lane} has no partition any more: nobody goes on with the campaigns and dead letters that it holds"),
            format!("let another lane go on with them: dinnerbell lane adopt {lane} --into 0"),
        );
    }
    Ok(())
}

/// Whether the role may use the ledger.
async fn rights(pool: &Pool, found: &mut Findings) -> Result<bool, PostgresError> {
    let hidden = hidden_in_ledger(pool).await?;
    if !hidden.is_empty() {
        let told = format!("row-level security applies to this user in {}", hidden.join(", "));
        found.fail("ledger-rights", told, open_ledger(&hidden));
        return Ok(false);
    }
    let missing = missing_in_ledger(pool).await?;
    if missing.is_empty() {
        found.ok("ledger-rights", "the role may read and write the ledger");
        return Ok(true);
    }
    let missing: Vec<String> =
        missing.iter().map(|(right, table)| format!("{} {table}", right.to_lowercase())).collect();
    found.fail(
        "ledger-rights",
        format!("the role may not: {}", missing.join(", ")),
        "`dinnerbell doctor --grants` prints the rights that are needed; grant them again after each migration",
    );
    Ok(false)
}

async fn halts(pool: &Pool, found: &mut Findings) -> Result<(), PostgresError> {
    let lanes = lanes::list(pool).await?;
    let halted: Vec<_> = lanes.iter().filter_map(|lane| Some((lane.lane, lane.halted.as_ref()?))).collect();
    for (lane, halt) in &halted {
        found.fail("lanes", format!("lane {lane} is halted: {}: {}", halt.name, halt.found), halt.remedy.clone());
    }
    for lane in &lanes {
        for wait in &lane.waits {
            let since = wait.since.as_deref().unwrap_or_default();
            found.warn(
                "locks",
                format!("lane {} waits for a lock ({}) since {since}: {}", lane.lane, wait.part, wait.found),
                "have that transaction ended, or end it",
            );
        }
    }
    if halted.is_empty() {
        found.ok("lanes", format!("{} lanes were taken over, none is halted", lanes.len()));
    }
    Ok(())
}

/// An owner ends the transactions of the one before it: of its own role it may.
async fn foreign_holders(pool: &Pool, found: &mut Findings) -> Result<(), PostgresError> {
    let sql = "select distinct a.usename::text from dinnerbell.lane n join pg_locks l on l.locktype = 'advisory' and l.objsubid = 1 \
                 and l.classid::int8 = (n.lock_key >> 32) & $1 and l.objid::int8 = n.lock_key & $1 \
                 and l.database = (select oid from pg_database where datname = current_database()) \
               join pg_stat_activity a using (pid) where a.usename <> current_user and not pg_has_role(a.usename, 'USAGE') \
                 and not pg_has_role('pg_signal_backend', 'USAGE')";
    let rows = pool.query(sql, &[(&0xffff_ffff_i64, Type::INT8)]).await?;
    let roles: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    match roles.is_empty() {
        true => {
            found.ok("ledger-owners", "an owner may end the transactions that one before it left: all are of this role")
        }
        false => found.fail(
            "ledger-owners",
            format!("instances work as role {}, whose transactions this role may not end", roles.join(", ")),
            "let all instances use one role, or grant pg_signal_backend to it",
        ),
    }
    Ok(())
}
