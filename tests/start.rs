//! What `run` finds at its start: what is refused ends it with status 1 and a text that names the setting and the remedy, before any
//! campaign is touched.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Database, KafkaProxy, Security, Setting, Stage, service, unique};

/// A start that is refused is refused at once; a little more for a machine that is busy.
const SOON: Duration = Duration::from_secs(40);

/// What `run` complains of; it must exit 1, and never print the passwords.
#[track_caller]
fn refused(stage: &Stage) -> String {
    let config = stage.config.write(stage.dir.path());
    let mut command = service::command(stage.dir.path(), &["run"]);
    command.arg("-c").arg(config);
    let output = service::run(command, SOON);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(!errors.contains(&stage.postgres.password) && !errors.contains(&stage.kafka.password), "{errors}");
    errors
}

/// It complains of this, in one line.
#[track_caller]
fn assert_refused(stage: &Stage, words: &[&str]) {
    let errors = refused(stage);
    let last = errors.lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "{word:?} is not in the last line of:\n{errors}");
    }
}

#[test]
fn a_table_that_is_missing_or_lacks_columns_is_refused_with_all_that_is_wrong() {
    let mut stage = Stage::new();
    stage.migrate();
    stage.config.set("feedback", "table", "public.nowhere");
    assert_refused(&stage, &["public.nowhere", "does not exist", "feedback.table", "--create-tables"]);
    stage.config.set("feedback", "table", "public.subscribers_feedback");
    stage.config.set("subscribers", "table", "public.nowhere");
    assert_refused(&stage, &["public.nowhere", "does not exist", "subscribers.table"]);
    stage.config.set("subscribers", "table", "public.subscribers_restaurants");
    stage.feedback.execute(
        "alter table public.subscribers_feedback drop column datetime_created;
         alter table public.subscribers_feedback alter trigger_datetime_created type numeric;
         alter table public.subscribers_feedback add column campaign_manager text not null;",
    );
    let words = ["no column datetime_created", "is of type numeric, and must be integer or bigint", "campaign_manager"];
    assert_refused(&stage, &words);
    stage.subscribers.execute("alter table public.subscribers_restaurants rename client_id to client");
    stage.feedback.execute(
        "alter table public.subscribers_feedback add column datetime_created int8 not null;
         alter table public.subscribers_feedback alter trigger_datetime_created type int4;
         alter table public.subscribers_feedback drop column campaign_manager;",
    );
    assert_refused(&stage, &["no column client_id", "subscribers.table"]);
    stage.subscribers.execute("alter table public.subscribers_restaurants rename client to client_id");
    stage.feedback.execute("alter table public.subscribers_feedback rename client_id to cid");
    let errors = refused(&stage);
    assert!(
        errors.contains("no column client_id") && !errors.contains("column cid"),
        "a renamed column is one mistake: {errors}"
    );
}

#[test]
fn row_level_security_that_hides_subscribers_is_refused() {
    let mut stage = Stage::new();
    stage.migrate();
    let role = unique("blind_");
    let password = stage.postgres.password.clone();
    stage.subscribers.execute(&format!(
        "create role {role} login password '{password}'; grant select on public.subscribers_restaurants to {role};
         alter table public.subscribers_restaurants enable row level security"
    ));
    let url = stage.subscribers.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    stage.config.set("subscribers", "url", url);
    assert_refused(&stage, &["row-level security", "public.subscribers_restaurants", "bypassrls"]);
    stage.subscribers.execute(&format!("drop owned by {role}; drop role {role}"));
}

#[test]
fn without_the_right_to_transactional_ids_nothing_starts() {
    let stage = Stage::with(Setting { security: Security::SaslSsl, ..Setting::default() });
    stage.migrate();
    let ids = format!("{}/", stage.group);
    let others_only = ["--add", "--allow-principal", "User:other", "--operation", "All", "--transactional-id", &ids];
    let prefixed = ["--resource-pattern-type", "prefixed"];
    stage.kafka.give_rights(&[&[&others_only[..], &prefixed].concat()]);
    assert_refused(&stage, &["transactional id", "Write and Describe", "kafka.group_id and a slash"]);
}

