//! Dead letters that wait for a round.

use dinnerbell_core::model::due::WaitingDeadLetter;
use dinnerbell_core::model::number::{Lane, Offset, Seq};
use dinnerbell_core::model::record::DeadLetterMessage;
use dinnerbell_core::model::round::Sealed;

use super::capabilities::*;
use super::environment::Environment;
use super::owner::{Owner, Sent, content_with, offer, open_lane, page};
use super::rounds::read_back;

/// The letters that wait in a lane.
async fn waiting<E: Environment>(owner: &Owner<E::Ledger>) -> Vec<WaitingDeadLetter> {
    owner.ledger.due(owner.own, 1).await.unwrap().dead_letters
}

/// These letters, as a round would carry them.
async fn letters<E: Environment>(owner: &Owner<E::Ledger>, ids: &[i64]) -> Vec<DeadLetterMessage> {
    let mut open = owner.ledger.open_round(owner.own).await.unwrap();
    let letters = open.dead_letters(ids).await.unwrap();
    open.abandon().await.unwrap();
    letters
}

pub async fn a_letter_waits_until_a_round_carries_it<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let taken = owner.take(&[Sent::Junk("no campaign"), Sent::Junk("{}")]).await;
    let wait = waiting::<E>(&owner).await;
    assert_eq!((&wait, wait.len()), (&taken.dead_letters, 2), "a lane knows what it is told of");
    let messages = letters::<E>(&owner, &[wait[0].id]).await;
    assert_eq!((messages[0].lane, messages[0].offset, messages[0].id), (Lane::new(0), Offset::new(0), wait[0].id));
    assert_eq!((messages[0].key.as_deref(), messages[0].value.as_deref()), (None, Some(&b"no campaign"[..])));
    assert!(!messages[0].reason.is_empty());
    for (wait, value) in wait.iter().zip(["no campaign", "{}"]) {
        assert_eq!(wait.bytes, value.len() + 64 + 1_024, "it is counted with what goes with it");
    }
    owner.try_record(&content_with(Vec::new(), messages.clone(), None)).await.unwrap();
    assert_eq!(waiting::<E>(&owner).await, wait[1..], "the other one waits");
    assert_eq!(read_back::<E>(&owner).await.dead_letters, messages);
    assert!(letters::<E>(&owner, &[wait[0].id]).await.is_empty());
}

pub async fn a_letter_is_carried_by_one_round_alone<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    owner.take(&[Sent::Junk("no campaign")]).await;
    let messages = letters::<E>(&owner, &[waiting::<E>(&owner).await[0].id]).await;
    owner.try_record(&content_with(Vec::new(), messages.clone(), None)).await.unwrap();
    let before = env.everything().await;
    let again = content_with(vec![page(&running, &["anna"], true)], messages, None);
    assert_eq!(owner.try_record(&again).await.unwrap(), Sealed::Conflict(Vec::new()), "no campaign is to blame");
    assert_eq!(env.everything().await, before);
}

pub async fn letters_that_are_set_aside_wait_for_a_later_round<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    owner.take(&[Sent::Junk("no campaign")]).await;
    let wait = waiting::<E>(&owner).await;
    let messages = letters::<E>(&owner, &[wait[0].id]).await;
    let recorded = content_with(vec![page(&running, &["anna"], true)], messages.clone(), None);
    owner.try_record(&recorded).await.unwrap();
    owner.ledger.set_dead_letters_aside(owner.own, owner.head).await.unwrap();
    let stored = read_back::<E>(&owner).await;
    assert_eq!(
        (stored.version.seq, stored.version.revision, stored.drafts, stored.dead_letters.len()),
        (Seq::new(1), 1, 1, 0)
    );
    assert_eq!(waiting::<E>(&owner).await, wait);
    owner.try_record(&content_with(Vec::new(), messages.clone(), None)).await.unwrap();
    assert_eq!(read_back::<E>(&owner).await.dead_letters, messages);
}

pub async fn letters_stay_in_a_round_whose_drafts_are_taken_back<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    owner.take(&[Sent::Junk("no campaign")]).await;
    let messages = letters::<E>(&owner, &[waiting::<E>(&owner).await[0].id]).await;
    let recorded = content_with(vec![page(&running, &["anna"], true)], messages.clone(), None);
    owner.try_record(&recorded).await.unwrap();
    owner.ledger.withdraw_whole(owner.own, owner.head, None).await.unwrap();
    let stored = read_back::<E>(&owner).await;
    assert_eq!((stored.drafts, &stored.dead_letters), (0, &messages));
    assert!(waiting::<E>(&owner).await.is_empty());
}

pub async fn letters_are_read_in_the_order_of_their_numbers<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    owner.take(&[Sent::Junk("one"), Sent::Junk("two"), Sent::Junk("three")]).await;
    let wait: Vec<i64> = waiting::<E>(&owner).await.iter().map(|letter| letter.id).collect();
    assert!(wait.is_sorted(), "the oldest first: {wait:?}");
    let unknown = wait[2] + 1_000;
    let messages = letters::<E>(&owner, &[wait[2], unknown, wait[0]]).await;
    assert_eq!(messages.iter().map(|letter| letter.id).collect::<Vec<_>>(), [wait[0], wait[2]]);
    assert_eq!(messages.iter().map(|letter| letter.offset.get()).collect::<Vec<_>>(), [0, 2]);
}

pub async fn more_letters_wait_than_are_remembered<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let most = dinnerbell_core::model::due::MAX_DEAD_LETTERS;
    owner.take(&vec![Sent::Junk("no campaign"); most]).await;
    let due = owner.ledger.due(owner.own, 1).await.unwrap();
    assert_eq!((due.dead_letters.len(), due.more_dead_letters), (most, false));
    owner.take(&[Sent::Junk("one more")]).await;
    let more = owner.ledger.due(owner.own, 1).await.unwrap();
    assert_eq!((more.dead_letters, more.more_dead_letters), (due.dead_letters, true), "the oldest are known");
}
