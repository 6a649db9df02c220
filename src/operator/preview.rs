//! What would come of a campaign if it were sent now: who is told, how long that takes, and what is wrong with it. Nothing is written, and
//! Kafka is not asked.

use indicatif::ProgressBar;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use dinnerbell_config::Config;
use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::input::{DecodedRecord, RecordError};
use dinnerbell_core::model::number::{Micros, Seconds};
use dinnerbell_core::model::rules::{Known, RecordEffect, apply_rules};
use dinnerbell_core::ports::audience::AudienceError;
use dinnerbell_postgres::audience_size::AudienceSize;
use dinnerbell_postgres::clock::CLOCK_MICROS;
use dinnerbell_postgres::connect::{Parameter, Pool};
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::number::number;
use dinnerbell_postgres::sql;
use dinnerbell_postgres::table_identity;
use dinnerbell_postgres::table_identity::of_another_table;

/// Clients of one page where ids are read, not counted.
const PAGE: i64 = 20_000;
/// Most pages that are looked through for a sample.
const SAMPLED_PAGES: usize = 50;

/// What is previewed.
#[derive(Debug, Clone)]
pub enum Subject {
    /// Any campaign of a restaurant.
    Restaurant(String),
    /// A campaign that keeps every rule of the input.
    Campaign(Box<Campaign>),
}

/// What would come of it, as it is printed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Preview {
    /// The restaurant; null where the file does not tell, as are all numbers then.
    pub restaurant_id: Option<String>,
    /// The campaign; null for a restaurant alone.
    pub adv_campaign_id: Option<String>,
    /// Distinct clients that favour the restaurant, their ids usable.
    pub audience: Option<i64>,
    /// Those among them who have a draft of this campaign.
    pub already_told: Option<i64>,
    /// Client ids that are empty, too long or no UTF-8.
    pub skipped: Option<i64>,
    /// Who would be told from now on.
    pub will_be_told: Option<i64>,
    /// Some of them, the first ones.
    pub sample: Vec<String>,
    /// Drafts a second.
    pub pace: Option<f64>,
    /// Where the pace comes from.
    pub pace_from: Option<PaceFrom>,
    /// How long it takes at that pace.
    pub seconds: Option<f64>,
    /// When it may begin.
    pub adv_campaign_datetime_start: Option<Seconds>,
    /// When it ends.
    pub adv_campaign_datetime_end: Option<Seconds>,
    /// As what the record would end.
    pub counts_as: Option<CountsAs>,
    /// The state of the campaign of this id, where there is one.
    pub known_state: Option<String>,
    /// Why it would be a dead letter: every broken rule.
    pub mistakes: Vec<Mistake>,
    /// What is worth a thought.
    pub warnings: Vec<String>,
}

/// Where a pace comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaceFrom {
    /// `fanout.rate_limit`.
    RateLimit,
    /// Rounds of earlier campaigns.
    RecentRounds,
    /// There is no limit, and nothing was measured yet.
    Unlimited,
}

/// As what an input record ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CountsAs {
    /// A new campaign.
    Campaign,
    /// A newer version.
    Update,
    /// An older version, or one of a cancelled campaign: ignored.
    OlderUpdate,
    /// An identical copy: ignored.
    Duplicate,
    /// Nothing that can be told.
    DeadLetter,
}

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The field, where it is one.
    pub field: Option<String>,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl From<RecordError> for Mistake {
    fn from(RecordError { field, reason }: RecordError) -> Self {
        Self { field: field.map(str::to_owned), reason }
    }
}

