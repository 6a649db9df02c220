//! A lane that contradicts Kafka is put back by what the topic of drafts holds.

use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::mark::{CommittedMark, RoundVersion};
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};

use super::capabilities::*;
use super::environment::{Environment, Message};
use super::owner::{FORMED, Owner, Sent, content_with, late, offer, open_lane, page};
use super::rounds::{drafts, read_back};

/// A lane, halted: its first round, published, told `anna` of campaign `a`.
async fn halted<E: Environment>(env: &E) -> Owner<E::Ledger> {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    owner.record(vec![page(&running, &["anna"], false)]).await;
    owner.published().await;
    owner
}

async fn halt<E: Environment>(owner: &Owner<E::Ledger>) {
    let halt = Halt { kind: "kafka-ahead".into(), found: "found".into(), remedy: "remedy".into() };
    owner.ledger.halt(owner.own, halt).await.unwrap();
}

fn mark<L>(owner: &Owner<L>, seq: Seq, revision: i32) -> CommittedMark {
    CommittedMark { ledger: owner.id, version: RoundVersion { seq, revision, checksum: 77 } }
}

/// The lane as it is entered after it was resolved; it is not halted any more.
async fn resolved<E: Environment>(env: &E, owner: Owner<E::Ledger>) -> Owner<E::Ledger> {
    assert!(!owner.ledger.still_mine(owner.own).await.unwrap(), "it is taken over again");
    let acquired = env.ledger().acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
    assert_eq!((acquired.halt, acquired.mark_overruled), (None, false));
    Owner { own: acquired.ownership, head: acquired.head, ..owner }
}

pub async fn rows_that_the_ledger_lost_come_back_and_the_lane_goes_on_behind_kafka<E: Environment>(env: &E) {
    let owner = halted(env).await;
    halt::<E>(&owner).await;
    let (a, lost) = (offer(env, "a").await, offer(env, "lost").await);
    let messages = [
        Message { campaign: &a, client: "anna", formed: FORMED, seq: Seq::new(1) },
        Message { campaign: &a, client: "bob", formed: FORMED + 5, seq: Seq::new(2) },
        Message { campaign: &lost, client: "anna", formed: FORMED + 9, seq: Seq::new(3) },
        Message { campaign: &lost, client: "carl", formed: FORMED + 9, seq: Seq::new(3) },
    ];
    let theirs = mark(&owner, Seq::new(3), 0);
    env.resolve_from_kafka(Lane::new(0), theirs, &messages).await;
    assert_eq!((env.rows("a").await.len(), env.rows("lost").await.len()), (2, 2));
    let (row, made) = (env.campaign("a").await, env.campaign("lost").await);
    assert_eq!((row.told, row.cursor.as_deref(), row.state.as_str()), (2, Some("anna"), "active"));
    assert_eq!((made.lane, made.told, made.state.as_str(), made.revision), (Lane::new(0), 2, "active", 1));
    assert_eq!((made.cursor, made.content.as_deref()), (None, Some("lost, version 1")));
    let mut owner = resolved(env, owner).await;
    assert_eq!((owner.head, env.lane(Lane::new(0)).await.published), (theirs.version, Some(Seq::new(3))));
    owner.record(vec![late(&owner.running("a").await, &["aaron"])]).await;
    assert_eq!(owner.head.seq, Seq::new(4));
}

