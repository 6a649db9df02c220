//! What is ordered on the page: by an operator it is done, by a viewer it is refused.

use serde_json::json;

use crate::client::{OPERATOR, VIEWER, address, stage};
use crate::support::Campaign;
use crate::support::wait::wait_until;
use crate::tab::{SOON, Tab};

#[test]
fn an_operator_pauses_resumes_cancels_and_sends_a_dead_letter_once_more() {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 10);
    stage.migrate();
    let service = stage.start();
    let tab = Tab::signed_in(&address(&service), "Olga", OPERATOR);
    let later = Campaign::now("later", "pizzeria");
    let (start, end) = (later.adv_campaign_datetime_start + 3_600, later.adv_campaign_datetime_end + 3_600);
    stage.send(&later.lasting(start, end));
    stage.kafka.produce(&stage.campaigns, Some(0), Some(b"x"), Some(b"no campaign"), &[]);
    let letters = || stage.feedback.number("select count(*) from dinnerbell.dead_letter");
    wait_until("both arrived", SOON, || {
        letters() + stage.feedback.number("select count(*) from dinnerbell.campaign") == 2
    });

    tab.go("");
    tab.click("#pause-details summary");
    tab.type_in("#reason", "the till is broken");
    tab.click("#pause-button");
    tab.wait_text("#sentence", "All sending is paused by Olga");
    tab.wait_text("#paused", "the till is broken");
    tab.click("#resume-button");
    tab.wait("#pause-details");
    wait_until("it is not paused any more", SOON, || !tab.shows("#paused"));

    tab.go("campaigns/later");
    tab.click("#cancel-details summary");
    tab.click("#cancel-button");
    tab.wait_text("#state", "cancelled");
    assert!(tab.path().ends_with("/campaigns/later") && !tab.shows("#cancel"), "{}", tab.path());

    tab.go("dead-letters");
    tab.click("#letters tbody a");
    tab.wait_text("#value", "no campaign");
    tab.click("#replay-button");
    tab.wait_text("#outcome", "Would be sent: 1");
    assert_eq!(letters(), 1, "a first look sends nothing");
    tab.click("#confirm-button");
    tab.wait_text("#replayed", "Olga");
    wait_until("it arrived once more", SOON, || letters() == 2);

    tab.go("audit");
    let kept = tab.text("#orders");
    for what in ["signed_in", "paused", "resumed", "cancelled", "replayed"] {
        assert!(kept.contains(what), "{what} in {kept}");
    }
    assert_eq!(tab.complaints(), Vec::<String>::new());
    service.stop();
}

#[test]
fn a_viewer_is_offered_no_order_and_is_refused_one() {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 10);
    stage.migrate();
    let service = stage.start();
    let tab = Tab::signed_in(&address(&service), "Vera", VIEWER);
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    tab.go("");
    tab.wait("#row-complete-two-for-one");
    for (page, order) in
        [("", "#orders"), ("campaigns/two-for-one", "#cancel"), ("dead-letters", "#replay-all"), ("check", "#run")]
    {
        tab.go(page);
        tab.wait("#main");
        assert!(!tab.shows(order), "{page} offers {order} to a viewer");
    }
    // What a viewer could still send: a form with the proof that their pages hold.
    tab.go("preview");
    for order in ["pause", "campaigns/two-for-one/cancel"] {
        let answered = tab.eval_with(
            "const token = document.querySelector('[name=form_token]').value;\
             const body = new URLSearchParams({ form_token: token });\
             return fetch(arguments[0], { method: 'POST', body }).then((answer) => answer.status);",
            order,
        );
        assert_eq!(answered, json!(403), "{order}");
    }
    let state = stage.feedback.text("select state from dinnerbell.campaign");
    assert_eq!(state.trim(), "complete", "nothing was cancelled");
    tab.go("audit");
    let kept = tab.text("#orders");
    assert!(kept.contains("refused") && !kept.contains("paused"), "{kept}");
    service.stop();
}