#[test]
fn columns_too_narrow_for_what_the_input_allows_are_refused_with_what_widens_them() {
    let stage = Stage::new();
    stage.migrate();
    let widest = "alter table public.subscribers_feedback
        alter adv_campaign_id type varchar(256), alter adv_campaign_content type varchar(16384), alter client_id type varchar(256)";
    stage.feedback.execute(&format!(
        "{widest}, alter restaurant_id type varchar(255);
         create domain contact as varchar(64);
         alter table public.subscribers_feedback alter adv_campaign_owner_contact type contact"
    ));
    let errors = refused(&stage);
    let words = [
        "column restaurant_id of public.subscribers_feedback holds at most 255 characters, and must hold 256",
        "alter table public.subscribers_feedback alter column restaurant_id type text",
        "column adv_campaign_owner_contact of public.subscribers_feedback holds at most 64 characters",
    ];
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in:\n{errors}");
    }
    for wide in ["column adv_campaign_id", "column adv_campaign_content", "column client_id"] {
        assert!(!errors.contains(wide), "{wide} is wide enough:\n{errors}");
    }
    stage.feedback.execute("alter table public.subscribers_feedback alter column restaurant_id type text");
    stage
        .feedback
        .execute("alter table public.subscribers_feedback alter column adv_campaign_owner_contact type varchar");
    stage
        .feedback
        .execute("alter table public.subscribers_feedback alter column adv_campaign_content type varchar(16383)");
    assert_refused(&stage, &["adv_campaign_content", "16383 characters", "16384"]);
    stage.feedback.execute(widest);
    let service = stage.start();
    service.wait_for_log("state=\"running\"", SOON);
    service.stop();
}

#[test]
fn rights_that_are_missing_are_named_one_and_all() {
    let mut stage = Stage::new();
    stage.migrate();
    let role = Role::create(&stage.feedback);
    let user = |stage: &mut Stage, section: &str| {
        let url = stage.feedback.url().replace("postgres://postgres@", &format!("postgres://{}@", role.name));
        stage.config.set(section, "url", url).set(section, "password", role.name.clone());
    };
    user(&mut stage, "subscribers");
    assert_refused(&stage, &["grant SELECT (client_id)", "subscribers_restaurants"]);
    role.execute("grant select on public.subscribers_restaurants to $role");
    user(&mut stage, "feedback");
    role.execute("grant usage on schema dinnerbell to $role; grant select on all tables in schema dinnerbell to $role");
    assert_refused(&stage, &["grant SELECT, INSERT, UPDATE, DELETE", "dinnerbell.lane"]);
    role.execute("grant insert, update, delete on all tables in schema dinnerbell to $role");
    let words = [
        "INSERT (client_id)",
        "SELECT (feedback)",
        "DELETE on",
        "USAGE on sequence public.subscribers_feedback_id_seq",
    ];
    assert_refused(&stage, &words);
    role.execute(
        "grant select, insert, delete on public.subscribers_feedback to $role;
         grant usage on sequence public.subscribers_feedback_id_seq to $role",
    );
    let service = stage.start();
    service.wait_for_log("state=\"running\"", SOON);
    service.stop();
}

