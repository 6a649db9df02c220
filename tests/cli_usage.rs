//! What is wrong with a command's arguments is said before anything is contacted, with exit status 2.

use std::path::Path;
use std::time::Duration;

use crate::support::service;

/// Nothing is waited for.
const SOON: Duration = Duration::from_secs(30);

/// The command is refused in these words. Where it would lead to, nobody listens.
#[track_caller]
fn assert_refused(args: &[&str], words: &str) {
    let mut command = service::command(Path::new("."), args);
    command
        .env("DINNERBELL_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
        .env("DINNERBELL_KAFKA__TOPICS__CAMPAIGNS", "promo.in")
        .env("DINNERBELL_KAFKA__TOPICS__NOTIFICATIONS", "promo.out")
        .env("DINNERBELL_SUBSCRIBERS__URL", "postgres://127.0.0.1:1/d")
        .env("DINNERBELL_FEEDBACK__URL", "postgres://127.0.0.1:1/d");
    let refused = service::run(command, SOON);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{args:?}: {said}");
    assert!(said.contains(words), "{args:?}: {said}");
}

#[test]
fn a_time_that_is_still_to_come_is_no_since() {
    let commands: [&[&str]; 4] =
        [&["verify"], &["campaign", "list"], &["dead-letter", "list"], &["lane", "resolve", "0", "--from-kafka"]];
    for command in commands {
        assert_refused(&[command, &["--since", "+1h"]].concat(), "--since lies in the future");
        assert_refused(&[command, &["--since", "yesterday"]].concat(), "a span back from now, as -24h");
    }
    let send = ["campaign", "send", "--restaurant", "r", "--content", "c", "--owner", "o", "--contact", "c"];
    assert_refused(&[&send[..], &["--start", "soon"]].concat(), "--start must be now, ");
}

#[test]
fn a_restaurant_that_no_campaign_can_name_has_no_preview() {
    for id in ["", " ", &"r".repeat(300)] {
        assert_refused(&["campaign", "preview", "--restaurant", id], "restaurant_id must be a string, not blank");
    }
}

#[test]
fn a_field_that_no_campaign_has_is_no_reason() {
    assert_refused(&["dead-letter", "list", "--reason-field", "nosuch"], "adv_campaign_datetime_end");
}