pub async fn drafts_of_the_last_round_without_a_message_are_taken_back<E: Environment>(env: &E) {
    let mut owner = halted(env).await;
    owner.take(&[Sent::Junk("no campaign")]).await;
    let waiting = owner.ledger.due(owner.own, 1).await.unwrap().dead_letters;
    let mut open = owner.ledger.open_round(owner.own).await.unwrap();
    let letters = open.dead_letters(&[waiting[0].id]).await.unwrap();
    drop(open);
    let mut part = page(&owner.running("a").await, &["bob", "carl", "dora"], true);
    part.drafts.clients.push("aaron");
    part.late = 1;
    owner.try_record(&content_with(vec![part], letters, None)).await.unwrap();
    env.answer("a", "dora").await;
    halt::<E>(&owner).await;
    let a = offer(env, "a").await;
    let told = |client| Message { campaign: &a, client, formed: FORMED, seq: Seq::new(2) };
    let theirs = mark(&owner, Seq::new(2), 1);
    env.resolve_from_kafka(Lane::new(0), theirs, &[told("bob")]).await;
    assert_eq!(env.rows("a").await, ["anna", "bob", "dora"], "an answered row stays");
    let row = env.campaign("a").await;
    assert_eq!((row.told, row.late, row.kept), (2, 0, 1));
    assert_eq!((row.cursor.as_deref(), row.last_page_seq, row.state.as_str()), (Some("anna"), None, "active"));
    let owner = resolved(env, owner).await;
    assert_eq!((owner.head, env.lane(Lane::new(0)).await.published), (theirs.version, Some(Seq::new(2))));
    assert_eq!(owner.ledger.due(owner.own, 1).await.unwrap().dead_letters, waiting, "nobody knows of it: once more");
}

pub async fn a_last_round_that_nobody_was_told_of_is_published_again<E: Environment>(env: &E) {
    let mut owner = halted(env).await;
    let published = CommittedMark { ledger: owner.id, version: owner.head };
    owner.record(vec![page(&owner.running("a").await, &["bob"], true)]).await;
    halt::<E>(&owner).await;
    env.resolve_from_kafka(Lane::new(0), published, &[]).await;
    let (row, recorded) = (env.campaign("a").await, owner.head);
    assert_eq!((row.told, row.last_page_seq, row.state.as_str()), (2, Some(Seq::new(2)), "active"));
    let owner = resolved(env, owner).await;
    assert_eq!((owner.head, env.lane(Lane::new(0)).await.published), (recorded, Some(Seq::new(1))));
    assert_eq!(drafts(&read_back::<E>(&owner).await), [("a", vec!["bob"])]);
}

pub async fn a_last_round_that_everybody_was_told_of_completes_its_campaigns<E: Environment>(env: &E) {
    let mut owner = halted(env).await;
    owner.record(vec![page(&owner.running("a").await, &["bob"], true)]).await;
    halt::<E>(&owner).await;
    let a = offer(env, "a").await;
    let theirs = CommittedMark { ledger: owner.id, version: owner.head };
    env.resolve_from_kafka(
        Lane::new(0),
        theirs,
        &[Message { campaign: &a, client: "bob", formed: FORMED, seq: Seq::new(2) }],
    )
    .await;
    assert_eq!((env.campaign("a").await.state.as_str(), env.campaign("a").await.told), ("complete", 2));
    let owner = resolved(env, owner).await;
    assert_eq!((owner.head, env.lane(Lane::new(0)).await.published), (theirs.version, Some(Seq::new(2))));
}

pub async fn a_row_becomes_what_its_message_says<E: Environment>(env: &E) {
    let owner = halted(env).await;
    halt::<E>(&owner).await;
    let a = super::owner::version(&offer(env, "a").await, Seconds::new(2));
    let theirs = CommittedMark { ledger: owner.id, version: owner.head };
    let message = Message { campaign: &a, client: "anna", formed: FORMED + 5, seq: Seq::new(1) };
    env.resolve_from_kafka(Lane::new(0), theirs, &[message]).await;
    assert_eq!(env.campaign("a").await.told, 1, "it is the same draft");
    assert_eq!(env.row("a", "anna").await, ("a, version 2".to_owned(), FORMED + 5));
}

pub async fn rows_that_were_removed_come_back_and_count_once<E: Environment>(env: &E) {
    let owner = halted(env).await;
    env.remove_row("a", "anna").await;
    halt::<E>(&owner).await;
    let a = offer(env, "a").await;
    let theirs = CommittedMark { ledger: owner.id, version: owner.head };
    let told = |client| Message { campaign: &a, client, formed: FORMED, seq: Seq::new(1) };
    env.resolve_from_kafka(Lane::new(0), theirs, &[told("anna"), told("bob")]).await;
    assert_eq!((env.rows("a").await.len(), env.campaign("a").await.told), (2, 2), "one of them was counted already");
}
