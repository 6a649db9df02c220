//! The seed's case: ten subscriber rows and the sample campaign, as the first user of the service will send it.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use crate::support::campaign::epoch_seconds;
use crate::support::{Campaign, Expected, Security, Setting, Stage, sinks};

/// The columns of samples/expected_feedback.csv.
const COLUMNS: &str =
    "restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact,
    adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id, feedback";

#[test]
fn the_sample_campaign_sent_with_kcat_gives_the_eight_rows_and_eight_messages() {
    let stage = Stage::with(Setting { seed_tables: false, security: Security::SaslSsl, ..Setting::default() });
    stage.dinnerbell_ok(&["migrate", "--create-tables"]);
    stage.subscribers.load_sample_subscribers();
    let began = epoch_seconds();
    let service = stage.start();
    send_with_kcat(&stage);

    let clients = stage.subscribers.clients_of(&Campaign::sample().restaurant_id);
    let expected = Expected::from([(&Campaign::sample(), clients)]);
    assert_eq!(expected.len(), 8);
    stage.await_sinks(&expected, Duration::from_secs(60));
    service.stop();
    stage.assert_sinks(&expected);

    assert_eq!(stage.messages().len(), 8);
    let copy = format!(
        "copy (select {COLUMNS} from public.subscribers_feedback order by client_id) to stdout (format csv, header)"
    );
    assert_eq!(stage.feedback.text(&copy), include_str!("../samples/expected_feedback.csv"));
    for found in sinks::rows(&stage.feedback) {
        assert!((began - 2..=epoch_seconds() + 2).contains(&found.formed), "formed at {}", found.formed);
    }
}

/// As the service's users do it: the key in front of a colon, one record a line.
fn send_with_kcat(stage: &Stage) {
    let mut kcat = stage.kafka.kcat(Security::SaslSsl);
    kcat.args(["-t", &stage.campaigns, "-K:", "-P"]).stdin(Stdio::piped());
    let mut kcat = kcat.spawn().unwrap();
    let campaign = include_str!("../samples/campaign.json").trim();
    writeln!(kcat.stdin.take().unwrap(), "first_message:{campaign}").unwrap();
    assert!(kcat.wait().unwrap().success());
}
