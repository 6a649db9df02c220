//! The page where things are not as they are best: without script, and under the path of a proxy.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::client::{OPERATOR, address, stage};
use crate::support::Campaign;
use crate::support::wait::wait_until;
use crate::tab::{SOON, Tab};

#[test]
fn without_script_everything_is_shown_and_orders_are_carried_out() {
    let mut stage = stage();
    stage.config.set("fanout", "round_rows", 200);
    stage.subscribers.subscribe("pizzeria", 1_234);
    stage.migrate();
    let service = stage.start();
    let tab = Tab::open(&format!("http://{}/", address(&service)));
    tab.without_script();
    tab.sign_in("Olga", OPERATOR);
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    wait_until("everybody is told", SOON, || stage.row_count() == 1_234);
    tab.go("campaigns/two-for-one");
    wait_until("the page says it", SOON, || {
        tab.go("campaigns/two-for-one");
        tab.text("#told") == "1\u{202f}234"
    });
    assert!(tab.text("#timeline").contains(" UTC") && tab.shows("#told-over-time svg"), "{}", tab.text("#timeline"));
    assert_eq!(tab.text("#zone"), "All times are in UTC.");
    tab.type_in("#client", "nobody");
    tab.click("#ask-button");
    tab.wait_text("#answer", "No.");
    tab.go("lanes");
    assert!(tab.text("#lane-0").contains("running"), "{}", tab.text("#lane-0"));
    tab.go("");
    tab.click("#pause-details summary");
    tab.click("#pause-button");
    tab.wait_text("#sentence", "All sending is paused by Olga");
    assert_eq!(tab.eval("return document.getElementById('stale').hidden;"), true, "nothing is said to be stale");
    service.stop();
}

/// A proxy that serves an instance under a path, as nginx does: one request a connection. It ends with the test's process.
fn under_a_path(path: &'static str, at: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let own = listener.local_addr().expect("it has an address").to_string();
    std::thread::spawn(move || {
        for browser in listener.incoming().flatten() {
            let at = at.clone();
            std::thread::spawn(move || drop(hand_on(browser, &at, path)));
        }
    });
    own
}

fn hand_on(mut browser: TcpStream, at: &str, path: &str) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && browser.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let Some((method, rest)) = text.split_once(&format!(" {path}/")) else {
        return write!(browser, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let rest = rest.replace("Connection: keep-alive", "Connection: close");
    let mut service = TcpStream::connect(at)?;
    write!(service, "{method} /{rest}")?;
    let (mut body, mut into) = (browser.try_clone()?, service.try_clone()?);
    let sending = std::thread::spawn(move || drop(std::io::copy(&mut body, &mut into)));
    std::io::copy(&mut service, &mut browser)?;
    browser.shutdown(std::net::Shutdown::Both)?;
    drop(sending.join());
    Ok(())
}

#[test]
fn under_the_path_of_a_proxy_every_link_form_and_stream_works() {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 10);
    stage.migrate();
    let service = stage.start();
    let proxy = under_a_path("/ops/bell", address(&service));
    let tab = Tab::open(&format!("http://{proxy}/ops/bell/"));
    tab.sign_in("Olga", OPERATOR);
    tab.go("");
    tab.wait("#sentence");
    stage.send(&Campaign::now("a/b", "pizzeria"));
    tab.wait("#row-complete-a\\%2Fb");
    tab.click("#row-complete-a\\%2Fb");
    tab.wait_text("#id", "a/b");
    for link in ["campaigns", "clients", "lanes", "dead-letters", "preview", "check", "audit", "now"] {
        tab.click(&format!("#nav-{link}"));
        tab.wait(&format!("#nav-{link}[aria-current]"));
        assert!(tab.path().starts_with("/ops/bell/"), "{}", tab.path());
        let styled = tab.eval("return getComputedStyle(document.querySelector('.top')).display;");
        assert_eq!(styled, "flex", "the style of {} is found", tab.path());
    }
    tab.click("#pause-details summary");
    tab.click("#pause-button");
    tab.wait_text("#sentence", "All sending is paused by Olga");
    tab.click("#sign-out");
    tab.wait("#submit");
    assert_eq!(tab.complaints(), Vec::<String>::new());
    service.stop();
}
