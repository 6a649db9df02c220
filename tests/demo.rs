//! `dinnerbell demo`, as a newcomer runs it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::service::{Service, command, run};
use crate::support::wait::wait_until;
use rustix::process::Signal;
use tempfile::TempDir;

/// Long enough on a machine that is busy with other tests.
const DONE_WITHIN: Duration = Duration::from_secs(120);
/// How long whatever the demo started may outlive it when it was killed.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// A folder for the demo's folder: what is left in it was left behind.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        // The demo's PostgreSQL is somebody else where root runs the tests.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let temporary = dir.path().join("tmp");
        fs::create_dir(&temporary).expect("it is ours");
        fs::set_permissions(temporary, fs::Permissions::from_mode(0o1777)).expect("it is ours");
        Self(dir)
    }

    fn temporary(&self) -> PathBuf {
        self.0.path().join("tmp")
    }

    fn demo(&self, args: &[&str]) -> std::process::Command {
        let mut demo = command(self.0.path(), &[&["demo"], args].concat());
        demo.env("TMPDIR", self.temporary());
        demo
    }

    /// The configuration file that the demo wrote.
    fn configuration(&self) -> PathBuf {
        let folder =
            fs::read_dir(self.temporary()).expect("it is ours").flatten().next().expect("the demo made a folder");
        folder.path().join("dinnerbell.toml")
    }

    /// What is left: files, and processes that name the folder.
    fn left(&self) -> Vec<String> {
        let files =
            fs::read_dir(self.temporary()).expect("it is ours").flatten().map(|file| file.path().display().to_string());
        files.chain(processes_of(&self.temporary())).collect()
    }
}

/// Whether `/readyz` says so.
fn ready(address: &str) -> bool {
    let mut answer = String::new();
    let mut stream = TcpStream::connect(address).expect("the demo serves it");
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it listens");
    stream.read_to_string(&mut answer).expect("it answers");
    answer.starts_with("HTTP/1.1 200")
}

fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("temporary folders have plain names");
    let commands = fs::read_dir("/proc").expect("this is Linux").flatten().filter_map(|process| {
        let line = fs::read(process.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    commands.filter(|command| command.contains(folder)).collect()
}

#[test]
fn the_demo_runs_once_and_leaves_nothing_behind() {
    let place = Place::new();
    let output = run(place.demo(&["--once"]), DONE_WITHIN);
    let (told, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}:\n{told}\n{complaints}", output.status);
    // 3 and 1,000 and 20,000 and 250: each one row and one message.
    assert!(told.contains("both sinks agree: 21253 drafts"), "{told}");
    assert!(told.contains("mock broker"), "it says what kind of Kafka that was:\n{told}");
    assert_eq!(complaints, "", "nothing disturbs the show");
    assert_eq!(place.left(), [""; 0]);
}

#[test]
fn the_demo_runs_on_takes_campaigns_and_ends_in_order() {
    let place = Place::new();
    let demo = Service::spawn(place.demo(&[]), place.0.path());
    demo.wait_for_log("It runs until Ctrl-C", DONE_WITHIN);
    let configuration = place.configuration();
    let configuration = configuration.to_str().expect("temporary folders have plain names");
    let mut send = command(place.0.path(), &["campaign", "send", "-c", configuration, "--id", "another"]);
    send.args(["--restaurant", "pizzeria", "--content", "Fig tart", "--owner", "Me", "--contact", "me@example.com"]);
    let sent = run(send, DONE_WITHIN);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    demo.wait_for_log("pizzeria: another", DONE_WITHIN);
    let written = fs::read_to_string(place.configuration()).expect("the demo wrote it");
    let configuration: toml::Table = written.parse().expect("it is TOML");
    let address = configuration["http"]["listen"].as_str().expect("it is an address").to_owned();
    wait_until("it is ready", DONE_WITHIN, || ready(&address));
    let log = demo.stop();
    assert!(log.contains("rows 1000, messages 1000: all told"), "{log}");
    assert!(log.contains("nothing is left behind"), "{log}");
    assert_eq!(place.left(), [""; 0]);
}

#[test]
fn what_kills_the_demo_ends_its_database_too() {
    let place = Place::new();
    let demo = Service::spawn(place.demo(&[]), place.0.path());
    demo.wait_for_log("starting the service", DONE_WITHIN);
    assert!(!processes_of(&place.temporary()).is_empty(), "its PostgreSQL runs in its folder");
    demo.signal(Signal::KILL);
    wait_until("nothing is left of the demo", GONE_WITHIN, || place.left().is_empty());
}
