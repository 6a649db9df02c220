//! Ids and times near the end of their types.

use dinnerbell_core::model::headroom::{Headroom, Resource};
use dinnerbell_postgres::headroom::read;

use crate::postgres::place::{empty_database, feedback_pool, seed_database, subscribers_pool};
use crate::support::Database;

const END: i64 = i32::MAX as i64;

async fn of(database: &Database) -> Vec<Headroom> {
    read(&feedback_pool(database), &subscribers_pool(database)).await.unwrap()
}

fn find(found: &[Headroom], of: Resource) -> &Headroom {
    found.iter().find(|headroom| headroom.of == of).unwrap()
}

#[tokio::test]
async fn new_tables_have_all_their_ids() {
    let found = of(&seed_database()).await;
    for resource in [Resource::FeedbackIds, Resource::SubscriberIds] {
        assert_eq!((find(&found, resource).left(), find(&found, resource).is_low()), (END, false));
    }
    let times = find(&found, Resource::DraftTimes);
    assert_eq!((times.end, times.column_type.as_str()), (END, "integer"));
    assert!(times.last > 1_700_000_000);
}

#[tokio::test]
async fn a_sequence_near_its_end_is_low_until_column_and_sequence_are_wider() {
    let database = seed_database();
    database.execute("select setval('public.subscribers_feedback_id_seq', 2147483600)");
    database.execute("select setval('public.subscribers_restaurants_id_seq', 2000000000)");
    let found = of(&database).await;
    assert_eq!(find(&found, Resource::FeedbackIds).left(), 47);
    assert!(find(&found, Resource::FeedbackIds).is_low() && find(&found, Resource::SubscriberIds).is_low());
    // A wider column alone does not help: the sequence ends where it did.
    database.execute("alter table public.subscribers_feedback alter column id type int8");
    assert_eq!(find(&of(&database).await, Resource::FeedbackIds).left(), 47);
    database.execute("alter sequence public.subscribers_feedback_id_seq as int8");
    database.execute("alter table public.subscribers_feedback alter column trigger_datetime_created type int8");
    let found = of(&database).await;
    assert!(!find(&found, Resource::FeedbackIds).is_low());
    assert_eq!(find(&found, Resource::DraftTimes).end, i64::MAX);
}

#[tokio::test]
async fn identities_foreign_sequences_and_ids_without_a_sequence_are_understood() {
    let database = empty_database();
    database.execute(
        "create sequence public.shared;
         create table public.subscribers_restaurants (id int4 default nextval('public.shared'), client_id text, restaurant_id text);
         create table public.subscribers_feedback (id int8 generated always as identity, trigger_datetime_created int8)",
    );
    database.execute("select setval('public.shared', 2147483000)");
    let found = of(&database).await;
    assert_eq!(find(&found, Resource::SubscriberIds).left(), 647, "the column ends, though its sequence does not");
    assert_eq!(find(&found, Resource::FeedbackIds).end, i64::MAX);
    database.execute("alter table public.subscribers_restaurants alter column id drop default");
    assert!(of(&database).await.iter().all(|headroom| headroom.of != Resource::SubscriberIds));
}
