//! What the service does to its tables is tried before it is needed. Rows are copied as a round copies them, read back, compared, and withdrawn as a
//! round is withdrawn. The transaction is undone. Columns and rights tell what may be done; only a try tells what becomes of it.
//!
//! Only what no transaction gives back is used up: two ids of the feedback table's sequence, and one each of the ledger's dead letters, changes and
//! orders. Nobody else sees the rows, and their campaign has an id that nobody else gives.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::rounds;
use super::{BY_INDEX, campaign, refused, rows};
use crate::connect::{Parameter, Pool, Transaction};
use crate::errors::{ErrorKind, PostgresError};
use crate::hooks::Hooks;
use crate::number::{Number, number};
use crate::sql::fragments::CAMPAIGN;
use crate::{needs, sequence};
use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate};
use dinnerbell_core::model::finding::{Findings, Status};
use dinnerbell_core::model::limits::{LONGEST_CLIENT_ID, LONGEST_CONTENT, LONGEST_NAME};
use dinnerbell_core::model::number::{Lane, Seconds, Seq};

/// The check of the feedback table.
pub const FEEDBACK: &str = "feedback-try";
/// The check of the ledger.
pub const LEDGER: &str = "ledger-try";

/// When the drafts of a try were formed.
const FORMED: Seconds = Seconds::new(1_700_000_000);
/// These refuse invented values and may take real ones: a foreign key, a check or a missing partition, what a trigger raises, and an index whose
/// entries are bounded.
const OF_VALUES: [&str; 4] = ["23503", "23514", "P0001", "54000"];

/// Tries to record two drafts and to withdraw them, and says what else acts on the table. Columns and rights are looked at before
/// ([`needs::missing_in_feedback`]).
pub async fn feedback(pool: &Pool, found: &mut Findings) -> Result<(), PostgresError> {
    let tx = pool.begin("").await?;
    let hooks = Hooks::read(&tx, &pool.table().sql()).await?;
    tx.commit().await?;
    hooks.check(pool, FEEDBACK, found);
    refuse_unlogged(pool, found).await?;
    let mut wrong = Findings::default();
    if let Some(sequence) = sequence::of_ids(pool).await? {
        sequence.check(pool, FEEDBACK, &mut wrong);
    }
    if wrong.status() == Status::Error {
        // A row would be refused for this alone, and each try moves the sequence.
        found.take(wrong);
        return Ok(());
    }
    match record_and_withdraw(pool, &hooks, &mut wrong).await {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Transient => return Err(error),
        Err(error) => refused_try(pool, &hooks, error, &mut wrong),
    }
    if wrong.status() == Status::Ok {
        wrong.ok(
            FEEDBACK,
            format!("two drafts were written into {}, read back and withdrawn, and all was undone", pool.table()),
        );
    }
    found.take(wrong);
    Ok(())
}

/// Tables that a crash of the server empties: a ledger that forgets, or drafts without their rows.
async fn refuse_unlogged(pool: &Pool, found: &mut Findings) -> Result<(), PostgresError> {
    let sql = "select c.oid::regclass::text from pg_class c where c.relpersistence = 'u' and c.relkind in ('r', 'p') \
               and (c.relnamespace = to_regnamespace('dinnerbell') or c.oid = to_regclass($1) \
               or c.oid in (select relid from pg_partition_tree(to_regclass($1)))) order by 1";
    for row in pool.query(sql, &[(&pool.table().sql(), Type::TEXT)]).await? {
        let table: String = row.get(0);
        found.fail(
            FEEDBACK,
            format!("table {table} is unlogged: a crash of the server empties it, and a standby has nothing of it"),
            format!("alter table {table} set logged"),
        );
    }
    Ok(())
}

