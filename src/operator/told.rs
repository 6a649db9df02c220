//! Whether somebody was told: of one campaign, and of those of the last time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use utoipa::ToSchema;

use crate::operator::audiences::Audiences;
use crate::operator::campaigns::time;
use dinnerbell_config::Config;
use dinnerbell_core::model::limits::LONGEST_CLIENT_ID;
use dinnerbell_core::model::not_told::{ClientWithoutDraft, NotToldReason, reason};
use dinnerbell_core::model::number::{Lane, Seconds, Seq};
use dinnerbell_core::ports::audience::AudienceError;
use dinnerbell_postgres::audience_size::AudienceSize;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::told::{CampaignStanding, ClientDraft, Told};

/// Campaigns that are asked about in one statement.
const BATCH: usize = 1_000;

/// Why it could not be said.
#[derive(Debug, thiserror::Error)]
pub enum ToldError {
    /// The feedback database.
    #[error("{0}")]
    Database(#[from] PostgresError),
    /// The subscribers database.
    #[error("{0}")]
    Audience(#[from] AudienceError),
}

/// Whether a client was told of a campaign.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Told)]
pub struct Answer {
    /// The campaign.
    pub adv_campaign_id: String,
    /// Its restaurant; null for one that was cancelled before it arrived.
    pub restaurant_id: Option<String>,
    /// Its state: scheduled, active, complete, closed, expired or cancelled.
    pub state: String,
    /// When it begins.
    #[schema(value_type = Option<i64>)]
    pub adv_campaign_datetime_start: Option<Seconds>,
    /// When it ends.
    #[schema(value_type = Option<i64>)]
    pub adv_campaign_datetime_end: Option<Seconds>,
    /// Who is asked about.
    pub client_id: String,
    /// Whether they favour the restaurant now.
    pub favours: bool,
    /// Whether they have a draft.
    pub told: bool,
    /// When it was recorded; null for who was not told, and where its round is not kept any more.
    pub told_at: Option<String>,
    /// When it was formed.
    #[schema(value_type = Option<i64>)]
    pub trigger_datetime_created: Option<Seconds>,
    /// The lane that told them; null where the round is not known.
    #[schema(value_type = Option<i32>)]
    pub lane: Option<Lane>,
    /// Its round.
    #[schema(value_type = Option<i64>)]
    pub round: Option<Seq>,
    /// Whether they were told late.
    pub late: Option<bool>,
    /// Whether the ledger knows that the round is published.
    pub published: Option<bool>,
    /// Whether somebody answered.
    pub answered: Option<bool>,
    /// Why they were not told; null where they were.
    #[schema(value_type = Option<String>)]
    pub reason: Option<NotToldReason>,
    /// The answer as a sentence.
    pub explanation: String,
}

/// What is known of a client.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ClientHistory {
    /// The id of the client.
    pub client_id: String,
    /// Restaurants that they favour now, of those whose campaigns were looked at.
    pub favours: Vec<String>,
    /// The campaigns of those restaurants, and those that told the client; the latest first.
    pub campaigns: Vec<Answer>,
    /// Which campaigns were looked at.
    pub looked_at: LookedAt,
}

/// Which campaigns were looked at.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LookedAt {
    /// How many campaigns were looked at.
    pub campaigns: usize,
    /// When the first of them was received; null where there was none.
    pub since: Option<String>,
    /// The last one, if there may be earlier ones: the next page begins after it.
    pub next: Option<String>,
}

/// Whether a client was told of a campaign; none for a campaign that the ledger does not know.
pub async fn told(
    config: &Config,
    audiences: &Audiences,
    feedback: Pool,
    adv_campaign_id: &str,
    client_id: &str,
) -> Result<Option<Answer>, ToldError> {
    let questions = Questions::open(config, audiences, feedback, client_id).await?;
    let Some(campaign) = questions.told.campaign(adv_campaign_id).await? else { return Ok(None) };
    Ok(questions.answers(&[campaign]).await?.pop())
}

/// The last campaigns of a client: `most` that were received last are looked at, behind `after` in that order.
pub async fn history(
    config: &Config,
    audiences: &Audiences,
    feedback: Pool,
    client_id: &str,
    after: Option<&str>,
    most: usize,
) -> Result<ClientHistory, ToldError> {
    let questions = Questions::open(config, audiences, feedback, client_id).await?;
    let (mut campaigns, mut favours, mut looked_at) = (Vec::new(), BTreeSet::new(), 0);
    let (mut last, mut since) = (after.map(str::to_owned), None);
    loop {
        let wanted = BATCH.min(most - looked_at);
        let batch = questions.told.latest(last.as_deref(), i64::try_from(wanted).unwrap_or(i64::MAX)).await?;
        let is_last = batch.len() < wanted;
        looked_at += batch.len();
        if let Some(oldest) = batch.last() {
            (last, since) = (Some(oldest.adv_campaign_id.clone()), Some(oldest.received_at));
        }
        for answer in questions.answers(&batch).await? {
            if answer.favours {
                favours.extend(answer.restaurant_id.clone());
            }
            if answer.told || answer.favours {
                campaigns.push(answer);
            }
        }
        if is_last || looked_at >= most {
            let next = last.filter(|_| !is_last);
            let looked_at = LookedAt { campaigns: looked_at, since: time(since), next };
            let favours = favours.into_iter().collect();
            return Ok(ClientHistory { client_id: client_id.to_owned(), favours, campaigns, looked_at });
        }
    }
}

