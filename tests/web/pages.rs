//! What the pages show, and what is ordered on them.

use std::time::Duration;

use serde_json::Value;

use super::client::{Browser, OPERATOR, VIEWER, encoded, stage};
use crate::support::{Campaign, Stage, wait_until};

const SOON: Duration = Duration::from_secs(60);

fn told(stage: &Stage, id: &str) -> i64 {
    stage.feedback.number(&format!("select coalesce(sum(told), 0)::int8 from dinnerbell.campaign where adv_campaign_id = $${id}$$ and state = 'complete'"))
}

/// The text of the element of an id, without what is marked up in it.
fn text_of(body: &str, id: &str) -> String {
    let (_, rest) = body.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {body}"));
    let (_, rest) = rest.split_once('>').expect("a tag ends");
    let inner = rest.split("</d").next().unwrap_or(rest);
    inner.split('<').map(|part| part.rsplit_once('>').map_or(part, |(_, text)| text)).collect()
}

#[test]
fn the_numbers_of_the_page_are_those_of_the_command() {
    let mut stage = stage();
    stage.config.set("fanout", "round_rows", 200);
    stage.subscribers.subscribe("pizzeria", 1_234);
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", VIEWER);
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    wait_until("everybody is told", SOON, || told(&stage, "two-for-one") == 1_234);
    let list: Value = serde_json::from_str(&stage.dinnerbell_ok(&["campaign", "list", "--json"])).expect("it is JSON");
    assert_eq!(list[0]["told"], 1_234);
    let page = browser.get("/campaigns/two-for-one");
    assert_eq!(text_of(&page.body, "told").replace('\u{202f}', ""), "1234", "{}", page.body);
    assert!(page.body.contains("told-over-time") && page.body.contains("data-what=\"complete\""), "{}", page.body);
    let now = browser.get("/");
    assert!(now.body.contains("1\u{202f}234") && now.body.contains("id=\"row-complete-two-for-one\""), "{}", now.body);
    let json = browser.get("/campaigns?search=two-for&format=json");
    let shown: Value = serde_json::from_str(&json.body).expect("it is JSON");
    assert_eq!(shown, list, "the same structs");
    let csv = browser.get("/campaigns?format=csv");
    assert!(csv.body.contains("two-for-one,pizzeria,complete,1234,0,"), "{}", csv.body);
    assert!(browser.get("/campaigns?state=cancelled").body.contains("No such campaign"));
    for page in ["/lanes", "/dead-letters", "/preview", "/check", "/audit", "/clients", "/campaigns"] {
        let answer = browser.get(page);
        assert!(answer.status == 200 && answer.body.contains("aria-current=\"page\""), "{page}: {answer:?}");
    }
    for page in ["/campaigns/none", "/dead-letters/7", "/dead-letters/x", "/none", "/campaigns/"] {
        assert_eq!(browser.get(page).status, 404, "{page}");
    }
    service.stop();
}

#[test]
fn who_was_told_and_who_was_not_is_found_on_the_page() {
    let stage = stage();
    stage.subscribers.execute("insert into public.subscribers_restaurants (client_id, restaurant_id) select c, 'pizzeria' from unnest(array['a', 'b', '']) c");
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", VIEWER);
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    wait_until("everybody is told", SOON, || told(&stage, "two-for-one") == 2);
    let yes = browser.get("/campaigns/two-for-one?client=a");
    assert!(yes.body.contains("<strong>Yes.</strong>"), "{}", yes.body);
    let no = browser.get("/campaigns/two-for-one?client=z");
    assert!(no.body.contains("<strong>No.</strong>") && no.body.contains("do not favour"), "{}", no.body);
    let csv = browser.get("/campaigns/two-for-one/not-told.csv");
    assert_eq!((csv.status, csv.body.as_str()), (200, "client_id,reason\r\n\"\",unusable_id\r\n"));
    let list = browser.get("/campaigns/two-for-one?not_told=1");
    assert!(list.body.contains("(empty)") && list.body.contains("their client id is empty"), "{}", list.body);
    let to = browser.get("/clients?client=a");
    assert_eq!((to.status, to.header("location")), (303, Some("clients/a")));
    let client = browser.get("/clients/a");
    assert!(client.body.contains("two-for-one") && client.body.contains("state good\">yes"), "{}", client.body);
    service.stop();
}

#[test]
fn what_a_restaurant_sends_is_text_whatever_it_is() {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 3);
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "<b>Olga</b>", VIEWER);
    let hostile = "<script>alert(1)</script>\u{202e}\" onload='x' {{ 7 * 7 }}";
    let id = "a/b ?#<img src=x onerror=alert(1)>\"'";
    let mut campaign = Campaign::now(id, "pizzeria");
    campaign.adv_campaign_content = hostile.repeat(100);
    campaign.adv_campaign_owner = hostile.to_owned();
    stage.send(&campaign);
    wait_until("everybody is told", SOON, || told(&stage, id) == 3);
    let one = format!("/campaigns/{}", encoded(id));
    for path in ["/", "/campaigns", one.as_str(), &format!("/campaigns?search={}", encoded("<script>"))] {
        let page = browser.get(path);
        assert_eq!(page.status, 200, "{path}");
        for mark in ["<script>alert", "<img src=x", "<b>Olga", "onload='x'", "\u{202e}"] {
            assert!(!page.body.contains(mark), "{path} holds {mark}: {}", page.body);
        }
    }
    let page = browser.get(&one);
    assert!(page.body.contains("\\u{202e}") && page.body.contains("{{ 7 * 7 }}"), "{}", page.body);
    service.stop();
}

