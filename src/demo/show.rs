//! Shows campaigns as they are told: bars on a terminal, lines elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::messages::{Counter, Seen};
use crate::demo::sender::Rung;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;

/// How often the ledger is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long the first campaigns may take, the one that starts later included.
const FIRST_CAMPAIGNS: Duration = Duration::from_secs(60);
/// How many campaigns are shown, the latest ones.
const MAX_SHOWN: i64 = 12;

/// Where the show takes place.
pub struct Screen {
    terminal: Option<MultiProgress>,
}

impl Screen {
    /// Standard output.
    pub fn on_stdout() -> Self {
        let terminal =
            std::io::stdout().is_terminal().then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));
        Self { terminal }
    }

    /// Prints, above what is shown live. A reader that has gone is no failure.
    pub fn say(&self, text: &str) {
        // Neither can be told to anybody: standard output is where it would be told.
        let _ = match &self.terminal {
            Some(bars) => bars.println(text),
            None => writeln!(std::io::stdout().lock(), "{text}"),
        };
    }

    /// Prints below what was shown live, when that is over.
    pub fn say_at_the_end(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    fn bar(&self, campaign: &Campaign, audience: u64) -> Option<ProgressBar> {
        let bars = self.terminal.as_ref()?;
        let style = ProgressStyle::with_template("  {prefix:28!} {wide_bar} {pos:>5} of {len:<5} {msg:21!}")
            .expect("the template is well formed")
            .progress_chars("=> ");
        let bar = bars.add(ProgressBar::new(audience).with_style(style).with_finish(ProgressFinish::Abandon));
        bar.set_prefix(campaign.name());
        Some(bar)
    }

    fn remove(&self, bar: Option<&ProgressBar>) {
        if let (Some(bars), Some(bar)) = (&self.terminal, bar) {
            bars.remove(bar);
        }
    }
}

/// A campaign in the ledger.
struct Campaign {
    id: String,
    restaurant: String,
    state: String,
    told: u64,
    start: SystemTime,
    received: SystemTime,
    paused: bool,
}

impl Campaign {
    fn name(&self) -> String {
        format!("{}: {}", self.restaurant, self.id)
    }
}

/// How far a campaign is.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// It starts later.
    Waits(Duration),
    /// Somebody is still to be told.
    Rings,
    /// The same, and all sending is paused.
    Paused,
    /// Everybody was, so long after the bell.
    Told(Duration),
    /// It ended otherwise.
    Over(String),
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Waits(remaining) => write!(f, "starts in {} s", remaining.as_millis().div_ceil(1000)),
            Self::Rings => f.write_str("ringing"),
            Self::Paused => f.write_str("paused"),
            Self::Told(took) => write!(f, "all told in {} ms", took.as_millis()),
            Self::Over(state) => f.write_str(state),
        }
    }
}

/// `began` is when it was rung, as far as known, or started.
fn phase(campaign: &Campaign, seen: Option<Seen>, began: Option<SystemTime>, now: SystemTime) -> Phase {
    let began = began.unwrap_or_else(|| campaign.received.max(campaign.start));
    let messages = seen.map_or(0, |seen| seen.messages);
    match campaign.state.as_str() {
        "scheduled" => match campaign.start.duration_since(now) {
            Ok(remaining) => Phase::Waits(remaining),
            Err(_) => Phase::Rings,
        },
        "complete" | "closed" if messages >= campaign.told => {
            let last = seen.map_or(campaign.received, |seen| seen.last);
            Phase::Told(last.duration_since(began).unwrap_or_default())
        }
        "active" | "complete" | "closed" if campaign.paused => Phase::Paused,
        "active" | "complete" | "closed" => Phase::Rings,
        other => Phase::Over(other.to_owned()),
    }
}

/// What the ledger says of all lanes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Lanes that were taken over.
    pub running: i64,
    /// Records that could not become a campaign.
    pub dead_letters: i64,
    /// Campaigns sent again.
    pub duplicates: i64,
}

/// Asks the ledger for the lanes.
pub async fn lanes(ledger: &Pool) -> Result<Lanes, PostgresError> {
    let sql = "select count(*) filter (where published_seq is not null), coalesce(sum(dead_letters), 0)::int8, \
               coalesce(sum(duplicates), 0)::int8 from dinnerbell.lane";
    let rows = ledger.query(sql, &[]).await?;
    let row = rows.first().expect("an aggregate gives one row");
    Ok(Lanes { running: row.get(0), dead_letters: row.get(1), duplicates: row.get(2) })
}

/// The show.
pub struct Show<'a> {
    /// Where it is shown.
    pub screen: &'a Screen,
    /// The ledger, in the feedback database.
    pub ledger: &'a Pool,
    /// The favourites.
    pub subscribers: &'a Pool,
    /// The messages so far.
    pub counter: &'a Counter,
    /// What the demo rang itself.
    pub rung: BTreeMap<String, Rung>,
    shown: BTreeMap<String, Shown>,
}

struct Shown {
    audience: u64,
    bar: Option<ProgressBar>,
    finished: bool,
}

impl<'a> Show<'a> {
    /// Shows nothing yet.
    pub fn new(
        screen: &'a Screen,
        ledger: &'a Pool,
        subscribers: &'a Pool,
        counter: &'a Counter,
        rung: BTreeMap<String, Rung>,
    ) -> Self {
        Self { screen, ledger, subscribers, counter, rung, shown: BTreeMap::new() }
    }

