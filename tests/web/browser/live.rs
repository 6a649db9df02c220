//! What changes on an open page by itself.

use serde_json::{Value, json};

use crate::client::{VIEWER, address, stage};
use crate::support::Campaign;
use crate::support::wait::wait_until;
use crate::tab::{SOON, Tab};

/// Says on the page that it is this one: gone after a reload.
fn mark(tab: &Tab) {
    tab.eval("window.unmoved = true;");
}

/// Whether it is still the page that was marked.
fn is_unmoved(tab: &Tab) -> bool {
    tab.eval("return window.unmoved === true;") == json!(true)
}

#[test]
fn a_campaign_appears_progresses_and_completes_on_an_open_page() {
    let mut stage = stage();
    stage.config.set("fanout", "rate_limit", 150).set("fanout", "round_rows", 50);
    stage.subscribers.subscribe("pizzeria", 700);
    stage.migrate();
    let service = stage.start();
    let tab = Tab::signed_in(&address(&service), "Olga", VIEWER);
    tab.go("");
    tab.wait("#sentence");
    mark(&tab);
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    tab.wait("#row-running-two-for-one");
    let told = || tab.text("tr[data-campaign='two-for-one'] [data-name='Told']").replace(char::is_whitespace, "");
    let mut seen: Vec<i64> = Vec::new();
    wait_until("it is complete", SOON, || {
        seen.extend(told().parse::<i64>().ok());
        tab.shows("#row-complete-two-for-one")
    });
    wait_until("all are told", SOON, || told() == "700");
    seen.dedup();
    assert!(seen.len() > 2 && seen.is_sorted(), "it progressed: {seen:?}");
    assert!(is_unmoved(&tab), "nobody asked for the page again");
    let list: Value = serde_json::from_str(&stage.dinnerbell_ok(&["campaign", "list", "--json"])).expect("it is JSON");
    assert_eq!(list[0]["told"], 700);
    assert_eq!(tab.complaints(), Vec::<String>::new());
    service.stop();
}

#[test]
fn an_open_page_comes_back_by_itself_when_its_instance_restarts() {
    let mut stage = stage();
    stage.subscribers.subscribe("pizzeria", 10);
    stage.migrate();
    let service = stage.start();
    let at = address(&service);
    let tab = Tab::signed_in(&at, "Olga", VIEWER);
    tab.go("");
    tab.wait("#sentence");
    mark(&tab);
    service.stop();
    tab.wait_text("#stale", "does not answer");
    // The same address: the one that the browser asks again.
    stage.config.set("http", "listen", at.as_str());
    let service = stage.start();
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    tab.wait("#row-complete-two-for-one");
    wait_until("nothing is said to be stale", SOON, || !tab.shows("#stale"));
    assert!(is_unmoved(&tab), "it is the same page, and the session is still good");
    service.stop();
}