#[test]
fn an_operator_cancels_a_campaign_and_sends_a_dead_letter_once_more() {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 3);
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", OPERATOR);
    let now = Campaign::now("later", "pizzeria");
    let (start, end) = (now.adv_campaign_datetime_start + 3_600, now.adv_campaign_datetime_end + 3_600);
    stage.send(&now.lasting(start, end));
    stage.kafka.produce(&stage.campaigns, Some(0), Some(b"x"), Some(b"no campaign \x1b[2J"), &[]);
    wait_until("both arrived", SOON, || {
        stage.feedback.number("select count(*) from dinnerbell.campaign")
            + stage.feedback.number("select count(*) from dinnerbell.dead_letter")
            == 2
    });
    let cancelled = browser.order("/campaigns/later", "/campaigns/later/cancel", &[]);
    assert_eq!((cancelled.status, cancelled.header("location")), (303, Some("../later")), "{cancelled:?}");
    let page = browser.get("/campaigns/later");
    assert!(page.body.contains(">cancelled</span>") && !page.body.contains("cancel-button"), "{}", page.body);
    let id = stage.feedback.number("select id from dinnerbell.dead_letter").to_string();
    let page = format!("/dead-letters/{id}");
    let letter = browser.get(&page);
    assert!(letter.body.contains("no campaign \\u{1b}[2J") && letter.body.contains("6e 6f 20"), "{}", letter.body);
    let dry = browser.order(&page, "/dead-letters/replay", &[("id", &id)]);
    assert!(dry.status == 200 && dry.body.contains("Would be sent: 1"), "{dry:?}");
    assert_eq!(stage.feedback.number("select count(*) from dinnerbell.dead_letter"), 1, "nothing was sent");
    let done = browser.order(&page, "/dead-letters/replay", &[("id", &id), ("done", "1")]);
    assert_eq!((done.status, done.header("location")), (303, Some(id.as_str())), "{done:?}");
    wait_until("it arrived once more", SOON, || {
        stage.feedback.number("select count(*) from dinnerbell.dead_letter") == 2
    });
    assert!(browser.get(&page).body.contains("Olga, page"));
    let all = browser.order("/dead-letters", "/dead-letters/replay", &[("done", "1")]);
    let to = Some("../dead-letters?replayed=1");
    assert_eq!((all.status, all.header("location")), (303, to), "the other one: {all:?}");
    let kept = browser.get("/audit").body;
    for what in ["signed_in", "cancelled", "replayed"] {
        assert!(kept.contains(what), "{what} in {kept}");
    }
    service.stop();
}

#[test]
fn the_last_comparison_of_both_sinks_is_on_the_page() {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 3);
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", VIEWER);
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    wait_until("everybody is told", SOON, || told(&stage, "two-for-one") == 3);
    let none = browser.get("/check");
    assert!(none.body.contains("Nobody compared them yet"), "{}", none.body);
    stage.dinnerbell_ok(&["verify"]);
    let equal = browser.get("/check");
    assert!(equal.body.contains("notice good") && equal.body.contains("equal: 3 drafts are in both"), "{}", equal.body);
    stage.feedback.execute(
        "delete from public.subscribers_feedback where id = (select min(id) from public.subscribers_feedback)",
    );
    assert_eq!(stage.dinnerbell(&["verify"]).status.code(), Some(1));
    let differs = browser.get("/check");
    assert!(differs.body.contains("notice bad") && differs.body.contains("different in 1 place"), "{}", differs.body);
    service.stop();
}

#[test]
fn a_check_writes_its_findings_and_a_preview_says_what_would_come() {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 3);
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", OPERATOR);
    wait_until("the ledger is claimed", SOON, || stage.feedback.number("select count(*) from dinnerbell.service") == 1);
    let page = browser.get("/check");
    assert!(
        page.body.contains("operator") && !page.body.contains(OPERATOR) && page.body.contains("***"),
        "{}",
        page.body
    );
    let checked = browser.order("/check", "/check/run", &[]);
    assert!(
        checked.body.contains("data-check=\"kafka-connection\"") && checked.body.contains("id=\"summary\""),
        "{checked:?}"
    );
    assert!(checked.body.trim_end().ends_with("</html>"), "{}", checked.body);
    let good = browser.order("/preview", "/preview", &[("campaign", &Campaign::now("new", "pizzeria").json())]);
    assert!(good.body.contains("It can be sent.") && good.body.contains("id=\"will-be-told\">3<"), "{}", good.body);
    let bad = browser.order("/preview", "/preview", &[("campaign", "{\"restaurant_id\": 5}")]);
    assert!(bad.body.contains("dead letter") && bad.body.contains("id=\"mistakes\""), "{}", bad.body);
    assert_eq!(stage.feedback.number("select count(*) from dinnerbell.campaign"), 0, "nothing was written");
    service.stop();
}
