//! A ledger in a PostgreSQL database that a case has for itself.

use std::collections::BTreeMap;
use std::time::Duration;

use dinnerbell_config::Retention;
use dinnerbell_core::model::audit::{Orderer, Origin};
use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::intake::Tally;
use dinnerbell_core::model::mark::{CommittedMark, CommittedOffset, RoundVersion};
use dinnerbell_core::model::number::{Lane, Micros, Seconds, Seq};
use dinnerbell_core::model::ownership::{AcquiredLane, Ownership};
use dinnerbell_core::model::reconcile::LedgerSide;
use dinnerbell_core::model::record::RecordFingerprint;
use dinnerbell_core::model::retention::Prunable;
use dinnerbell_core::ports::ledger::{LaneLedger, LedgerError};
use dinnerbell_core::recovery::decide::{Evidence, decide};
use dinnerbell_core::recovery::found::FoundDraft;
use dinnerbell_postgres::clock::{CLOCK_MICROS, PostgresClock};
use dinnerbell_postgres::connect::{Parameter, Pool, Transaction};
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::adopt::{LastRound, Leaving};
use dinnerbell_postgres::ledger::prune::prune;
use dinnerbell_postgres::ledger::resolve::{Repair, Restored, lane_row, retry, without_row};
use dinnerbell_postgres::ledger::snapshot::Snapshot;
use dinnerbell_postgres::ledger::{LedgerIdentity, PostgresLedger, adopt};
use dinnerbell_postgres::number::{Number, number};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::contract::ledger::environment::{CampaignState, Environment, GROUP, LaneState, Message, Moved};
use crate::contract_on_servers::postgres::Lent;
use crate::postgres::place::feedback_pool;
use crate::support::Database;

/// Who resolves, and adopts.
const OPERATOR: &str = "an operator";

fn operator() -> Orderer {
    Orderer { who: OPERATOR.to_owned(), by: "retry".to_owned(), origin: Origin::CommandLine, host: "here".to_owned() }
}

/// The ledger of a case.
pub struct Ledgered {
    pool: Pool,
    ledger: PostgresLedger,
    lent: Lent,
    /// Transactions of others that have rows locked.
    locks: tokio::sync::Mutex<Vec<Transaction>>,
}

async fn instance(database: &Database, owner: &str) -> PostgresLedger {
    let pool = feedback_pool(database);
    let clock = PostgresClock::start(pool.clone()).await.unwrap();
    PostgresLedger::new(pool, clock, owner.to_owned(), GROUP.to_owned(), true)
}

