//! Feedback rows: who has one, and the rows of a round that is read back.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio_postgres::types::Type;

use crate::connect::{Connection, Parameter, Transaction, place};
use crate::errors::{PostgresError, TIME_LIMIT};
use crate::sql;
use dinnerbell_core::model::clients::{ClientRange, Clients};
use dinnerbell_core::model::draft::{COPY_HEADER, COPY_TRAILER, DraftBatch, TriggerType, copy_into};
use dinnerbell_core::model::late::LateQuery;

/// The client of a row, behind its [`place`]. Read so, not by its name: there are as many rows as clients, and a name is looked for in each again.
const CLIENT: usize = 1;

/// Rows that are counted in one statement.
const COUNTED: i64 = 100_000;

/// How many feedback rows there are of a campaign, counted in steps along the index, and not on from where `enough` are reached.
pub(crate) async fn count(
    connection: &Connection,
    feedback: &str,
    id: &str,
    enough: i64,
) -> Result<i64, PostgresError> {
    let sql = sql::COUNT_ROWS.with([("feedback", feedback)]);
    // No client has the empty id: after it is from the first on.
    let (mut rows, mut after) = (0, String::new());
    while rows < enough {
        let parameters: [Parameter<'_>; 3] = [(&id, Type::TEXT), (&after, Type::TEXT), (&COUNTED, Type::INT8)];
        let row = connection.query_one(&sql, &parameters).await?;
        let some: i64 = row.get("rows");
        rows += some;
        match row.get::<_, Option<String>>("last") {
            Some(last) if some == COUNTED => after = last,
            _ => break,
        }
    }
    Ok(rows)
}

/// Size of a frame of COPY, in bytes: larger ones gain nothing.
const FRAME: usize = 128 << 10;

/// Copies the rows of these drafts; how many the server took.
pub(super) async fn copy<'a>(
    tx: &Transaction,
    feedback: &str,
    column: TriggerType,
    batches: impl Iterator<Item = &'a DraftBatch>,
) -> Result<u64, PostgresError> {
    let mut copy = tx.copy_in(&copy_into(feedback)).await?;
    let mut frame = BytesMut::with_capacity(FRAME + FRAME / 4);
    frame.extend_from_slice(&COPY_HEADER);
    for batch in batches {
        let rows = batch.template.rows(column).map_err(|error| {
            let remedy = format!("alter table {feedback} alter column trigger_datetime_created type int8");
            PostgresError::refused(error.to_string()).mended_by(remedy)
        })?;
        for client in batch.clients.iter() {
            rows.append(client, &mut frame);
            if frame.len() >= FRAME {
                copy.send(frame.split().freeze()).await?;
                frame.reserve(FRAME + FRAME / 4);
            }
        }
    }
    frame.extend_from_slice(&COPY_TRAILER);
    copy.send(Bytes::from(frame)).await?;
    copy.finish().await
}

/// Those who have a feedback row for the campaign, among the clients of each range. One statement looks along the index range by range:
/// the offset keeps the planner from making one scan of them.
pub(super) async fn already_told(
    connection: &Connection,
    feedback: &str,
    ranges: &[ClientRange<'_>],
) -> Result<Vec<Clients>, PostgresError> {
    let sql = sql::ALREADY_TOLD.with([("feedback", feedback)]);
    // No client has the empty id: after it is from the first on.
    let ids: Vec<&str> = ranges.iter().map(|range| range.adv_campaign_id).collect();
    let after: Vec<&str> = ranges.iter().map(|range| range.after.unwrap_or_default()).collect();
    let upto: Vec<&str> = ranges.iter().map(|range| range.upto).collect();
    let parameters: Vec<Parameter<'_>> =
        vec![(&ids, Type::TEXT_ARRAY), (&after, Type::TEXT_ARRAY), (&upto, Type::TEXT_ARRAY)];
    let mut told = vec![Clients::new(); ranges.len()];
    let take = |row: &tokio_postgres::Row| {
        told[place(row)].push(row.get(CLIENT));
        Ok(())
    };
    connection.for_each(&sql, parameters, TIME_LIMIT, take).await?;
    Ok(told)
}

/// For each question, who of its clients is at or before the cursor and has no feedback row. One statement: the clients of a restaurant are sent
/// once, however many campaigns it has, and each question names its range of them.
pub(super) async fn late(
    connection: &Connection,
    feedback: &str,
    questions: &[LateQuery<'_>],
) -> Result<Vec<Clients>, PostgresError> {
    let sql = sql::LATE.with([("feedback", feedback)]);
    let ids: Vec<&str> = questions.iter().map(|question| question.adv_campaign_id).collect();
    let cursors: Vec<Option<&str>> = questions.iter().map(|question| question.planned_cursor).collect();
    let over: Vec<bool> = questions.iter().map(|question| question.main_pass_over).collect();
    let (mut clients, mut known) = (Vec::<&str>::new(), HashMap::new());
    let (mut first, mut last) = (Vec::<i32>::new(), Vec::<i32>::new());
    for question in questions {
        let (from, to) = *known.entry(std::ptr::from_ref(question.clients).addr()).or_insert_with(|| {
            let from = clients.len();
            clients.extend(question.clients.iter());
            (from, clients.len())
        });
        first.push(i32::try_from(from + 1).unwrap_or(i32::MAX));
        last.push(i32::try_from(to).unwrap_or(i32::MAX));
    }
    let parameters: Vec<Parameter<'_>> = vec![
        (&ids, Type::TEXT_ARRAY),
        (&cursors, Type::TEXT_ARRAY),
        (&over, Type::BOOL_ARRAY),
        (&first, Type::INT4_ARRAY),
        (&last, Type::INT4_ARRAY),
        (&clients, Type::TEXT_ARRAY),
    ];
    let mut late = vec![Clients::new(); questions.len()];
    let take = |row: &tokio_postgres::Row| {
        late[place(row)].push(row.get(CLIENT));
        Ok(())
    };
    connection.for_each(&sql, parameters, TIME_LIMIT, take).await?;
    Ok(late)
}
