//! Dead letters as the ledger keeps them.

use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use crate::operator::campaigns::time;
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};
use dinnerbell_core::text_table::hex;
use dinnerbell_postgres::connect::{Parameter, Pool};
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::number::{Number, number};
use dinnerbell_postgres::sql::fragments::micros;

/// The `--reason-field` of letters that break no rule of one single field; the metrics call them so too.
pub const WHOLE_RECORD: &str = "record";

/// Which dead letters are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those that arrived in this lane.
    pub lane: Option<Lane>,
    /// Only those that break a rule of this field, or of none for [`WHOLE_RECORD`].
    pub reason_field: Option<String>,
    /// Only those that arrived then or later.
    pub since: Option<Seconds>,
    /// Only those that were not sent once more, those in doubt included.
    pub not_replayed: bool,
}

impl Filter {
    /// The condition, with the parameters `$1` to `$4` of [`Filter::parameters`].
    pub(super) const CONDITION: &'static str = "($1::int4 is null or arrived_lane = $1) \
         and ($2::text is null or coalesce(field, 'record') = $2) and ($3::int8 is null or arrived_at >= to_timestamp($3)) \
         and (not $4 or replayed_at is null)";

    pub(super) fn parameters(&self) -> [Parameter<'_>; 4] {
        [
            self.lane.parameter(),
            (&self.reason_field, Type::TEXT),
            self.since.parameter(),
            (&self.not_replayed, Type::BOOL),
        ]
    }
}

/// A dead letter in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub struct Summary {
    /// Its number in the ledger.
    pub id: i64,
    /// The lane in which it arrived.
    #[schema(value_type = i32)]
    pub lane: Lane,
    /// The offset at which it arrived.
    #[schema(value_type = i64)]
    pub offset: Offset,
    /// When it arrived.
    pub arrived_at: Option<String>,
    /// The field that breaks a rule; null where it is not one field.
    pub field: Option<String>,
    /// Why it is no campaign.
    pub reason: String,
    /// Bytes of its key; null for a null key.
    pub key_bytes: Option<i32>,
    /// Bytes of its value, kept or not; null for a null value.
    pub value_bytes: Option<i32>,
    /// The lane whose rounds publish it in the topic of dead letters.
    #[schema(value_type = i32)]
    pub publishing_lane: Lane,
    /// The round that does; null before, and where there is no such topic.
    #[schema(value_type = Option<i64>)]
    pub round: Option<Seq>,
    /// When it was last sent once more.
    pub replayed_at: Option<String>,
    /// By whom.
    pub replayed_by: Option<String>,
    /// Set while nobody knows whether a replay sent it: it was claimed then, and its fate was not written down.
    pub in_doubt_since: Option<String>,
    /// Who claimed it.
    pub in_doubt_by: Option<String>,
}

/// All of a dead letter.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = DeadLetterDetails)]
pub struct Details {
    /// As in the list.
    #[serde(flatten)]
    pub summary: Summary,
    /// Milliseconds since the epoch, as Kafka held it.
    pub record_timestamp: Option<i64>,
    /// The original key.
    pub key: Option<Bytes>,
    /// The original value.
    pub value: Option<Bytes>,
    /// The original headers, in their order.
    pub headers: Vec<HeaderBytes>,
    /// The parts of the record that are not kept: `key`, `value`, `headers`; it was too large, or could not be read.
    pub left_out: Vec<String>,
    /// Bytes of a value that is not kept.
    pub value_size: Option<i64>,
    /// Its SHA-256, in hexadecimal.
    pub value_sha256: Option<String>,
}

/// Bytes for JSON: one of the two is null.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Bytes {
    /// The bytes, if they are UTF-8.
    pub text: Option<String>,
    /// Else in hexadecimal.
    pub hex: Option<String>,
    #[serde(skip)]
    raw: Vec<u8>,
}

impl Bytes {
    fn new(raw: Vec<u8>) -> Self {
        let text = str::from_utf8(&raw).ok().map(str::to_owned);
        let hex = text.is_none().then(|| hex(&raw));
        Self { text, hex, raw }
    }

    /// As they arrived.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
}

/// A header.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HeaderBytes {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<Bytes>,
}

/// The columns of a summary.
fn summary_columns() -> String {
    format!(
        "id, arrived_lane, record_offset, {}, field, reason, octet_length(key), coalesce(octet_length(value), value_size::int4), lane, round_seq, \
         {}, replayed_by, {}, case when replay_claimed_at is not null then replay_claimed_by end",
        micros("arrived_at"),
        micros("replayed_at"),
        micros("replay_claimed_at"),
    )
}

/// Dead letters, the latest first; those below `before`, at most `limit`.
pub async fn list(
    pool: &Pool,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Summary>, PostgresError> {
    let sql = format!(
        "select {} from dinnerbell.dead_letter where {} and ($5::int8 is null or id < $5) order by id desc limit $6",
        summary_columns(),
        Filter::CONDITION
    );
    let [lane, field, since, not_replayed] = filter.parameters();
    let parameters = [lane, field, since, not_replayed, (&before, Type::INT8), (&limit, Type::INT8)];
    Ok(pool.query(&sql, &parameters).await?.iter().map(summary).collect())
}

/// How many of the last dead letters break a rule of each field, the most frequent first; [`WHOLE_RECORD`] for those of none.
pub async fn by_field(pool: &Pool, last: i64) -> Result<Vec<(String, i64)>, PostgresError> {
    let sql = "select field, count(*) from (select coalesce(field, 'record') as field from dinnerbell.dead_letter order by id desc limit $1) c \
               group by field order by count(*) desc, field";
    let rows = pool.query(sql, &[(&last, Type::INT8)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// One dead letter.
pub async fn show(pool: &Pool, id: i64) -> Result<Option<Details>, PostgresError> {
    let sql = format!(
        "select {}, record_timestamp, key, value, header_names, header_values, \
         coalesce(string_to_array(left_out, ','), '{{}}'), value_size, encode(value_sha256, 'hex') from dinnerbell.dead_letter where id = $1",
        summary_columns()
    );
    let rows = pool.query(&sql, &[(&id, Type::INT8)]).await?;
    Ok(rows.first().map(|row| Details {
        summary: summary(row),
        record_timestamp: row.get(14),
        key: row.get::<_, Option<Vec<u8>>>(15).map(Bytes::new),
        value: row.get::<_, Option<Vec<u8>>>(16).map(Bytes::new),
        headers: headers(row.get(17), row.get(18)),
        left_out: row.get(19),
        value_size: row.get(20),
        value_sha256: row.get(21),
    }))
}

fn headers(names: Vec<String>, values: Vec<Option<Vec<u8>>>) -> Vec<HeaderBytes> {
    let header = |(name, value): (String, Option<Vec<u8>>)| HeaderBytes { name, value: value.map(Bytes::new) };
    names.into_iter().zip(values).map(header).collect()
}

fn summary(row: &Row) -> Summary {
    Summary {
        id: row.get(0),
        lane: number(row, 1),
        offset: number(row, 2),
        arrived_at: time(row.get(3)),
        field: row.get(4),
        reason: row.get(5),
        key_bytes: row.get(6),
        value_bytes: row.get(7),
        publishing_lane: number(row, 8),
        round: number(row, 9),
        replayed_at: time(row.get(10)),
        replayed_by: row.get(11),
        in_doubt_since: time(row.get(12)),
        in_doubt_by: row.get(13),
    }
}