/// Which of the two databases failed.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The ledger or the feedback table.
    #[error(transparent)]
    Feedback(#[from] PostgresError),
    /// The subscribers.
    #[error(transparent)]
    Subscribers(#[from] AudienceError),
}

impl Preview {
    /// Of what cannot become a campaign: found without contacting anybody.
    pub fn refused(broken: Vec<RecordError>) -> Self {
        let mistakes = broken.into_iter().map(Mistake::from).collect();
        Self { mistakes, counts_as: Some(CountsAs::DeadLetter), ..Self::default() }
    }
}

/// What the ledger knows of the campaign's id.
struct KnownCampaign {
    state: String,
    known: Known,
    cursor: Option<String>,
}

/// Looks at both databases and says what would come of it. `sample` is how many clients are named.
pub async fn preview(
    config: &Config,
    subject: &Subject,
    sample: usize,
    progress: &ProgressBar,
) -> Result<Preview, PreviewError> {
    let feedback = Pool::open(&config.feedback, "feedback")?;
    if let Err(another) = table_identity::check(&feedback).await? {
        return Err(PostgresError::refused(of_another_table(&another)).into());
    }
    let size = AudienceSize::open(Pool::open(&config.subscribers, "subscribers")?).await?;
    let (campaign, restaurant_id) = match subject {
        Subject::Restaurant(id) => (None, id),
        Subject::Campaign(campaign) => (Some(&**campaign), &campaign.restaurant_id),
    };
    let stood = match campaign {
        Some(campaign) => stood(&feedback, &campaign.adv_campaign_id).await?,
        None => None,
    };
    let asked = Asked { feedback, size, restaurant_id, id: campaign.map(|campaign| campaign.adv_campaign_id.as_str()) };
    let mut preview = asked.numbers(config, progress).await?;
    if let Some(campaign) = campaign {
        preview.adv_campaign_id = Some(campaign.adv_campaign_id.clone());
        let (now, paused) = asked.now().await?;
        if paused {
            preview.warnings.push("all sending is paused: nobody is told before `dinnerbell resume`".to_owned());
        }
        check_campaign(&mut preview, campaign, stood.as_ref(), now);
    }
    if preview.will_be_told > Some(0) {
        preview.sample = asked.sample(stood.and_then(|stood| stood.cursor), sample).await?;
    }
    Ok(preview)
}

/// Where it is asked, and about what.
struct Asked<'a> {
    feedback: Pool,
    size: AudienceSize,
    restaurant_id: &'a str,
    id: Option<&'a str>,
}

