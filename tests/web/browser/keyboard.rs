//! The page by keyboard alone.

use serde_json::{Value, json};

use crate::client::{OPERATOR, address, stage};
use crate::support::Campaign;
use crate::tab::Tab;

/// The keys, as WebDriver writes them.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// Where the keyboard is: the element's id, or what it is.
fn at(tab: &Tab) -> String {
    let script = "const one = document.activeElement; return one.id || one.className || one.tagName;";
    tab.eval(script).as_str().unwrap_or_default().to_owned()
}

#[test]
fn everything_is_reached_in_order_and_seen_and_sent_with_the_keyboard() {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 10);
    stage.migrate();
    let service = stage.start();
    let tab = Tab::open(&format!("http://{}/", address(&service)));
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    tab.go("");
    // Anyone who is not signed in is asked to, and stands in the first field.
    tab.wait("#name");
    assert_eq!(at(&tab), "name");
    tab.press("Olga");
    tab.press(TAB);
    tab.press(OPERATOR);
    tab.press(ENTER);
    tab.wait("#row-complete-two-for-one");

    tab.go("");
    tab.wait("#row-complete-two-for-one");
    tab.press(TAB);
    assert_eq!(at(&tab), "skip", "the first step leads past the navigation");
    let seen = "return document.activeElement.getBoundingClientRect().left >= 0;";
    assert_eq!(tab.eval(seen), json!(true));
    tab.press(ENTER);
    assert_eq!(at(&tab), "main");

    tab.go("");
    tab.wait("#row-complete-two-for-one");
    let all = "return [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex=\"0\"]')]\
       .filter((one) => one.checkVisibility()).length;";
    let all = tab.eval(all).as_u64().expect("it is a number");
    let step = "const one = document.activeElement; const before = window.before; window.before = one;\
       const style = getComputedStyle(one); const box = one.getBoundingClientRect();\
       const follows = !before || !!(before.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING);\
       return [one === document.body, follows, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2, box.width > 0, one.outerHTML.slice(0, 120)];";
    for reached in 0..all {
        tab.press(TAB);
        let Value::Array(found) = tab.eval(step) else { panic!("a list was asked for") };
        assert!(
            found[0] == json!(false) && found[1..4].iter().all(|is| *is == json!(true)),
            "step {reached}: {found:?}"
        );
    }
    assert_eq!(
        at(&tab),
        tab.eval("return [...document.querySelectorAll('summary')].at(-1).id || 'SUMMARY';")
            .as_str()
            .unwrap_or_default()
    );
    // The last is where all sending is paused: it opens, is filled in and sent.
    tab.press(ENTER);
    tab.wait("#reason");
    tab.press(TAB);
    assert_eq!(at(&tab), "reason");
    tab.press("by keyboard");
    tab.press(TAB);
    assert_eq!(at(&tab), "pause-button");
    tab.press(ENTER);
    tab.wait_text("#paused", "by keyboard");
    service.stop();
}