#[test]
fn a_feedback_database_that_cannot_hold_every_text_is_refused() {
    let mut stage = Stage::new();
    let latin = unique("t_latin_");
    let settings = "encoding 'LATIN1' locale_provider libc locale 'C' template template0";
    stage.feedback.execute(&format!("create database {latin} {settings}"));
    let url = stage.feedback.url().replace(&stage.feedback.name, &latin);
    stage.config.set("feedback", "url", url);
    assert_refused(&stage, &["encoding is LATIN1", "feedback.url", "UTF8"]);
    let doctor = stage.dinnerbell(&["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("encoding is LATIN1"), "{doctor:?}");
    let migrated = stage.dinnerbell(&["migrate", "--create-tables"]);
    assert_eq!(migrated.status.code(), Some(1));
    stage.feedback.execute(&format!("drop database {latin} with (force)"));
}

#[test]
fn an_output_topic_that_cannot_take_every_draft_is_refused_with_its_setting() {
    let mut stage = Stage::new();
    stage.migrate();
    let small = format!("{}.small", stage.notifications);
    stage.kafka.create_topic(&small, 1, &[("max.message.bytes", "20000")]);
    stage.config.set("kafka.topics", "notifications", small.clone());
    assert_refused(&stage, &["max.message.bytes", "20000", "kafka.topics.notifications", &small]);
    stage.kafka.delete_topics(&[&small]);
}

#[test]
fn a_ledger_of_another_service_is_refused_with_each_setting_that_differs() {
    let mut stage = Stage::new();
    stage.migrate();
    let service = stage.start();
    service.wait_for_log("state=\"running\"", SOON);
    service.stop();
    stage.config.set("kafka", "group_id", "another-group");
    assert_refused(&stage, &["kafka.group_id", "another-group", &stage.group.clone(), "feedback.url"]);
}

#[test]
fn a_broker_that_speaks_another_protocol_is_waited_for_and_the_setting_named() {
    let mut stage = Stage::with(Setting { security: Security::SaslSsl, ..Setting::default() });
    stage.migrate();
    let (plaintext, sasl_ssl) = (stage.kafka.plaintext.clone(), stage.kafka.sasl_ssl.clone());
    stage.config.set("kafka", "bootstrap_servers", plaintext);
    let tls_to_plaintext = stage.start();
    for key in ["username", "password", "ca_file", "sasl_mechanism"] {
        stage.config.remove("kafka", key);
    }
    stage.config.set("kafka", "bootstrap_servers", sasl_ssl).set("kafka", "security_protocol", "PLAINTEXT");
    let plaintext_to_tls = stage.start();
    for service in [tls_to_plaintext, plaintext_to_tls] {
        // What it waits for is said once; a slow machine may learn why only afterwards, and say it then.
        service.wait_for_log("waiting for Kafka", SOON);
        service.wait_for_log("check kafka.security_protocol", SOON);
        service.stop();
    }
}

/// Stands where a server is thought to be: answers each request for TLS with this byte, and ends the connection. How many connections came, and how
/// many of them spoke plain text.
fn in_between(answer: u8) -> (u16, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (came, plain) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&came), Arc::clone(&plain));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            came.fetch_add(1, Ordering::SeqCst);
            let mut asked = [0; 8];
            let asks = client.read_exact(&mut asked).is_ok() && asked == SSL_REQUEST;
            let mut rest = [0; 1];
            // What follows a `no` is not encrypted.
            let spoke = asks
                && client.write_all(&[answer]).is_ok()
                && answer == b'N'
                && client.read(&mut rest).is_ok_and(|read| read > 0);
            if !asks || spoke {
                plain.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (port, counts.0, counts.1)
}

#[test]
fn a_root_certificate_without_sslmode_is_used_and_no_plain_text_follows_a_broken_handshake() {
    let mut stage = Stage::new();
    stage.migrate();
    let url = stage.feedback.url().replace("sslmode=verify-full&", "");
    assert!(url.contains("sslrootcert=") && !url.contains("sslmode"), "{url}");
    stage.config.set("feedback", "url", url.as_str()).set("subscribers", "url", url.as_str());
    stage.dinnerbell_ok(&["campaign", "list"]);
    for answer in [b'S', b'N'] {
        let (port, came, plain) = in_between(answer);
        let away = url.replace(&format!(":{}/", stage.postgres.port), &format!(":{port}/"));
        stage.config.set("feedback", "url", away.as_str());
        let output = stage.dinnerbell(&["campaign", "list"]);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(came.load(Ordering::SeqCst) > 0, "it tried to connect");
        assert_eq!(plain.load(Ordering::SeqCst), 0, "nothing was sent in clear text");
    }
}

/// A login with no rights but what the test grants; its password is its name.
struct Role {
    name: String,
    database: Arc<Database>,
}

impl Role {
    fn create(database: &Arc<Database>) -> Self {
        let name = unique("r_");
        database.execute(&format!("create role {name} login password '{name}'"));
        Self { name, database: database.clone() }
    }

    fn execute(&self, sql: &str) {
        self.database.execute(&sql.replace("$role", &self.name));
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.execute("drop owned by $role; drop role $role");
        }
    }
}

#[test]
fn the_limit_of_open_files_is_raised_and_too_low_a_one_is_warned_of_beforehand() {
    let mut stage = Stage::with(Setting { lanes: 12, ..Setting::default() });
    stage.migrate();
    stage.config.set("http", "listen", "127.0.0.1:0");
    let config = stage.config.write(stage.dir.path());
    let started = |hard: u32| {
        let mut command = std::process::Command::new("sh");
        let script = format!("ulimit -Sn 160 && ulimit -Hn {hard} && exec \"$0\" run -c \"$1\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_dinnerbell")]).arg(&config).current_dir(stage.dir.path());
        let service = service::Service::spawn(command, stage.dir.path());
        service.wait_for_log("assigned", SOON);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.pid())).expect("it runs");
        let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is listed").to_owned();
        (files, service.stop())
    };
    let (files, log) = started(4096);
    assert_eq!(files.matches("4096").count(), 2, "{files}");
    assert!(!log.contains("files open"), "{log}");
    let (_, log) = started(200);
    assert!(log.contains("a process may have 200 files open") && log.contains("LimitNOFILE="), "{log}");
}

#[test]
fn a_broker_that_calls_itself_by_a_name_that_cannot_be_resolved_is_named_with_its_setting() {
    let mut stage = Stage::new();
    stage.migrate();
    let proxy = KafkaProxy::advertising(&stage.kafka.plaintext, "a.invalid");
    stage.config.set("kafka", "bootstrap_servers", proxy.address.to_string());
    let service = stage.start();
    service.wait_for_log("advertised.listeners", SOON);
    let log = service.stop();
    let line = log.lines().find(|line| line.contains("advertised.listeners")).unwrap();
    assert!(line.contains("a.invalid"), "{line}");
    let output = stage.dinnerbell(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let transactions = findings.iter().find(|finding| finding["check"] == "kafka-transactions").unwrap().to_string();
    assert!(transactions.contains("a.invalid") && transactions.contains("advertised.listeners"), "{transactions}");
}
