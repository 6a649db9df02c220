//! Feedback rows: who has one, and the rows of a round that is read back.

use tokio_postgres::types::Type;

use crate::draft::Clients;
use crate::postgres::connect::{Connection, Parameter};
use crate::postgres::errors::{PATIENCE, PostgresError};

/// The predicate of our partial unique index: long entries are refused by btree, and our index must not break others' inserts.
pub(super) const INDEXED: &str = "octet_length(adv_campaign_id) <= 256 and octet_length(client_id) <= 256";

/// Those who have a feedback row for the campaign among the clients in `(after, upto]`, in order.
pub(super) async fn already_told(
    connection: &Connection,
    feedback: &str,
    adv_campaign_id: &str,
    after: Option<&str>,
    upto: &str,
) -> Result<Clients, PostgresError> {
    let sql = format!(
        "select client_id from {feedback} where adv_campaign_id = $1 and ($2::text is null or client_id collate \"C\" > $2) \
         and client_id collate \"C\" <= $3 and {INDEXED} order by client_id collate \"C\""
    );
    let mut told = Clients::new();
    let parameters: Vec<Parameter<'_>> =
        vec![(&adv_campaign_id, Type::TEXT), (&after, Type::TEXT), (&upto, Type::TEXT)];
    let take = |row: &tokio_postgres::Row| {
        told.push(row.get(0));
        Ok(())
    };
    connection.for_each(&sql, parameters, PATIENCE, take).await?;
    Ok(told)
}