/// What the server refused of a try.
fn refused_try(pool: &Pool, hooks: &Hooks, error: PostgresError, found: &mut Findings) {
    let of_values = error.code().is_some_and(|code| OF_VALUES.contains(&code.code()));
    let (mut told, mut remedy) = error.into_parts();
    // PostgreSQL says that a rule is in the way, and not which.
    if let Some(rule) = hooks
        .on_delete
        .iter()
        .find(|hook| hook.kind == "rule" && (told.contains("rules") || told.contains("DELETE RETURNING")))
    {
        told = format!("{told}: rule {}", rule.name);
        remedy = Some(rule.remove());
    }
    let remedy = remedy.unwrap_or_else(|| format!("correct table {}", pool.table()));
    match of_values {
        true => found.warn(
            FEEDBACK,
            format!("a draft with invented texts, as long as the input allows, was refused; a real one that breaks the same halts its lane: {told}"),
            "make sure that no draft can break it",
        ),
        false => found.fail(FEEDBACK, format!("a draft cannot be recorded and withdrawn: {told}"), remedy),
    }
}

async fn record_and_withdraw(pool: &Pool, hooks: &Hooks, found: &mut Findings) -> Result<(), PostgresError> {
    let table = pool.table().sql();
    let tx = pool.begin(&format!("set local lock_timeout = '2s'; {BY_INDEX}")).await?;
    let batch = invented();
    let copied = rows::copy(&tx, &table, needs::trigger_type(&tx, &table).await?, [&batch].into_iter()).await?;
    let sent = batch.clients.len() as u64;
    if copied != sent {
        let (told, remedy) = refused::left_out(&tx, pool, sent, copied).await?.into_parts();
        found.fail(FEEDBACK, told, remedy.unwrap_or_default());
        return tx.rollback().await;
    }
    tx.batch("set constraints all immediate").await?;
    // As a round of a lane that no topic has: what is read and withdrawn is what its part names.
    let lane = nobodys_lane();
    record(&tx, lane, &batch).await?;
    let columns =
        format!("{CAMPAIGN}, client_id, trigger_datetime_created::int8 as formed, feedback is null as unanswered");
    let round: [Parameter<'_>; 2] = [lane.parameter(), (&0_i64, Type::INT8)];
    let read = tx.query(&rounds::of_parts("p.part", &columns, &table, ""), &round).await?;
    compare(pool, hooks, &batch, &read, found);
    let withdrawn: i64 =
        rounds::delete_rows(&tx, &table, lane, Seq::FIRST, &[0]).await?.iter().map(|(_, gone)| gone).sum();
    let withdrawn = withdrawn.cast_unsigned();
    if found.status() != Status::Error && withdrawn != sent {
        let by = if hooks.on_delete.is_empty() {
            "something in it".to_owned()
        } else {
            crate::hooks::names(&hooks.on_delete)
        };
        let remedy =
            hooks.on_delete.first().map_or_else(|| "look for what keeps rows of it".to_owned(), |hook| hook.remove());
        let told = format!("table {}: {withdrawn} of {sent} drafts could be withdrawn: {by} keeps rows", pool.table());
        found.fail(FEEDBACK, told, remedy);
    }
    tx.rollback().await
}

/// The part that holds the drafts: a page from the first client on, the last of whom is late; and there was somebody who had a row before.
async fn record(tx: &Transaction, lane: Lane, batch: &DraftBatch) -> Result<(), PostgresError> {
    let sql = "insert into dinnerbell.round_part (lane, seq, part, adv_campaign_id, campaign_revision, has_page, upto_client, last_page, \
               already_told, late, drafts, checksum) values ($1, 0, 0, $2, 1, true, $3, true, array[' '], array[$3], $4, 0)";
    let (id, drafts) = (&batch.template.campaign().adv_campaign_id, batch.clients.len() as i64);
    let part: [Parameter<'_>; 4] =
        [lane.parameter(), (id, Type::TEXT), (&batch.clients.last(), Type::TEXT), (&drafts, Type::INT8)];
    tx.execute(sql, &part).await.map(drop)
}

/// A lane that no topic has, and no other try: a try that stands still holds up nobody.
fn nobodys_lane() -> Lane {
    let [a, b, c, d, ..] = Uuid::new_v4().into_bytes();
    Lane::new(i32::from_be_bytes([a, b, c, d]) | i32::MIN)
}

/// Two drafts of a campaign that nobody sends: texts that a trigger might tidy up, and the longest that there can be.
fn invented() -> DraftBatch {
    let name = |word: &str| {
        format!("{word} {}", "Ü".repeat(LONGEST_NAME))
            .chars()
            .scan(0, |bytes, c| {
                *bytes += c.len_utf8();
                (*bytes <= LONGEST_NAME).then_some(c)
            })
            .collect::<String>()
    };
    let content: String =
        std::iter::repeat_with(|| Uuid::new_v4().simple().to_string()).take(LONGEST_CONTENT / 32).collect();
    let campaign = Campaign {
        adv_campaign_id: format!(" Dinnerbell Try {} ", Uuid::new_v4()),
        restaurant_id: name("Restaurant"),
        adv_campaign_content: content,
        adv_campaign_owner: name("Owner"),
        adv_campaign_owner_contact: name("Contact"),
        window: Window { start: FORMED - 1, end: Seconds::new(99_999_999_999) },
        datetime_created: FORMED - 2,
    };
    let template =
        DraftTemplate::new(Arc::new(campaign), FORMED, "dinnerbell").expect("its times are in years of four digits");
    let longest = format!("Dinnerbell Try {}", "Z".repeat(LONGEST_CLIENT_ID));
    let clients = [" Dinnerbell Try 1 ", &longest[..LONGEST_CLIENT_ID]].into_iter().collect::<Clients>();
    DraftBatch { template: Arc::new(template), clients }
}

/// What was read back is what was written, each row once, and nobody has answered.
fn compare(pool: &Pool, hooks: &Hooks, batch: &DraftBatch, read: &[Row], found: &mut Findings) {
    let table = pool.table();
    let (by, remedy) = match hooks.before_insert.first().or(hooks.after.first()) {
        Some(hook) => (crate::hooks::names(std::slice::from_ref(hook)), hook.remove()),
        None => ("something in it".to_owned(), format!("look for what changes rows of {table}")),
    };
    if read.len() != batch.clients.len() {
        let told = format!(
            "{} drafts were written into {table}, {} are found there: {by} adds rows or changes them",
            batch.clients.len(),
            read.len()
        );
        return found.fail(FEEDBACK, told, remedy);
    }
    let mut changed: Vec<&str> = Vec::new();
    let mut read: Vec<&Row> = read.iter().collect();
    read.sort_by_key(|row| row.get::<_, String>("client_id"));
    for (row, client) in read.into_iter().zip(batch.clients.iter()) {
        changed.extend(differing(&campaign(row), batch.template.campaign()));
        changed.extend((row.get::<_, &str>("client_id") != client).then_some("client_id"));
        changed.extend((number::<Seconds>(row, "formed") != FORMED).then_some("trigger_datetime_created"));
        changed.extend((!row.get::<_, bool>("unanswered")).then_some("feedback"));
    }
    changed.sort_unstable();
    changed.dedup();
    if !changed.is_empty() {
        let columns = changed.join(", ");
        found.fail(
            FEEDBACK,
            format!("a draft that is written into {table} is another one when it is read: {by} changes {columns}"),
            remedy,
        );
    }
}

/// The columns in which a campaign that was read differs.
fn differing(read: &Campaign, written: &Campaign) -> impl Iterator<Item = &'static str> {
    let columns = [
        ("adv_campaign_id", read.adv_campaign_id == written.adv_campaign_id),
        ("restaurant_id", read.restaurant_id == written.restaurant_id),
        ("adv_campaign_content", read.adv_campaign_content == written.adv_campaign_content),
        ("adv_campaign_owner", read.adv_campaign_owner == written.adv_campaign_owner),
        ("adv_campaign_owner_contact", read.adv_campaign_owner_contact == written.adv_campaign_owner_contact),
        ("adv_campaign_datetime_start", read.window.start == written.window.start),
        ("adv_campaign_datetime_end", read.window.end == written.window.end),
        ("datetime_created", read.datetime_created == written.datetime_created),
    ];
    columns.into_iter().filter(|(_, equal)| !equal).map(|(column, _)| column)
}

/// Tries to insert, change and delete a row of each table of the ledger that rounds and intakes write.
pub async fn ledger(pool: &Pool, found: &mut Findings) -> Result<(), PostgresError> {
    let tx = pool.begin("set local lock_timeout = '2s'").await?;
    let id = format!("dinnerbell try {}", Uuid::new_v4());
    let mut wrong = Findings::default();
    for (table, values, change, key) in tries(nobodys_lane(), &id) {
        let steps = [
            ("a row cannot be added", format!("insert into dinnerbell.{table} {values}")),
            ("a row that was added cannot be changed", format!("update dinnerbell.{table} set {change} where {key}")),
            ("a row that was added cannot be removed", format!("delete from dinnerbell.{table} where {key}")),
        ];
        tx.batch("savepoint try").await?;
        if let Err(told) = steps_of(&tx, &steps).await? {
            let remedy =
                format!("look for triggers, rules and policies of dinnerbell.{table}: it is the service's own");
            wrong.fail(LEDGER, format!("table dinnerbell.{table}: {told}"), remedy);
        }
        tx.batch("rollback to try").await?;
    }
    if wrong.all().is_empty() {
        wrong.ok(LEDGER, "a row of each table of the ledger was added, changed and removed, and all was undone");
    }
    found.take(wrong);
    tx.rollback().await
}

/// Each step touches one row; the outer error may pass.
async fn steps_of(tx: &Transaction, steps: &[(&str, String)]) -> Result<Result<(), String>, PostgresError> {
    for (what, sql) in steps {
        match tx.execute(sql, &[]).await {
            Ok(1) => {}
            Ok(touched) => return Ok(Err(format!("{what}: {touched} rows were touched, not 1"))),
            Err(error) if error.kind() == ErrorKind::Transient => return Err(error),
            Err(error) => return Ok(Err(format!("{what}: {error}"))),
        }
    }
    Ok(Ok(()))
}

/// Tables with a row, a change and how to find it again.
fn tries(number: Lane, id: &str) -> [(&'static str, String, &'static str, String); 9] {
    let lane = format!("lane = {number}");
    [
        ("lane", format!("(lane, lock_key, position) values ({number}, 0, 0)"), "position = 1", lane.clone()),
        (
            "campaign",
            format!("(adv_campaign_id, lane, state) values ('{id}', {number}, 'cancelled')"),
            "state = 'expired'",
            format!("adv_campaign_id = '{id}'"),
        ),
        (
            "round",
            format!(
                "(lane, seq, checksum, drafts, position, trigger_datetime_created) values ({number}, 0, 0, 0, 0, 0)"
            ),
            "drafts = 1",
            lane.clone(),
        ),
        (
            "round_part",
            format!(
                "(lane, seq, part, adv_campaign_id, campaign_revision, has_page, last_page, drafts, checksum) \
                     values ({number}, 0, 0, '{id}', 1, false, false, 0, 0)"
            ),
            "drafts = 1",
            lane.clone(),
        ),
        (
            "dead_letter",
            format!("(lane, arrived_lane, record_offset, reason) values ({number}, {number}, 0, 'a try')"),
            "round_seq = 0",
            lane,
        ),
        (
            "change",
            format!("(adv_campaign_id) values ('{id}')"),
            "judged_as = 'a try'",
            format!("adv_campaign_id = '{id}'"),
        ),
        (
            "locked_row",
            format!("(adv_campaign_id, client_id, trigger_datetime_created) values ('{id}', 'a try', 0)"),
            "trigger_datetime_created = 1",
            format!("adv_campaign_id = '{id}'"),
        ),
        (
            "lock_wait",
            format!("(lane, part, waits_for, pid, transaction) values ({number}, 'a try', '', 0, '')"),
            "pid = 1",
            format!("lane = {number}"),
        ),
        (
            "audit",
            format!("(who, what, subject, origin, host) values ('{id}', 'tried', 'service', 'doctor', '')"),
            "details = 'a try'",
            format!("who = '{id}'"),
        ),
    ]
}