impl Asked<'_> {
    /// Who there is to tell, and how fast.
    async fn numbers(&self, config: &Config, progress: &ProgressBar) -> Result<Preview, PreviewError> {
        let counted = |counted: i64| progress.set_message(format!("{counted} subscribers counted"));
        let audience = self.size.clients(self.restaurant_id, counted).await?;
        let skipped = self.size.skipped(self.restaurant_id).await?;
        let already_told = self.already_told(progress).await?;
        let left = (audience - already_told).max(0);
        let (pace, pace_from) = self.pace(config).await?;
        let mut warnings = Vec::new();
        if audience == 0 {
            warnings.push("nobody favours this restaurant".to_owned());
        }
        if skipped > 0 {
            warnings
                .push(format!("{skipped} client ids are empty, longer than 256 bytes or no UTF-8: they are skipped"));
        }
        if !self.size.is_indexed() {
            let text = "subscribers.table has no index on (restaurant_id, client_id COLLATE \"C\"): each page is a scan of it; run \
                        `dinnerbell migrate`";
            warnings.push(text.to_owned());
        }
        Ok(Preview {
            restaurant_id: Some(self.restaurant_id.to_owned()),
            audience: Some(audience),
            already_told: Some(already_told),
            skipped: Some(skipped),
            will_be_told: Some(left),
            pace,
            pace_from: Some(pace_from),
            seconds: pace.map(|pace| left as f64 / pace),
            warnings,
            ..Preview::default()
        })
    }

    /// Those of the audience who have a feedback row of the campaign: page by page, since the tables may live in two databases.
    async fn already_told(&self, progress: &ProgressBar) -> Result<i64, PreviewError> {
        let Some(id) = self.id else { return Ok(0) };
        let sql = sql::TOLD_CLIENTS.with([("feedback", &self.feedback.table().sql())]);
        let (mut told, mut after) = (0, String::new());
        loop {
            let parameters: [Parameter<'_>; 3] = [(&id, Type::TEXT), (&after, Type::TEXT), (&PAGE, Type::INT8)];
            let rows = self.feedback.query(&sql, &parameters).await?;
            let clients: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
            let Some(last) = clients.last() else { return Ok(told) };
            told += self.size.among(self.restaurant_id, &clients).await?;
            progress.set_message(format!("{told} have a draft already"));
            if (clients.len() as i64) < PAGE {
                return Ok(told);
            }
            after = (*last).to_owned();
        }
    }

    /// The first clients that would be told, after the cursor.
    async fn sample(&self, cursor: Option<String>, wanted: usize) -> Result<Vec<String>, PreviewError> {
        let sql = sql::UNTOLD_CLIENTS.with([("feedback", &self.feedback.table().sql())]);
        let most = i64::try_from(wanted).unwrap_or(i64::MAX);
        let (mut sample, mut after) = (Vec::new(), cursor.unwrap_or_default());
        for _ in 0..SAMPLED_PAGES {
            let page = self.size.page(self.restaurant_id, &after, PAGE).await?;
            let Some(last) = page.last().cloned() else { break };
            let parameters: [Parameter<'_>; 3] =
                [(&self.id, Type::TEXT), (&page, Type::TEXT_ARRAY), (&most, Type::INT8)];
            let rows = self.feedback.query(&sql, &parameters).await?;
            sample.extend(rows.iter().map(|row| row.get::<_, String>(0)).take(wanted - sample.len()));
            if sample.len() >= wanted || (page.len() as i64) < PAGE {
                break;
            }
            after = last;
        }
        Ok(sample)
    }

    /// The configured pace; without one, the median of full rounds that followed one another in the same campaign.
    async fn pace(&self, config: &Config) -> Result<(Option<f64>, PaceFrom), PostgresError> {
        if config.fanout.rate_limit > 0 {
            return Ok((Some(config.fanout.rate_limit as f64), PaceFrom::RateLimit));
        }
        let rows = self.feedback.query(sql::MEASURED_PACE.text(), &[]).await?;
        let measured = rows.first().and_then(|row| row.get::<_, Option<f64>>(0));
        Ok((measured, if measured.is_some() { PaceFrom::RecentRounds } else { PaceFrom::Unlimited }))
    }

    /// The second by the feedback database's clock, and whether all sending is paused.
    async fn now(&self) -> Result<(Seconds, bool), PostgresError> {
        let sql = format!("select {CLOCK_MICROS}, exists (select from dinnerbell.service where paused_at is not null)");
        let rows = self.feedback.query(&sql, &[]).await?;
        Ok(rows.first().map_or((Seconds::default(), false), |row| (number::<Micros>(row, 0).seconds(), row.get(1))))
    }
}

async fn stood(feedback: &Pool, id: &str) -> Result<Option<KnownCampaign>, PostgresError> {
    let sql = "select state, cursor, restaurant_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, \
               adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created from dinnerbell.campaign where adv_campaign_id = $1";
    let rows = feedback.query(sql, &[(&id, Type::TEXT)]).await?;
    Ok(rows.first().map(|row| {
        let state: String = row.get(0);
        let known = if state == "cancelled" { Known::Cancelled } else { Known::Campaign(known(row, id)) };
        KnownCampaign { state, known, cursor: row.get(1) }
    }))
}

fn known(row: &Row, id: &str) -> Campaign {
    Campaign {
        restaurant_id: row.get(2),
        adv_campaign_id: id.to_owned(),
        adv_campaign_content: row.get(3),
        adv_campaign_owner: row.get(4),
        adv_campaign_owner_contact: row.get(5),
        window: Window { start: number(row, 6), end: number(row, 7) },
        datetime_created: number(row, 8),
    }
}

/// As what it would count beside what is known, and whether its window has room for it.
fn check_campaign(preview: &mut Preview, campaign: &Campaign, stood: Option<&KnownCampaign>, now: Seconds) {
    let mut window = campaign.window;
    preview.known_state = stood.map(|stood| stood.state.clone());
    let effect = stood.map(|stood| apply_rules(&stood.known, &DecodedRecord::Campaign(campaign.clone())));
    let (counts_as, warning) = match effect {
        None => (CountsAs::Campaign, None),
        Some(RecordEffect::Update | RecordEffect::Cancel) => {
            (CountsAs::Update, Some("a campaign of this id is known: this updates it, for those not told yet"))
        }
        Some(RecordEffect::Older) => {
            (CountsAs::OlderUpdate, Some("a newer version of this campaign is known: this is ignored"))
        }
        Some(RecordEffect::Duplicate) => {
            (CountsAs::Duplicate, Some("this very campaign is known already: sending it changes nothing"))
        }
        Some(RecordEffect::Conflict(reason)) => {
            preview.mistakes.push(reason.into());
            (CountsAs::DeadLetter, None)
        }
    };
    preview.counts_as = Some(counts_as);
    let cancelled = stood.is_some_and(|stood| stood.known == Known::Cancelled);
    if cancelled {
        preview.warnings.push("the campaign of this id is cancelled, for ever: this is ignored".to_owned());
    } else {
        preview.warnings.extend(warning.map(str::to_owned));
    }
    if let (CountsAs::OlderUpdate | CountsAs::Duplicate, Some(KnownCampaign { known: Known::Campaign(known), .. })) =
        (counts_as, stood)
    {
        window = known.window;
    }
    preview.adv_campaign_datetime_start = Some(window.start);
    preview.adv_campaign_datetime_end = Some(window.end);
    if window.end <= now {
        preview.warnings.push(format!("it has already ended, {} s ago: nobody is told", now - window.end));
    }
    if cancelled || counts_as == CountsAs::DeadLetter || window.end <= now {
        preview.will_be_told = Some(0);
        preview.seconds = preview.seconds.map(|_| 0.0);
        return;
    }
    let room = (window.end - window.start.max(now)) as f64;
    if let (Some(seconds), Some(pace)) = (preview.seconds, preview.pace)
        && seconds > room
    {
        preview.warnings.push(format!(
            "it ends before all can be told: {room:.0} s are left for what takes {seconds:.0} s, so about {:.0} are told in time",
            pace * room
        ));
    }
}

#[cfg(test)]
mod tests;