impl Ledgered {
    async fn rows_of(&self, sql: &str, parameters: &[Parameter<'_>]) -> Vec<Row> {
        self.pool.query(sql, parameters).await.unwrap()
    }

    /// How many clients of a round have a message, and who has none, by campaign.
    async fn last_round(&self, lane: Lane, seq: Seq, messages: &[Message<'_>]) -> (u64, BTreeMap<String, Vec<String>>) {
        let (mut told, mut untold) = (0, BTreeMap::<String, Vec<String>>::new());
        let snapshot = Snapshot::take(&self.pool).await.unwrap();
        let sort = |id: &str, client: &str| {
            let is_told = |message: &Message<'_>| message.client == client && message.campaign.adv_campaign_id == id;
            match messages.iter().any(is_told) {
                true => told += 1,
                false => untold.entry(id.to_owned()).or_default().push(client.to_owned()),
            }
            Ok::<_, PostgresError>(())
        };
        snapshot.round(lane, seq, sort).await.unwrap();
        snapshot.release().await.unwrap();
        (told, untold)
    }

    async fn change(&self, sql: &str, parameters: &[Parameter<'_>]) {
        let changed = self.rows_of(&format!("{sql} returning 1"), parameters).await;
        assert_eq!(changed.len(), 1, "{sql}");
    }
}

/// A message as the topic of drafts shows it.
fn found<'a>(message: &Message<'a>) -> FoundDraft<'a> {
    let campaign = message.campaign;
    FoundDraft {
        restaurant_id: campaign.restaurant_id.as_str().into(),
        adv_campaign_id: campaign.adv_campaign_id.as_str().into(),
        adv_campaign_content: campaign.adv_campaign_content.as_str().into(),
        adv_campaign_owner: campaign.adv_campaign_owner.as_str().into(),
        adv_campaign_owner_contact: campaign.adv_campaign_owner_contact.as_str().into(),
        adv_campaign_datetime_start: campaign.window.start,
        adv_campaign_datetime_end: campaign.window.end,
        client_id: message.client.into(),
        datetime_created: campaign.datetime_created,
        trigger_datetime_created: message.formed,
    }
}

/// Every table of the ledger, and the feedback rows, without what the clock alone decides.
const EVERYTHING: &str = "select concat_ws(E'\n', \
    (select string_agg((to_jsonb(t) - 'claimed_at')::text, E'\n') from dinnerbell.service t), \
    (select string_agg(to_jsonb(t)::text, E'\n' order by lane) from dinnerbell.lane t), \
    (select string_agg(to_jsonb(t)::text, E'\n' order by adv_campaign_id) from dinnerbell.campaign t), \
    (select string_agg(to_jsonb(t)::text, E'\n' order by lane, seq) from dinnerbell.round t), \
    (select string_agg(to_jsonb(t)::text, E'\n' order by lane, seq, part) from dinnerbell.round_part t), \
    (select string_agg(to_jsonb(t)::text, E'\n' order by id) from dinnerbell.dead_letter t), \
    (select string_agg(to_jsonb(t)::text, E'\n' order by id) from dinnerbell.change t), \
    (select string_agg((to_jsonb(t) - 'locked_at')::text, E'\n' order by adv_campaign_id, client_id) from dinnerbell.locked_row t), \
    (select string_agg(to_jsonb(t)::text, E'\n' order by adv_campaign_id, client_id) from public.subscribers_feedback t))";

impl Environment for Ledgered {
    type Ledger = PostgresLedger;

    async fn fresh() -> Self {
        let lent = tokio::task::spawn_blocking(Lent::take).await.unwrap();
        let ledger = instance(lent.database(), "first").await;
        let name = |name: &str| name.to_owned();
        let belonging = LedgerIdentity {
            cluster_id: name("cluster"),
            group_id: name(GROUP),
            campaigns_topic: name("promo.in"),
            notifications_topic: name("promo.out"),
            feedback_table: Some(name("public.subscribers_feedback")),
        };
        ledger.claim(&belonging, &[]).await.unwrap();
        Self { pool: ledger.pool().clone(), ledger, lent, locks: tokio::sync::Mutex::default() }
    }

    fn ledger(&self) -> PostgresLedger {
        self.ledger.clone()
    }

    async fn another(&self) -> PostgresLedger {
        instance(self.lent.database(), "another").await
    }

    async fn now(&self) -> Seconds {
        number::<Micros>(&self.rows_of(&format!("select {CLOCK_MICROS}"), &[]).await[0], 0).seconds()
    }

    async fn campaign(&self, id: &str) -> CampaignState {
        let sql = "select lane, state, revision, adv_campaign_content, cursor, last_page_seq, told, late, skipped, kept, unsent, repass_at \
                   from dinnerbell.campaign where adv_campaign_id = $1";
        let rows = self.rows_of(sql, &[(&id, Type::TEXT)]).await;
        let row = rows.first().unwrap_or_else(|| panic!("there is no campaign {id}"));
        CampaignState {
            lane: number(row, "lane"),
            state: row.get("state"),
            revision: row.get("revision"),
            content: row.get("adv_campaign_content"),
            cursor: row.get("cursor"),
            last_page_seq: number(row, "last_page_seq"),
            told: row.get("told"),
            late: row.get("late"),
            skipped: row.get("skipped"),
            kept: row.get("kept"),
            unsent: row.get("unsent"),
            repass_at: number(row, "repass_at"),
        }
    }

