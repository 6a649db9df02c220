//! Campaigns as the ledger knows them.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::broker::Lane;
use crate::campaign::EpochSeconds;
use crate::postgres::connect::{Parameter, Pool};
use crate::postgres::errors::PostgresError;

/// Which campaigns are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<String>,
    /// Only those of this restaurant.
    pub restaurant_id: Option<String>,
    /// Only those that come after this one in the list.
    pub after: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// A campaign in a list.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Its id.
    pub adv_campaign_id: String,
    /// The restaurant; null for one that was cancelled before it arrived, as are all its other fields.
    pub restaurant_id: Option<String>,
    /// scheduled, active, complete, closed, expired or cancelled.
    pub state: String,
    /// Drafts recorded, late ones included.
    pub told: i64,
    /// Those of late subscribers among them.
    pub late: i64,
    /// Who was not told when the end passed; null before that, and until it is counted.
    pub unsent: Option<i64>,
    /// When it begins.
    pub adv_campaign_datetime_start: Option<EpochSeconds>,
    /// When it ends.
    pub adv_campaign_datetime_end: Option<EpochSeconds>,
    /// When its audience was last read.
    pub audience_as_of: Option<String>,
}

/// All that is known of a campaign.
#[derive(Debug, Clone, Serialize)]
pub struct Details {
    /// As in the list.
    #[serde(flatten)]
    pub summary: Summary,
    /// The text of the offer.
    pub adv_campaign_content: Option<String>,
    /// Who answers for it.
    pub adv_campaign_owner: Option<String>,
    /// How to reach them.
    pub adv_campaign_owner_contact: Option<String>,
    /// The sender's version.
    pub datetime_created: Option<EpochSeconds>,
    /// The lane that owns it.
    pub lane: Lane,
    /// + 1 with each update.
    pub revision: i32,
    /// Client ids that are empty or too long.
    pub skipped: i64,
    /// Rows of withdrawn drafts that stay because somebody answered in them.
    pub kept: i64,
    /// When it was received.
    pub received_at: String,
    /// At which offset of its lane.
    pub received_offset: Option<i64>,
    /// When it was cancelled.
    pub cancelled_at: Option<String>,
    /// When its first draft was recorded.
    pub first_draft_at: Option<String>,
    /// When its last draft was recorded.
    pub last_draft_at: Option<String>,
}

const SUMMARY: &str = "adv_campaign_id, restaurant_id, state, told, late, unsent, adv_campaign_datetime_start, adv_campaign_datetime_end, \
                       (extract(epoch from audience_as_of) * 1000000)::int8";

/// Campaigns, those that were received last first.
pub async fn list(pool: &Pool, filter: &Filter) -> Result<Vec<Summary>, PostgresError> {
    let sql = format!(
        "select {SUMMARY} from dinnerbell.campaign where ($1::text is null or state = $1) and ($2::text is null or restaurant_id = $2) \
         and ($3::text is null or (received_at, adv_campaign_id) < \
              (select a.received_at, a.adv_campaign_id from dinnerbell.campaign a where a.adv_campaign_id = $3)) \
         order by received_at desc, adv_campaign_id desc limit $4"
    );
    let parameters: [Parameter<'_>; 4] = [
        (&filter.state, Type::TEXT),
        (&filter.restaurant_id, Type::TEXT),
        (&filter.after, Type::TEXT),
        (&filter.limit, Type::INT8),
    ];
    Ok(pool.query(&sql, &parameters).await?.iter().map(summary).collect())
}

/// One campaign.
pub async fn show(pool: &Pool, adv_campaign_id: &str) -> Result<Option<Details>, PostgresError> {
    let micros = |column: &str| format!("(extract(epoch from {column}) * 1000000)::int8");
    let sql = format!(
        "select {SUMMARY}, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, datetime_created, lane, revision, \
         skipped, kept, {}, received_offset, {}, {}, {} from dinnerbell.campaign where adv_campaign_id = $1",
        micros("received_at"),
        micros("cancelled_at"),
        micros("first_draft_at"),
        micros("last_draft_at"),
    );
    let rows = pool.query(&sql, &[(&adv_campaign_id, Type::TEXT)]).await?;
    Ok(rows.first().map(|row| Details {
        summary: summary(row),
        adv_campaign_content: row.get(9),
        adv_campaign_owner: row.get(10),
        adv_campaign_owner_contact: row.get(11),
        datetime_created: row.get(12),
        lane: row.get(13),
        revision: row.get(14),
        skipped: row.get(15),
        kept: row.get(16),
        received_at: time(row.get(17)).unwrap_or_default(),
        received_offset: row.get(18),
        cancelled_at: time(row.get(19)),
        first_draft_at: time(row.get(20)),
        last_draft_at: time(row.get(21)),
    }))
}

fn summary(row: &Row) -> Summary {
    Summary {
        adv_campaign_id: row.get(0),
        restaurant_id: row.get(1),
        state: row.get(2),
        told: row.get(3),
        late: row.get(4),
        unsent: row.get(5),
        adv_campaign_datetime_start: row.get(6),
        adv_campaign_datetime_end: row.get(7),
        audience_as_of: time(row.get(8)),
    }
}

/// Microseconds since the epoch as RFC 3339.
pub(super) fn time(micros: Option<i64>) -> Option<String> {
    micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()).map(|time| time.to_string())
}
