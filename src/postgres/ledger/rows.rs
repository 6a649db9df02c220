//! Feedback rows: who has one, and the rows of a round that is read back.

use tokio_postgres::types::Type;

use crate::draft::Clients;
use crate::ledger::Stretch;
use crate::postgres::connect::{Connection, Parameter, place};
use crate::postgres::errors::{PATIENCE, PostgresError};
use crate::postgres::predicate::of_campaign;

/// The predicate of our partial unique index: long entries are refused by btree, and our index must not break others' inserts.
pub(super) const INDEXED: &str = "octet_length(adv_campaign_id) <= 256 and octet_length(client_id) <= 256";

/// Rows that are counted in one statement.
const COUNTED: i64 = 100_000;

/// How many feedback rows there are of a campaign, counted in steps along the index, and not on from where `enough` are reached.
pub(in crate::postgres) async fn count(
    connection: &Connection,
    feedback: &str,
    id: &str,
    enough: i64,
) -> Result<i64, PostgresError> {
    let sql = format!(
        "select count(*), max(client) from (select client_id collate \"C\" as client from {feedback} where {} \
         and client_id collate \"C\" > $2 and {INDEXED} order by client_id collate \"C\" limit $3) as counted",
        of_campaign("adv_campaign_id", "$1")
    );
    // No client has the empty id: behind it is from the first on.
    let (mut rows, mut after) = (0, String::new());
    while rows < enough {
        let parameters: [Parameter<'_>; 3] = [(&id, Type::TEXT), (&after, Type::TEXT), (&COUNTED, Type::INT8)];
        let row = connection.query_one(&sql, &parameters).await?;
        let some: i64 = row.get(0);
        rows += some;
        match row.get::<_, Option<String>>(1) {
            Some(last) if some == COUNTED => after = last,
            _ => break,
        }
    }
    Ok(rows)
}

/// Those who have a feedback row for the campaign, among the clients of each stretch. One statement looks along the index stretch by stretch:
/// the offset keeps the planner from making one scan of them.
pub(super) async fn already_told(
    connection: &Connection,
    feedback: &str,
    stretches: &[Stretch<'_>],
) -> Result<Vec<Clients>, PostgresError> {
    let sql = format!(
        "select s.place, told.client_id from unnest($1::text[], $2::text[], $3::text[]) with ordinality as s(id, behind, upto, place) \
         cross join lateral (select client_id from {feedback} where {} and client_id collate \"C\" > s.behind \
         and client_id collate \"C\" <= s.upto and {INDEXED} offset 0) as told",
        of_campaign("adv_campaign_id", "s.id")
    );
    // No client has the empty id: behind it is from the first on.
    let ids: Vec<&str> = stretches.iter().map(|stretch| stretch.adv_campaign_id).collect();
    let after: Vec<&str> = stretches.iter().map(|stretch| stretch.after.unwrap_or_default()).collect();
    let upto: Vec<&str> = stretches.iter().map(|stretch| stretch.upto).collect();
    let parameters: Vec<Parameter<'_>> =
        vec![(&ids, Type::TEXT_ARRAY), (&after, Type::TEXT_ARRAY), (&upto, Type::TEXT_ARRAY)];
    let mut told = vec![Clients::new(); stretches.len()];
    let take = |row: &tokio_postgres::Row| {
        told[place(row)].push(row.get(1));
        Ok(())
    };
    connection.for_each(&sql, parameters, PATIENCE, take).await?;
    Ok(told)
}
