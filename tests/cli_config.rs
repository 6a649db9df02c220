//! `dinnerbell config reference|show|check`: what is printed where, and the exit status.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const COMPLETE: &str = r#"
[kafka]
bootstrap_servers = "localhost:9092"
security_protocol = "SASL_PLAINTEXT"
username = "bell"
password = "kafka-s3cret"
[kafka.topics]
campaigns = "promo.in"
notifications = "promo.out"
[kafka.client]
"ssl.key.password" = "key-s3cret"
[subscribers]
url = "postgres://bell:url-s3cret@replica/de"
[feedback]
url = "postgres://bell@analytics/de"
password_file = "password"
[http]
token = "token-s3cret"
"#;

fn folder(toml: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("dinnerbell.toml"), toml).unwrap();
    std::fs::write(folder.path().join("password"), "file-s3cret\n").unwrap();
    folder
}

/// Runs the program in a folder, with nothing of ours in its environment but what is given.
fn dinnerbell(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dinnerbell"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DINNERBELL_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_reference_can_be_written_to_a_file_and_checked() {
    let folder = TempDir::new().unwrap();
    let with_file = dinnerbell(folder.path(), &["config", "reference", "-c", "dinnerbell.toml"], &[]);
    let reference = dinnerbell(folder.path(), &["config", "reference"], &[]);
    assert_eq!(with_file.stdout, reference.stdout, "it takes -c, as every command does");
    assert_eq!(with_file.status.code(), Some(0));
    assert_eq!(reference.status.code(), Some(0));
    std::fs::write(folder.path().join("mine.toml"), &reference.stdout).unwrap();
    let check = dinnerbell(folder.path(), &["config", "check", "-c", "mine.toml"], &[]);
    assert_eq!(check.status.code(), Some(0), "{}", err(&check));
    assert!(out(&check).contains("mine.toml"));

    let json = dinnerbell(folder.path(), &["config", "reference", "--json"], &[]);
    let keys: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(keys[0]["variable"], "DINNERBELL_KAFKA__BOOTSTRAP_SERVERS");
}

#[test]
fn the_file_of_the_current_folder_is_found_and_shown_without_any_secret() {
    let folder = folder(COMPLETE);
    for arguments in [&["config", "show"][..], &["config", "show", "--json"], &["config", "check"]] {
        let output = dinnerbell(folder.path(), arguments, &[("DINNERBELL_SUBSCRIBERS__TABLE", "a.b")]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let printed = out(&output) + &err(&output);
        assert!(!printed.contains("s3cret"), "{printed}");
        if arguments.contains(&"show") {
            assert!(printed.contains("postgres://bell:***@replica/de") && printed.contains("a.b"), "{printed}");
        }
    }
}

#[test]
fn all_mistakes_go_to_standard_error_at_once_with_status_2() {
    let folder = folder(&COMPLETE.replace("notifications", "notificatons").replace("promo.in", "promo/in"));
    for command in ["show", "check"] {
        let output = dinnerbell(folder.path(), &["config", command], &[("DINNERBELL_FANOUT__ROUND_ROWS", "none")]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(out(&output), "");
        for words in ["4 mistakes", "notificatons", "kafka.topics.campaigns", "DINNERBELL_FANOUT__ROUND_ROWS"] {
            assert!(err(&output).contains(words), "{}", err(&output));
        }
        assert!(!err(&output).contains("s3cret"));
    }
    let output = dinnerbell(folder.path(), &["config", "check", "--json"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["mistakes"][0]["key"], "kafka.topics.campaigns");
}

#[test]
fn usage_that_is_wrong_exits_2_and_help_and_version_exit_0() {
    let folder = TempDir::new().unwrap();
    for arguments in
        [&[][..], &["config"], &["confgi"], &["config", "check", "--colour"], &["--log-format", "xml", "config"]]
    {
        assert_eq!(dinnerbell(folder.path(), arguments, &[]).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["--version"][..], &["--help"], &["config", "check", "--help"]] {
        assert_eq!(dinnerbell(folder.path(), arguments, &[]).status.code(), Some(0), "{arguments:?}");
    }
    let output = dinnerbell(folder.path(), &["config", "reference"], &[("DINNERBELL_LOG", "dinnerbell=loud")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("DINNERBELL_LOG must be"), "{}", err(&output));
}

#[test]
fn every_command_has_a_help_with_an_example() {
    let folder = TempDir::new().unwrap();
    for command in [&["config", "reference"][..], &["config", "show"], &["config", "check"], &["campaign", "send"]] {
        let output = dinnerbell(folder.path(), &[command, &["--help"]].concat(), &[]);
        assert!(out(&output).contains("Example"), "{command:?}");
    }
}
