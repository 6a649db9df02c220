//! How every page looks: on a telephone and a desk, light and dark, to anyone who sees little or uses a keyboard, and whatever it shows.

use std::path::Path;

use serde_json::{Value, json};

use crate::client::OPERATOR;
use crate::scene::{HOSTILE_ID, Scene};
use crate::support::servers::ROOT;
use crate::tab::Tab;

/// The width of a small telephone.
const SMALL: u32 = 360;

fn axe() -> String {
    let path = Path::new(ROOT).join(".cache/axe-core/axe.min.js");
    std::fs::read_to_string(path).expect("scripts/setup test fetches axe-core")
}

/// What axe-core finds serious or critical on the page that is shown.
fn barriers(tab: &Tab, axe: &str) -> Vec<String> {
    tab.eval(axe);
    let found = tab.eval(
        "return axe.run(document, { resultTypes: ['violations'] }).then((found) => found.violations\
           .filter((one) => ['serious', 'critical'].includes(one.impact))\
           .map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 160) + ' ' + (node.any[0]?.message ?? '')).join(' | ')}`));",
    );
    serde_json::from_value(found).expect("axe-core says what it finds")
}

/// What does not fit: how far the page reaches beyond the window, with what reaches furthest, and text that stands in a column of single letters.
fn misfits(tab: &Tab) -> Value {
    tab.eval(
        "const over = document.documentElement.scrollWidth - innerWidth;\
         const box = (one) => one.getBoundingClientRect();\
         const seen = (css) => [...document.querySelectorAll(css)].filter((one) => one.checkVisibility());\
         const wide = over <= 0 ? [] : seen('main *, header *').filter((one) => box(one).right > innerWidth + 1);\
         const thin = seen('main :is(caption, td, tbody th, p, dd, li, figcaption, h1, h2)')\
           .filter((one) => one.textContent.trim().length > 8 && box(one).width < 48);\
         const named = [...wide, ...thin].map((one) => one.outerHTML.slice(0, 120));\
         return over <= 0 && thin.length === 0 ? null : { over, named: named.slice(0, 5) };",
    )
}

#[test]
fn no_page_keeps_anybody_out_or_scrolls_sideways_and_the_policy_forbids_nothing_of_ours() {
    let scene = Scene::with_trouble();
    let tab = Tab::signed_in(&scene.address, "Olga", OPERATOR);
    let axe = axe();
    let mut pages = scene.pages();
    let mut wrong = Vec::new();
    let mut look_at = |page: &str| {
        for (scheme, width) in [("light", 1200), ("dark", SMALL)] {
            tab.size(width, 800);
            tab.prefers(scheme);
            tab.go(page);
            wrong.extend(barriers(&tab, &axe).iter().map(|found| format!("{page}, {scheme}, {width}: {found}")));
            let misfits = misfits(&tab);
            if misfits != Value::Null {
                wrong.push(format!("{page} does not fit {width}: {misfits}"));
            }
        }
        wrong.extend(tab.complaints().iter().map(|text| format!("{page}: {text}")));
    };
    pages.iter().for_each(|page| look_at(page));
    tab.eval("fetch('/sign-out', { method: 'POST' });");
    tab.devtools("Network.clearBrowserCookies", json!({}));
    pages.clear();
    look_at("sign-in");
    assert!(wrong.is_empty(), "{} things are wrong:\n{}", wrong.len(), wrong.join("\n"));
    scene.service.stop();
}

#[test]
fn what_a_restaurant_sends_is_text_and_breaks_no_page() {
    let scene = Scene::with_trouble();
    let tab = Tab::signed_in(&scene.address, "<img src=x onerror=window.hit=1>", OPERATOR);
    tab.size(SMALL, 800);
    for page in scene.pages() {
        tab.go(&page);
        let hit =
            "return window.hit !== undefined || !!document.querySelector('main img, #live script, main b, #who img');";
        assert_eq!(tab.eval(hit), json!(false), "{page}");
        assert_eq!(misfits(&tab), Value::Null, "{page}");
        assert_eq!(tab.complaints(), Vec::<String>::new(), "{page}");
    }
    tab.go_to_campaign(HOSTILE_ID);
    tab.wait_text("#content", "<script>window.hit=1</script>");
    let text = tab.text("#content");
    assert!(text.contains("\\u{202e}") && !text.contains('\u{202e}') && text.contains("{{ 7*7 }}"), "{text}");
    assert!(text.contains("\\u{1}") && text.contains("\\u{1b}"), "{text}");
    assert!(text.contains(&"W".repeat(600)), "all of it is there");
    let turned = tab.eval("return getComputedStyle(document.getElementById('sentence')).direction;");
    assert_eq!(turned, json!("ltr"));
    scene.service.stop();
}