/// What is asked about one client.
struct Questions<'a> {
    told: Told,
    audience: &'a AudienceSize,
    tells_late: bool,
    client_id: &'a str,
}

impl<'a> Questions<'a> {
    async fn open(
        config: &Config,
        audiences: &'a Audiences,
        feedback: Pool,
        client_id: &'a str,
    ) -> Result<Self, PostgresError> {
        let audience = audiences.opened().await?;
        Ok(Self { told: Told::of(feedback), audience, tells_late: config.fanout.late_subscribers, client_id })
    }

    /// An answer for each of these campaigns, in their order.
    async fn answers(&self, campaigns: &[CampaignStanding]) -> Result<Vec<Answer>, ToldError> {
        let ids: Vec<&str> = campaigns.iter().map(|campaign| campaign.adv_campaign_id.as_str()).collect();
        let mut drafts = match self.can_have_drafts() {
            true => self.told.drafts(&ids, self.client_id).await?,
            false => BTreeMap::new(),
        };
        let favours = self.favoured(campaigns).await?;
        let is_favoured = |campaign: &CampaignStanding| {
            campaign.restaurant_id.as_ref().is_some_and(|restaurant| favours.contains(restaurant.as_str()))
        };
        let untold: Vec<usize> = (0..campaigns.len())
            .filter(|place| !drafts.contains_key(place) && is_favoured(&campaigns[*place]))
            .collect();
        let of_untold: Vec<&str> = untold.iter().map(|place| ids[*place]).collect();
        let withdrawn = self.told.withdrawn_for(&of_untold, self.client_id).await?;
        let withdrawn: BTreeSet<usize> = withdrawn.into_iter().filter_map(|place| untold.get(place).copied()).collect();
        let answer = |(place, campaign): (usize, &CampaignStanding)| {
            let untold = ClientWithoutDraft {
                client_id: self.client_id,
                favours: is_favoured(campaign),
                was_withdrawn: withdrawn.contains(&place),
            };
            answer(campaign, drafts.remove(&place), untold, self.tells_late)
        };
        Ok(campaigns.iter().enumerate().map(answer).collect())
    }

    /// Ids that are empty or too long are in no index, and have no draft.
    fn can_have_drafts(&self) -> bool {
        !self.client_id.is_empty() && self.client_id.len() <= LONGEST_CLIENT_ID
    }

    /// Which of these campaigns' restaurants the client favours.
    async fn favoured<'c>(&self, campaigns: &'c [CampaignStanding]) -> Result<BTreeSet<&'c str>, ToldError> {
        if !self.can_have_drafts() {
            return Ok(BTreeSet::new());
        }
        let restaurants: BTreeSet<&str> =
            campaigns.iter().filter_map(|campaign| campaign.restaurant_id.as_deref()).collect();
        let restaurants: Vec<&str> = restaurants.into_iter().collect();
        let favoured = self.audience.favoured_by(&restaurants, self.client_id).await?;
        Ok(favoured.into_iter().filter_map(|place| restaurants.get(place).copied()).collect())
    }
}

fn answer(
    campaign: &CampaignStanding,
    draft: Option<ClientDraft>,
    client: ClientWithoutDraft<'_>,
    tells_late: bool,
) -> Answer {
    let reason = draft.is_none().then(|| reason(&campaign.standing, tells_late, client));
    let round = draft.as_ref().and_then(|draft| draft.round);
    let told_at = round.and_then(|round| time(Some(round.recorded_at)));
    Answer {
        adv_campaign_id: campaign.adv_campaign_id.clone(),
        restaurant_id: campaign.restaurant_id.clone(),
        state: campaign.standing.state.name().to_owned(),
        adv_campaign_datetime_start: campaign.window.map(|window| window.start),
        adv_campaign_datetime_end: campaign.window.map(|window| window.end),
        client_id: client.client_id.to_owned(),
        favours: client.favours,
        told: draft.is_some(),
        trigger_datetime_created: draft.as_ref().map(|draft| draft.formed),
        lane: round.map(|round| round.lane),
        round: round.map(|round| round.seq),
        late: round.map(|round| round.late),
        published: round.map(|round| round.published),
        answered: draft.as_ref().map(|draft| draft.answered),
        explanation: reason
            .map_or_else(|| how(draft.as_ref(), told_at.as_deref()), |reason| reason.sentence().to_owned()),
        told_at,
        reason,
    }
}

/// How somebody was told, as a sentence.
fn how(draft: Option<&ClientDraft>, told_at: Option<&str>) -> String {
    let Some(draft) = draft else { return String::new() };
    let formed = || time(Some(draft.formed.micros().get())).unwrap_or_else(|| draft.formed.to_string());
    match draft.round {
        None => format!("told, formed at {}; its round is not kept any more, or an earlier job told them", formed()),
        Some(round) => format!(
            "told at {} in round {} of lane {}{}{}",
            told_at.unwrap_or("-"),
            round.seq,
            round.lane,
            if round.late { ", as a late subscriber" } else { "" },
            if round.published { "" } else { "; the ledger does not know yet that the round is published" }
        ),
    }
}