    /// Shows until everything that the demo rang is done.
    pub async fn first_campaigns(&mut self) -> Result<Lanes, String> {
        let until = Instant::now() + FIRST_CAMPAIGNS;
        loop {
            let polled = self.poll().await;
            let open = match &polled {
                Ok(finished) => self.rung.keys().filter(|id| !finished.contains(*id)).cloned().collect(),
                Err(error) => vec![error.to_string()],
            };
            let lanes = lanes(self.ledger).await.unwrap_or_default();
            if open.is_empty() && lanes.dead_letters > 0 && lanes.duplicates > 0 {
                return Ok(lanes);
            }
            if Instant::now() >= until {
                return Err(format!(
                    "not everything was done after {} s: still open: {open:?}, {lanes:?}",
                    FIRST_CAMPAIGNS.as_secs()
                ));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Shows whatever comes, until it is dropped.
    pub async fn go_on(&mut self) {
        loop {
            if let Err(error) = self.poll().await {
                tracing::warn!(%error, "the ledger could not be read");
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Looks at the ledger once; returns the campaigns that are done.
    async fn poll(&mut self) -> Result<BTreeSet<String>, PostgresError> {
        #[expect(clippy::disallowed_methods, reason = "the machine's own clock is meant: it is shown to a person")]
        let now = SystemTime::now();
        let mut finished = BTreeSet::new();
        let latest = campaigns(self.ledger).await?;
        self.shown.retain(|id, shown| {
            let stays = latest.iter().any(|campaign| campaign.id == *id);
            if !stays {
                self.screen.remove(shown.bar.as_ref());
            }
            stays
        });
        for campaign in latest {
            if !self.shown.contains_key(&campaign.id) {
                let audience = self.audience(&campaign).await?;
                let bar = self.screen.bar(&campaign, audience);
                self.shown.insert(campaign.id.clone(), Shown { audience, bar, finished: false });
            }
            let seen = self.counter.of(&campaign.id);
            let phase = phase(&campaign, seen, self.rung.get(&campaign.id).map(|rung| rung.at), now);
            let messages = seen.map_or(0, |seen| seen.messages);
            let shown = self.shown.get_mut(&campaign.id).expect("it was inserted above");
            show(self.screen, shown, &campaign, messages, &phase);
            if matches!(phase, Phase::Told(_) | Phase::Over(_)) {
                finished.insert(campaign.id);
            }
        }
        Ok(finished)
    }

    async fn audience(&self, campaign: &Campaign) -> Result<u64, PostgresError> {
        if let Some(rung) = self.rung.get(&campaign.id) {
            return Ok(u64::from(rung.audience));
        }
        let table = self.subscribers.table().sql();
        let sql = format!("select count(distinct client_id) from {table} where restaurant_id = $1");
        let rows = self.subscribers.query(&sql, &[(&campaign.restaurant, Type::TEXT)]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
    }
}

fn show(screen: &Screen, shown: &mut Shown, campaign: &Campaign, messages: u64, phase: &Phase) {
    let text = format!("rows {}, messages {messages}: {phase}", campaign.told);
    if let Some(bar) = &shown.bar {
        bar.set_length(shown.audience.max(campaign.told));
        bar.set_position(messages);
        bar.set_message(phase.to_string());
        return;
    }
    // Lines are for what has happened: bars show what is happening.
    let finished = matches!(phase, Phase::Told(_) | Phase::Over(_));
    if finished && !shown.finished {
        screen.say(&format!("  {:<28} {text}", campaign.name()));
    }
    shown.finished = finished;
}

/// The latest campaigns of the ledger, oldest first.
async fn campaigns(ledger: &Pool) -> Result<Vec<Campaign>, PostgresError> {
    let sql = "select adv_campaign_id, restaurant_id, state, told, adv_campaign_datetime_start, \
               (extract(epoch from received_at) * 1000)::int8, \
               coalesce((select paused_at is not null from dinnerbell.service), false) from dinnerbell.campaign \
               where restaurant_id is not null order by received_at desc, adv_campaign_id limit $1";
    let rows = ledger.query(sql, &[(&MAX_SHOWN, Type::INT8)]).await?;
    let since_epoch = |since: Duration| UNIX_EPOCH + since;
    let campaign = |row: &tokio_postgres::Row| Campaign {
        id: row.get(0),
        restaurant: row.get(1),
        state: row.get(2),
        told: row.get::<_, i64>(3).unsigned_abs(),
        start: since_epoch(Duration::from_secs(row.get::<_, i64>(4).unsigned_abs())),
        received: since_epoch(Duration::from_millis(row.get::<_, i64>(5).unsigned_abs())),
        paused: row.get(6),
    };
    Ok(rows.iter().rev().map(campaign).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);

    fn campaign(state: &str, told: u64) -> Campaign {
        let noon = UNIX_EPOCH + NOON;
        Campaign {
            id: "c".into(),
            restaurant: "r".into(),
            state: state.into(),
            told,
            start: noon,
            received: noon,
            paused: false,
        }
    }

    #[test]
    fn a_campaign_is_told_only_when_every_row_has_its_message() {
        let (began, last) = (UNIX_EPOCH + NOON, UNIX_EPOCH + NOON + Duration::from_millis(70));
        let phase = |messages| phase(&campaign("complete", 3), Some(Seen { messages, last }), Some(began), last);
        assert_eq!(phase(2), Phase::Rings);
        assert_eq!(phase(3), Phase::Told(Duration::from_millis(70)));
    }

    #[test]
    fn one_that_is_held_up_by_a_pause_says_so() {
        let campaign = Campaign { paused: true, ..campaign("active", 3) };
        assert_eq!(phase(&campaign, None, None, UNIX_EPOCH + NOON), Phase::Paused);
    }

    #[test]
    fn one_that_starts_later_says_when() {
        let now = UNIX_EPOCH + NOON - Duration::from_millis(1_200);
        assert_eq!(phase(&campaign("scheduled", 0), None, None, now).to_string(), "starts in 2 s");
    }
}
