//! Pages of campaigns, filtered. What no index finds is searched for among the campaigns that were received last, up to a limit for each page.

use tokio_postgres::types::Type;

use super::{Filter, Summary, expect_completion, select_from, summary, summary_columns};
use crate::operator::audiences::Audiences;
use dinnerbell_core::model::campaign::CampaignState;
use dinnerbell_postgres::connect::{Parameter, Pool};
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::begin_of_list;
use dinnerbell_postgres::number::Number;

/// Most campaigns that are looked at for a page.
const LOOKED_AT: i64 = 100_000;

/// A page of campaigns.
#[derive(Debug, Clone)]
pub struct Page {
    /// The campaigns, the last received first.
    pub campaigns: Vec<Summary>,
    /// Behind which campaign the next page begins; none where this is the last one.
    pub next: Option<String>,
}

/// Lists campaigns, the last received first.
pub async fn list(pool: &Pool, audiences: &Audiences, filter: &Filter) -> Result<Page, PostgresError> {
    let mut page = read(pool, filter).await?;
    expect_completion(audiences, page.campaigns.iter_mut()).await;
    Ok(page)
}

async fn read(pool: &Pool, filter: &Filter) -> Result<Page, PostgresError> {
    let source = Source::of(filter);
    let page = format!(
        "select * from ({}) c where {} order by received_at desc, adv_campaign_id desc limit $4",
        source.sql(LOOKED_AT),
        found(filter)
    );
    let rows = pool.ask(&begin_of_list(), &select_from(&summary_columns(), &page), &parameters(filter)).await?;
    let campaigns: Vec<Summary> = rows.iter().map(summary).collect();
    let next = match campaigns.last() {
        Some(last) if campaigns.len() as i64 >= filter.limit => Some(last.adv_campaign_id.clone()),
        _ => last_looked_at(pool, filter, source).await?,
    };
    Ok(Page { campaigns, next })
}

/// Which campaign was read last, if there may be others after it.
async fn last_looked_at(pool: &Pool, filter: &Filter, source: Source) -> Result<Option<String>, PostgresError> {
    if source != Source::Received {
        return Ok(None);
    }
    let sql = format!(
        "select adv_campaign_id from dinnerbell.campaign where {BETWEEN} order by received_at desc, adv_campaign_id desc offset {} limit 1",
        LOOKED_AT - 1
    );
    Ok(pool.ask(&begin_of_list(), &sql, &parameters(filter)).await?.first().map(|row| row.get(0)))
}

/// The window of a list.
const BETWEEN: &str = "($3::text is null or (received_at, adv_campaign_id) < \
         (select a.received_at, a.adv_campaign_id from dinnerbell.campaign a where a.adv_campaign_id = $3)) \
     and ($5::int8 is null or received_at >= to_timestamp($5)) and ($6::int8 is null or received_at < to_timestamp($6))";

/// What is asked for. A text of ASCII is looked for in a collation that knows no other letters: that takes a third of the time.
fn found(filter: &Filter) -> String {
    let is_ascii = filter.search.as_deref().is_none_or(str::is_ascii);
    let collation = if is_ascii { "\"C\"" } else { "\"default\"" };
    let columns = ["adv_campaign_id", "restaurant_id", "adv_campaign_owner", "adv_campaign_content"];
    let text = columns.map(|column| format!("coalesce({column}, '')")).join(" || E'\\n' || ");
    format!(
        "(cardinality($1::text[]) = 0 or state = any($1)) and ($2::text is null or restaurant_id = $2) \
         and ($7::text is null or adv_campaign_owner = $7) \
         and ($8::text is null or strpos(lower(({text}) collate {collation}), lower($8 collate {collation})) > 0)"
    )
}

fn parameters(filter: &Filter) -> [Parameter<'_>; 8] {
    [
        (&filter.states, Type::TEXT_ARRAY),
        (&filter.restaurant_id, Type::TEXT),
        (&filter.after, Type::TEXT),
        (&filter.limit, Type::INT8),
        filter.since.parameter(),
        filter.until.parameter(),
        (&filter.owner, Type::TEXT),
        (&filter.search, Type::TEXT),
    ]
}

/// Where a list is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Among those that wait or run, by the indexes that hold only them.
    Open,
    /// Among those that were received last.
    Received,
}

impl Source {
    fn of(filter: &Filter) -> Self {
        let open = [CampaignState::Scheduled, CampaignState::Active, CampaignState::Complete].map(CampaignState::name);
        let are_open = filter.states.iter().all(|state| open.contains(&state.as_str()));
        if are_open && !filter.states.is_empty() { Self::Open } else { Self::Received }
    }

    fn sql(self, most: i64) -> String {
        match self {
            // Each part has its index; the offset keeps the planner from walking through all that were received.
            Self::Open => format!(
                "select * from (select * from dinnerbell.campaign where state in ('active', 'complete') offset 0) r where {BETWEEN} \
                 union all select * from (select * from dinnerbell.campaign where state = 'scheduled' offset 0) s where {BETWEEN}"
            ),
            Self::Received => format!(
                "select * from dinnerbell.campaign where {BETWEEN} order by received_at desc, adv_campaign_id desc limit {most}"
            ),
        }
    }
}
