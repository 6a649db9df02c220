//! Who may look and who may order.

use std::fs;
use std::time::Duration;

use super::client::{Browser, OPERATOR, VIEWER, address, stage};
use crate::support::wait_until;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn who_signs_in_is_known_to_every_instance_and_leaves_when_the_token_changes() {
    let mut stage = stage();
    let file = stage.dir.path().join("token");
    fs::write(&file, OPERATOR).expect("the test's folder can be written");
    stage.config.remove("http", "token").set("http", "token_file", file.display().to_string());
    stage.migrate();
    let (one, other) = (stage.start(), stage.start());
    let mut browser = Browser::at(&address(&one));
    let asked = browser.get("/campaigns/a%2Fb?x=1");
    assert_eq!((asked.status, asked.header("location")), (303, Some("../sign-in?to=campaigns%2Fa%252Fb%3Fx%3D1")));
    assert_eq!(
        browser.get_with("/", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n").status,
        200,
        "once more from here"
    );
    let wrong = browser.sign_in("Анна", "wrong");
    assert_eq!(
        (wrong.status, browser.cookie.is_none(), wrong.body.contains("no token of this service")),
        (403, true, true)
    );
    let answer = browser.sign_in("Анна", OPERATOR);
    assert_eq!((answer.status, answer.header("location")), (303, Some("./lanes")));
    let cookie = answer.header("set-cookie").expect("it is set");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("Path"), "{cookie}");
    let page = browser.get("/");
    assert!(page.status == 200 && page.body.contains("Анна"), "{page:?}");
    let elsewhere = Browser { address: address(&other), ..browser.clone() };
    assert_eq!(elsewhere.get("/").status, 200, "the other instance knows them");
    fs::write(&file, "another-token").expect("the test's folder can be written");
    wait_until("the session is void", SOON, || browser.get("/").status == 303 && elsewhere.get("/").status == 303);
    assert_eq!(browser.sign_in("Анна", "another-token").status, 303);
    fs::remove_file(&file).expect("it is there");
    one.wait_for_log("the token before stays", SOON);
    assert_eq!(browser.get("/").status, 200, "a file that is gone opens nothing and closes nothing");
    one.stop();
    other.stop();
}

#[test]
fn a_viewer_looks_and_whatever_they_would_order_is_refused_and_kept() {
    let stage = stage();
    stage.migrate();
    let service = stage.start();
    let viewer = Browser::signed_in(&service, "Viktor", VIEWER);
    let page = viewer.get("/");
    assert!(page.status == 200 && !page.body.contains("pause-button"), "{page:?}");
    for order in ["/pause", "/resume", "/campaigns/x/cancel", "/dead-letters/replay", "/check/run"] {
        assert_eq!(viewer.order("/preview", order, &[]).status, 403, "{order}");
    }
    assert_eq!(viewer.order("/preview", "/preview", &[("restaurant", "pizzeria")]).status, 200, "this changes nothing");
    assert_eq!(stage.feedback.number("select count(*) from dinnerbell.service where paused_at is not null"), 0);
    let kept = "select count(*) from dinnerbell.audit where who = 'Viktor' and origin = 'page' and what = ";
    assert_eq!(stage.feedback.number(&format!("{kept} 'refused'")), 5);
    assert_eq!(stage.feedback.number(&format!("{kept} 'signed_in'")), 1);
    service.stop();
}

#[test]
fn an_order_needs_the_proof_of_a_page_and_comes_from_no_other_one() {
    let stage = stage();
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", OPERATOR);
    wait_until("the ledger is claimed", SOON, || stage.feedback.number("select count(*) from dinnerbell.service") == 1);
    let paused = || stage.feedback.number("select count(*) from dinnerbell.service where paused_at is not null");
    assert_eq!(browser.post("/pause", &[]).status, 403, "no proof");
    let other = Browser::signed_in(&service, "Petra", OPERATOR).form_token("/");
    assert_eq!(browser.post("/pause", &[("form_token", &other)]).status, 403, "the proof of somebody else");
    let token = browser.form_token("/");
    let fields = [("form_token", token.as_str()), ("reason", "a wrong price")];
    for foreign in ["Sec-Fetch-Site: cross-site\r\n", "Origin: https://evil.example\r\n", "Origin: null\r\n"] {
        assert_eq!(browser.post_with("/pause", &fields, foreign).status, 403, "{foreign}");
    }
    assert_eq!(paused(), 0);
    let elsewhere = Browser { cookie: browser.cookie.clone(), ..Browser::at(&browser.address) };
    assert_eq!(elsewhere.get_with("/", "").status, 200);
    let answer = browser.post("/pause", &fields);
    assert_eq!((answer.status, answer.header("location"), paused()), (303, Some("./"), 1), "{answer:?}");
    let page = browser.get("/");
    assert!(
        page.body.contains("All sending is paused by Olga, page.") && page.body.contains("a wrong price"),
        "{}",
        page.body
    );
    assert_eq!(browser.order("/", "/resume", &[]).status, 303);
    assert_eq!(paused(), 0);
    let kept = stage.dinnerbell_ok(&["audit", "--json"]);
    assert!(kept.contains("\"who\": \"Olga\"") && kept.contains("\"what\": \"resumed\""), "{kept}");
    service.stop();
}

#[test]
fn every_answer_forbids_what_no_page_of_ours_needs() {
    let stage = stage();
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", OPERATOR);
    let nobody = Browser::at(&browser.address);
    let style = browser
        .get("/")
        .body
        .split("href=\"")
        .find(|rest| rest.contains(".css"))
        .map(|rest| rest[..rest.find('"').unwrap_or(0)].to_owned());
    let style = format!("/{}", style.expect("the page has a style"));
    for answer in [
        browser.get("/"),
        nobody.get("/"),
        nobody.get("/sign-in"),
        browser.get("/none"),
        browser.get("/lanes"),
        nobody.get(&style),
    ] {
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{answer:?}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        let keep = answer.header("cache-control").unwrap_or_default();
        assert_eq!(
            keep.contains("immutable"),
            answer.header("content-type") == Some("text/css; charset=utf-8"),
            "{keep}"
        );
        assert!(!answer.body.contains("style=") && !answer.body.contains(" onclick"), "{}", answer.body);
    }
    service.stop();
}

#[test]
fn whoever_guesses_tokens_is_slowed() {
    let stage = stage();
    stage.migrate();
    let service = stage.start();
    let mut browser = Browser::at(&address(&service));
    let statuses: Vec<u16> = (0..7).map(|_| browser.sign_in("Eve", "wrong").status).collect();
    assert_eq!(statuses, [403, 403, 403, 403, 403, 429, 429]);
    let bearer = browser.get_with("/lanes", &format!("Authorization: Bearer {VIEWER}\r\n"));
    assert_eq!(bearer.status, 200, "who has a token is not locked out by it");
    service.stop();
}