    async fn lane(&self, lane: Lane) -> LaneState {
        let rows = self.rows_of("select * from dinnerbell.lane where lane = $1", &[lane.parameter()]).await;
        let row = &rows[0];
        let mark =
            |offset| RecordFingerprint { offset, timestamp: number(row, "last_timestamp"), hash: row.get("last_hash") };
        let halt =
            |name: String| Halt { kind: name.into(), found: row.get("halted_found"), remedy: row.get("halted_remedy") };
        LaneState {
            seq: number(row, "seq"),
            published: number(row, "published_seq"),
            position: number(row, "position"),
            last_record: number::<Option<_>>(row, "last_offset").map(mark),
            topic_id: row.get("topic_id"),
            halt: row.get::<_, Option<String>>("halted").map(halt),
            swept_to: row.get("swept_to"),
            round_bytes: row.get("round_bytes"),
            records: row.get("records"),
            tally: Tally {
                campaigns: row.get("campaigns"),
                updates: row.get("updates"),
                older_updates: row.get("older_updates"),
                duplicates: row.get("duplicates"),
                handed_over: row.get("handed_over"),
                cancellations: row.get("cancellations"),
                dead_letters: row.get("dead_letters"),
            },
        }
    }

    async fn rows(&self, id: &str) -> Vec<String> {
        let sql = "select client_id from public.subscribers_feedback where adv_campaign_id = $1 order by client_id collate \"C\"";
        self.rows_of(sql, &[(&id, Type::TEXT)]).await.iter().map(|row| row.get(0)).collect()
    }

    async fn row(&self, id: &str, client: &str) -> (String, Seconds) {
        let sql = "select adv_campaign_content, trigger_datetime_created::int8 from public.subscribers_feedback \
                   where adv_campaign_id = $1 and client_id = $2";
        let rows = self.rows_of(sql, &[(&id, Type::TEXT), (&client, Type::TEXT)]).await;
        (rows[0].get(0), number(&rows[0], 1))
    }

    async fn unapplied(&self) -> usize {
        self.rows_of("select from dinnerbell.change where judged_as is null", &[]).await.len()
    }

    async fn everything(&self) -> String {
        self.rows_of(EVERYTHING, &[]).await[0].get(0)
    }

    async fn answer(&self, id: &str, client: &str) {
        let sql =
            "update public.subscribers_feedback set feedback = 'yes' where adv_campaign_id = $1 and client_id = $2";
        self.change(sql, &[(&id, Type::TEXT), (&client, Type::TEXT)]).await;
    }

    async fn lock_row(&self, id: &str, client: &str) {
        let open = self.pool.begin("").await.unwrap();
        let sql = "select from public.subscribers_feedback where adv_campaign_id = $1 and client_id = $2 for update";
        assert_eq!(open.query(sql, &[(&id, Type::TEXT), (&client, Type::TEXT)]).await.unwrap().len(), 1);
        self.locks.lock().await.push(open);
    }

    async fn free_rows(&self) {
        for open in self.locks.lock().await.drain(..) {
            open.rollback().await.unwrap();
        }
    }

    async fn leave_row(&self, campaign: &Campaign, client: &str) {
        let sql = "insert into public.subscribers_feedback (restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner, \
                   adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id, \
                   trigger_datetime_created) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1)";
        let text = Type::TEXT;
        let values: [Parameter<'_>; 9] = [
            (&campaign.restaurant_id, text.clone()),
            (&campaign.adv_campaign_id, text.clone()),
            (&campaign.adv_campaign_content, text.clone()),
            (&campaign.adv_campaign_owner, text.clone()),
            (&campaign.adv_campaign_owner_contact, text.clone()),
            campaign.window.start.parameter(),
            campaign.window.end.parameter(),
            campaign.datetime_created.parameter(),
            (&client, text),
        ];
        self.change(sql, &values).await;
    }

    async fn remove_row(&self, id: &str, client: &str) {
        let sql = "delete from public.subscribers_feedback where adv_campaign_id = $1 and client_id = $2";
        self.change(sql, &[(&id, Type::TEXT), (&client, Type::TEXT)]).await;
    }

