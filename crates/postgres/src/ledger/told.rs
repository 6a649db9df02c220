//! Who was told of what, and who was not: what operators ask of campaigns, rounds and feedback rows. Nothing is written.

use std::collections::BTreeMap;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::{BY_INDEX, BY_ONE_INDEX, ROW_BY_ROW};
use crate::connect::{Parameter, Pool, begin_sql, place};
use crate::errors::PostgresError;
use crate::number::number;
use crate::sql;
use dinnerbell_core::model::campaign::{CampaignState, Window};
use dinnerbell_core::model::not_told::{Standing, Stop};
use dinnerbell_core::model::number::{Lane, Seconds, Seq};

/// Most pages of a campaign that are known to be withdrawn: each is a round's, and rounds are withdrawn rarely.
const WITHDRAWN_PAGES: i64 = 1_000;

/// A campaign, and how it stands.
#[derive(Debug, Clone)]
pub struct CampaignStanding {
    /// Its id.
    pub adv_campaign_id: String,
    /// The restaurant; none for one that was cancelled before it arrived.
    pub restaurant_id: Option<String>,
    /// The lane that owns it.
    pub lane: Lane,
    /// When it may be told.
    pub window: Option<Window>,
    /// When it was received, in microseconds.
    pub received_at: i64,
    /// How many it told.
    pub told: i64,
    /// How it stands.
    pub standing: Standing,
}

impl CampaignStanding {
    fn of(row: &Row) -> Self {
        let (start, end) = (number(row, "adv_campaign_datetime_start"), number(row, "adv_campaign_datetime_end"));
        let window = Option::zip(start, end).map(|(start, end)| Window { start, end });
        let main_pass_over: bool = row.get("main_pass_over");
        let state = match (row.get("state"), window) {
            ("cancelled", _) | (_, None) => CampaignState::Cancelled,
            // Its lane may not have noticed yet.
            (_, Some(window)) => CampaignState::of(window, main_pass_over, number(row, "now")),
        };
        let restaurant_id: Option<String> = row.get("restaurant_id");
        let stop = match (row.get("paused"), row.get("held"), row.get::<_, Option<&str>>("halted")) {
            (true, ..) => Some(Stop::Paused),
            (_, Some(true), _) => Some(Stop::Held),
            (.., Some(_)) => Some(Stop::Halted),
            _ => None,
        };
        let standing =
            Standing { state, has_arrived: restaurant_id.is_some(), cursor: row.get("cursor"), main_pass_over, stop };
        Self {
            adv_campaign_id: row.get("adv_campaign_id"),
            restaurant_id,
            lane: number(row, "lane"),
            window,
            received_at: row.get("received_at"),
            told: row.get("told"),
            standing,
        }
    }
}

/// A draft of a client.
#[derive(Debug, Clone)]
pub struct ClientDraft {
    /// When it was formed.
    pub formed: Seconds,
    /// Whether somebody answered in its row.
    pub answered: bool,
    /// The round that holds it; none where that is not kept any more, and of an earlier job's row.
    pub round: Option<DraftRound>,
}

/// The round of a draft.
#[derive(Debug, Clone, Copy)]
pub struct DraftRound {
    /// Its lane.
    pub lane: Lane,
    /// Its number.
    pub seq: Seq,
    /// When it was recorded, in microseconds.
    pub recorded_at: i64,
    /// Whether the client was told late.
    pub late: bool,
    /// Whether the ledger knows that it is published.
    pub published: bool,
}

/// A page of a main pass that was withdrawn: the clients behind the first, up to the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithdrawnPage {
    behind: String,
    upto: String,
}

impl WithdrawnPage {
    /// Whether a client stood on it.
    pub fn held(&self, client_id: &str) -> bool {
        *self.behind < *client_id && client_id <= &*self.upto
    }
}

/// When a campaign was told, as far as its rounds are kept. Times are microseconds.
#[derive(Debug, Clone, Default)]
pub struct OverTime {
    /// Those parts of the time in which there were drafts.
    pub spans: Vec<Span>,
    /// When the last page of the main pass was recorded.
    pub main_pass_over: Option<i64>,
    /// How many rounds were withdrawn from.
    pub withdrawn: i64,
}

/// A part of the time.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// From.
    pub since: i64,
    /// To.
    pub until: i64,
    /// How many drafts were recorded.
    pub drafts: i64,
    /// Those of late subscribers among them.
    pub late: i64,
}

/// Questions about who was told.
pub struct Told {
    pool: Pool,
}

impl Told {
    /// Of the ledger in the pool's database.
    pub fn of(pool: Pool) -> Self {
        Self { pool }
    }

    /// How a campaign stands; none that the ledger does not know.
    pub async fn campaign(&self, adv_campaign_id: &str) -> Result<Option<CampaignStanding>, PostgresError> {
        let sql = sql::STANDING_OF_CAMPAIGNS.with([("which", "adv_campaign_id = $1")]);
        let rows = self.ask(&sql, &[(&adv_campaign_id, Type::TEXT)]).await?;
        Ok(rows.first().map(CampaignStanding::of))
    }

