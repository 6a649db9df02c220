//! Orders as the ledger keeps them: who gave which, when, and from where.

use dinnerbell_core::model::number::Seconds;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use crate::operator::campaigns::time;
use dinnerbell_postgres::connect::{Parameter, Pool};
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::begin_of_list;
use dinnerbell_postgres::number::Number;
use dinnerbell_postgres::sql;

/// Which orders are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those given then or later.
    pub since: Option<Seconds>,
    /// Only those of somebody of this name.
    pub who: Option<String>,
    /// Only those that come after this one in the list.
    pub after: Option<i64>,
    /// The most orders of a page.
    pub limit: i64,
}

/// An order.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Order)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// When it was carried out.
    pub at: Option<String>,
    /// The account that gave it, or the name given at the sign-in.
    pub who: String,
    /// paused, resumed, cancelled, resolved, adopted, replayed, republished, verified, signed_in or refused.
    pub what: String,
    /// The kind of what it is about: service, campaign, lane, lanes, dead_letters or feedback_table.
    pub subject: String,
    /// Which one.
    pub subject_id: Option<String>,
    /// What else is to be known.
    pub details: String,
    /// command line, page or api.
    pub origin: String,
    /// The machine that took it.
    pub host: String,
}

/// Orders, the latest first.
pub async fn list(pool: &Pool, filter: &Filter) -> Result<Vec<Entry>, PostgresError> {
    let parameters: [Parameter<'_>; 4] =
        [filter.since.parameter(), (&filter.who, Type::TEXT), (&filter.after, Type::INT8), (&filter.limit, Type::INT8)];
    Ok(pool.ask(&begin_of_list(), sql::AUDIT_ENTRIES.text(), &parameters).await?.iter().map(entry).collect())
}

/// When both sinks were compared last, by whom, and with which outcome; none where that is not kept.
pub async fn last_verified(pool: &Pool) -> Result<Option<Entry>, PostgresError> {
    Ok(pool.query(sql::LAST_VERIFIED.text(), &[]).await?.first().map(entry))
}

fn entry(row: &Row) -> Entry {
    Entry {
        id: row.get(0),
        at: time(row.get(1)),
        who: row.get(2),
        what: row.get(3),
        subject: row.get(4),
        subject_id: row.get(5),
        details: row.get(6),
        origin: row.get(7),
        host: row.get(8),
    }
}