    async fn move_window(&self, id: &str, window: Window) {
        let sql = "update dinnerbell.campaign set adv_campaign_datetime_start = $2, adv_campaign_datetime_end = $3 where adv_campaign_id = $1";
        let values: [Parameter<'_>; 3] = [(&id, Type::TEXT), window.start.parameter(), window.end.parameter()];
        self.change(sql, &values).await;
    }

    async fn make_repass_due(&self, id: &str, at: Seconds) {
        let sql = "update dinnerbell.campaign set repass_at = $2 where adv_campaign_id = $1";
        self.change(sql, &[(&id, Type::TEXT), at.parameter()]).await;
    }

    async fn let_vanish(&self, id: &str) {
        // As for a statement that finds it there, and does not find it in the next one.
        let sql = format!(
            "create function vanish() returns trigger language plpgsql as $$ begin return null; end $$;
             create trigger vanishes before insert on dinnerbell.campaign for each row when (new.adv_campaign_id = '{id}')
               execute function vanish()"
        );
        self.lent.database().execute(&sql);
    }

    async fn cancel(&self, id: &str) {
        let sql = "insert into dinnerbell.change (adv_campaign_id, key, arrived_by) values ($1, $2, 'an operator')";
        self.change(sql, &[(&id, Type::TEXT), (&id.as_bytes(), Type::BYTEA)]).await;
    }

    async fn pause(&self, paused: bool) {
        let sql = "update dinnerbell.service set paused_at = case when $1 then clock_timestamp() end";
        self.change(sql, &[(&paused, Type::BOOL)]).await;
    }

    async fn retry(&self, lane: Lane) {
        retry(&self.pool, lane, &operator()).await.unwrap();
    }

    async fn resolve_from_kafka(&self, lane: Lane, theirs: CommittedMark, messages: &[Message<'_>]) {
        let AcquiredLane { ownership: own, comparison, .. } = self.ledger.acquire(lane, None).await.unwrap();
        let lane_row = lane_row(&self.pool, lane).await.unwrap().unwrap();
        let (told, untold) = self.last_round(lane, lane_row.head.seq, messages).await;
        let evidence = Evidence {
            ours: LedgerSide {
                ledger: theirs.ledger,
                head: lane_row.head,
                previous: lane_row.previous,
                published: lane_row.published,
                compared: true,
            },
            theirs: CommittedOffset::Mark(theirs),
            newest_in_topic: messages.iter().map(|message| message.seq).max().unwrap_or(Seq::new(0)),
            told,
            untold: untold.values().map(|clients| clients.len() as u64).sum(),
            covered: true,
            assumed: None,
        };
        let decision = decide(&evidence).unwrap();
        let found: Vec<FoundDraft<'_>> = messages.iter().map(found).collect();
        let places = without_row(&self.pool, &found).await.unwrap();
        let missing: Vec<FoundDraft<'static>> = places.iter().map(|place| found[*place].clone().into_owned()).collect();
        let campaigns = missing.iter().map(|draft| {
            let formed = draft.trigger_datetime_created;
            (draft.adv_campaign_id.to_string(), Restored { newest: draft.clone(), first: formed, last: formed })
        });
        let campaigns = campaigns.collect();
        let mut mending = self.ledger.begin_mending(own, &lane_row).await.unwrap();
        mending.restore(&missing).await.unwrap();
        let (lane_row, decision, untold) = (&lane_row, &decision, &untold);
        let (by, compared) = (OPERATOR, (comparison.as_str(), 2));
        let mending_of = Repair { lane_row, decision, campaigns: &campaigns, untold, by, compared };
        mending.commit(&mending_of).await.unwrap();
    }

    async fn adopt(
        &self,
        own: Ownership,
        head: RoundVersion,
        published: bool,
        into: Lane,
    ) -> Result<Moved, LedgerError> {
        let last = if published { LastRound::Published } else { LastRound::Unpublished };
        let moved = self.ledger.adopt(&Leaving { own, head, last }, into, OPERATOR).await?;
        let adopt::Moved { campaigns, changes, dead_letters, withdrawn, kept, .. } = moved;
        Ok(Moved { campaigns, changes, dead_letters, withdrawn, kept })
    }

    async fn prune(&self) {
        let keep = Retention {
            rounds: Duration::ZERO,
            dead_letters: Duration::MAX,
            campaigns: Duration::ZERO,
            audit: Duration::MAX,
        };
        for what in [Prunable::Rounds, Prunable::Changes, Prunable::Campaigns] {
            prune(&self.pool, what, &keep, true).await.unwrap();
        }
    }
}