    /// The campaigns that were received last, at most `most`, behind `after` in that order; not those that were cancelled before they arrived.
    pub async fn latest(&self, after: Option<&str>, most: i64) -> Result<Vec<CampaignStanding>, PostgresError> {
        let behind = "and (received_at, adv_campaign_id) < \
             (select a.received_at, a.adv_campaign_id from dinnerbell.campaign a where a.adv_campaign_id = $2)";
        let behind = if after.is_some() { behind } else { "" };
        let which =
            format!("restaurant_id is not null {behind} order by received_at desc, adv_campaign_id desc limit $1");
        let sql = sql::STANDING_OF_CAMPAIGNS.with([("which", &which)]);
        let rows = self.ask(&sql, &[(&most, Type::INT8), (&after, Type::TEXT)]).await?;
        Ok(rows.iter().map(CampaignStanding::of).collect())
    }

    /// The drafts of a client for some of these campaigns, by their place in the list, each with its round where that is kept.
    pub async fn drafts(
        &self,
        campaigns: &[&str],
        client_id: &str,
    ) -> Result<BTreeMap<usize, ClientDraft>, PostgresError> {
        let sql = sql::DRAFTS_OF_CLIENT.with([("feedback", &self.pool.table().sql())]);
        let found = self.ask(&sql, &[(&campaigns, Type::TEXT_ARRAY), (&client_id, Type::TEXT)]).await?;
        let draft =
            |row: &Row| ClientDraft { formed: number(row, "formed"), answered: row.get("answered"), round: None };
        let mut drafts: BTreeMap<usize, ClientDraft> = found.iter().map(|row| (place(row), draft(row))).collect();
        let places: Vec<usize> = drafts.keys().copied().collect();
        let ids: Vec<&str> = places.iter().map(|place| campaigns[*place]).collect();
        let formed: Vec<i64> = drafts.values().map(|draft| draft.formed.get()).collect();
        let parameters: [Parameter<'_>; 3] =
            [(&ids, Type::TEXT_ARRAY), (&client_id, Type::TEXT), (&formed, Type::INT8_ARRAY)];
        for row in self.ask(sql::ROUNDS_OF_CLIENT.text(), &parameters).await? {
            if let Some(draft) = places.get(place(&row)).and_then(|place| drafts.get_mut(place)) {
                draft.round = Some(DraftRound {
                    lane: number(&row, "lane"),
                    seq: number(&row, "seq"),
                    recorded_at: row.get("recorded_at"),
                    late: row.get("late"),
                    published: row.get("published"),
                });
            }
        }
        Ok(drafts)
    }

    /// Which of these campaigns withdrew a page on which the client stood, by their place in the list.
    pub async fn withdrawn_for(&self, campaigns: &[&str], client_id: &str) -> Result<Vec<usize>, PostgresError> {
        let parameters: [Parameter<'_>; 2] = [(&campaigns, Type::TEXT_ARRAY), (&client_id, Type::TEXT)];
        Ok(self.ask(sql::WITHDRAWN_FOR.text(), &parameters).await?.iter().map(place).collect())
    }

    /// The pages of a campaign that were withdrawn.
    pub async fn withdrawn_pages(&self, adv_campaign_id: &str) -> Result<Vec<WithdrawnPage>, PostgresError> {
        let parameters: [Parameter<'_>; 2] = [(&adv_campaign_id, Type::TEXT), (&WITHDRAWN_PAGES, Type::INT8)];
        let rows = self.ask(sql::WITHDRAWN_PAGES.text(), &parameters).await?;
        let page = |row: &Row| WithdrawnPage { behind: row.get("behind"), upto: row.get("upto") };
        Ok(rows.iter().map(page).collect())
    }

    /// Who has a feedback row of the campaign, among the clients behind `after`, up to `upto`, in no order.
    pub async fn told_between(
        &self,
        adv_campaign_id: &str,
        after: &str,
        upto: &str,
    ) -> Result<Vec<String>, PostgresError> {
        let sql = sql::ALREADY_TOLD.with([("feedback", &self.pool.table().sql())]);
        let (ids, behind, upto) = (vec![adv_campaign_id], vec![after], vec![upto]);
        let parameters: [Parameter<'_>; 3] =
            [(&ids, Type::TEXT_ARRAY), (&behind, Type::TEXT_ARRAY), (&upto, Type::TEXT_ARRAY)];
        Ok(self.ask(&sql, &parameters).await?.iter().map(|row| row.get("client_id")).collect())
    }

    /// When drafts of a campaign were recorded, in equal parts of the time from the first to the last.
    pub async fn over_time(&self, adv_campaign_id: &str, parts: i64) -> Result<OverTime, PostgresError> {
        let parameters: [Parameter<'_>; 2] = [(&adv_campaign_id, Type::TEXT), (&parts, Type::INT8)];
        let mut over_time = OverTime::default();
        for row in self.ask(sql::TOLD_OVER_TIME.text(), &parameters).await? {
            match row.get::<_, Option<i64>>("since") {
                Some(since) => over_time.spans.push(Span {
                    since,
                    until: row.get("until"),
                    drafts: row.get("drafts"),
                    late: row.get("late"),
                }),
                None => {
                    over_time.main_pass_over = row.get("main_pass_over");
                    over_time.withdrawn = row.get::<_, Option<i64>>("withdrawn").unwrap_or_default();
                }
            }
        }
        Ok(over_time)
    }

    /// A question that is answered by indexes, whatever the statistics say.
    async fn ask(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, PostgresError> {
        let by_index = format!("{BY_INDEX}; {BY_ONE_INDEX}; {ROW_BY_ROW}");
        self.pool.ask(&begin_sql(", read only", &by_index), sql, parameters).await
    }
}
