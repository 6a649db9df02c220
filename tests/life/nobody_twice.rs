//! Nobody is told twice: not by a duplicate favourite, a campaign sent twice, an update, a late tail scan, or rows that an earlier job left.

use serde_json::json;

use crate::life::scene::{LONG, await_row, await_state, clients, counted, known, unmigrated, update};
use crate::support::{Campaign, Expected, Setting, Stage, sinks, wait_until};

#[test]
fn neither_duplicate_favourites_nor_a_campaign_sent_twice_nor_updates_tell_anyone_twice() {
    let stage = crate::life::scene::stage(2);
    for _ in 0..3 {
        stage.subscribers.subscribe_clients("pizzeria", &["a", "b", "c", "d"]);
    }
    let service = stage.start();
    let offer = Campaign::now("offer", "pizzeria");
    stage.send_to(0, &offer);
    await_state(&stage, "offer", "complete");
    for lane in [0, 1] {
        stage.send_to(lane, &offer);
        // The lane that is taken over first may not be the one that it was sent to first.
        await_row(&stage, "offer", "known", |row| row["lane"] == 0);
    }
    let expected = Expected::from([(&offer, ["a", "b", "c", "d"])]);
    stage.await_sinks(&expected, LONG);
    // An update has the audience rescanned; the tail scan sees the same favourites once more.
    let newer = update(&offer);
    stage.send_to(1, &newer);
    stage.send_to(0, &update(&newer));
    stage.subscribers.subscribe_clients("pizzeria", &["a", "b", "c", "d"]);
    wait_until("all is applied", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.change where judged_as is not null") == 2
    });
    await_row(&stage, "offer", "rescanned", |row| row["repass_at"].as_i64() > Some(0));
    stage.subscribers.subscribe_clients("pizzeria", &["e"]);
    let mut expected = expected;
    expected.add(&update(&newer), ["e"]);
    stage.await_sinks(&expected, LONG);
    assert_eq!(counted(&stage, "duplicates"), 1);
    service.stop();
    stage.assert_sinks(&expected);
}

/// Rows for clients as an earlier job left them.
fn left_behind(stage: &Stage, campaign: &Campaign, clients: &[&str]) {
    let Campaign { adv_campaign_id, restaurant_id, .. } = campaign;
    let values: Vec<_> = clients
        .iter()
        .map(|client| format!("('{restaurant_id}', '{adv_campaign_id}', 'old', 'old', 'old', 1, 2, 1, '{client}', 1)"))
        .collect();
    stage.feedback.execute(&format!(
        "insert into public.subscribers_feedback (restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner,
         adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id,
         trigger_datetime_created) values {}",
        values.join(",")
    ));
}

/// Anyone who has a row of an earlier job is not told, in the main pass, the tail scan or a later pass.
fn those_with_rows_are_left_alone(stage: &Stage, offer: &Campaign, rows_left: usize) {
    stage.subscribers.subscribe_clients("pizzeria", &["a", "b", "c", "d", "e"]);
    let service = stage.start();
    stage.send(offer);
    let row = await_state(stage, "offer", "complete");
    assert_eq!(row["told"], json!(3));
    stage.subscribers.subscribe_clients("pizzeria", &["f", "g"]);
    stage.send(&update(offer));
    await_row(stage, "offer", "rescanned", |row| row["revision"] == 2 && row["repass_at"].as_i64() > Some(0));
    stage.subscribers.subscribe_clients("pizzeria", &["h"]);
    let told = ["a", "c", "e", "g", "h"];
    wait_until("the newcomers are told", LONG, || known(stage, "offer").unwrap()["told"] == json!(told.len()));
    service.stop();

    let (old, rows): (Vec<_>, Vec<_>) =
        sinks::rows(&stage.feedback).into_iter().partition(|row| row.draft.content == "old");
    assert_eq!(old.len(), rows_left);
    let messages = sinks::drafts(&stage.messages());
    let mut clients: Vec<_> = messages.iter().map(|message| message.draft.client.clone()).collect();
    clients.sort();
    assert_eq!(clients, told);
    let by_version = |created: i64| {
        let of_version = messages.iter().filter(move |message| message.draft.created == created);
        of_version.map(|message| message.draft.client.clone()).collect::<Vec<_>>()
    };
    let mut expected = Expected::from([(offer, by_version(offer.datetime_created))]);
    expected.add(&update(offer), by_version(offer.datetime_created + 1));
    assert_eq!(expected.difference(&rows, &messages), None);
}

#[test]
fn rows_that_an_earlier_job_left_are_as_good_as_drafts() {
    let stage = crate::life::scene::stage(1);
    let offer = Campaign::now("offer", "pizzeria");
    left_behind(&stage, &offer, &["b", "d", "f"]);
    those_with_rows_are_left_alone(&stage, &offer, 3);
}

#[test]
fn so_are_rows_in_a_table_that_holds_duplicates_and_has_no_unique_index_for_them() {
    let offer = Campaign::now("offer", "pizzeria");
    let stage = unmigrated(Setting::default(), |stage| {
        left_behind(stage, &offer, &["b", "b", "d", "f", "f", "f"]);
    });
    let whole = "select count(*) from pg_index where indrelid = 'public.subscribers_feedback'::regclass and indisunique
                 and not indisprimary and pg_get_expr(indpred, indrelid) not like '%id >%'";
    assert_eq!(stage.feedback.number(whole), 0, "the table was not to get a unique index for all its rows");
    those_with_rows_are_left_alone(&stage, &offer, 6);
}

#[test]
fn of_one_restaurant_each_campaign_tells_everyone_once() {
    let stage = crate::life::scene::stage(2);
    stage.subscribers.subscribe("pizzeria", 50);
    let service = stage.start();
    let (one, other) = (Campaign::now("one", "pizzeria"), Campaign::now("other", "pizzeria"));
    for (campaign, lane) in [(&one, 0), (&other, 1), (&one, 1), (&other, 0)] {
        stage.send_to(lane, campaign);
    }
    let all = clients(&stage, "pizzeria");
    let expected = Expected::from([(&one, &all), (&other, &all)]);
    stage.await_sinks(&expected, LONG);
    wait_until("all is applied", LONG, || counted(&stage, "records") == 4);
    service.stop();
    stage.assert_sinks(&expected);
}
