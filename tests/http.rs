//! HTTP over real sockets, and docs/metrics.md held against what `/metrics` exposes.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use dinnerbell::service::http::{bind, serve};
use dinnerbell::web::site::Site;
use dinnerbell_config as config;
use dinnerbell_core::instance::memory_budget::MemoryBudget;
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::headroom::{Headroom, Resource};
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::telemetry::{Format, Lag, LaneState, Need, Telemetry};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

/// Whatever a test waits for comes much sooner, or never.
const BOUND: Duration = Duration::from_secs(20);

/// A configuration with databases that nobody runs.
fn configured(token: Option<&str>) -> config::Config {
    let variables = [
        ("KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("KAFKA__TOPICS__CAMPAIGNS", "in"),
        ("KAFKA__TOPICS__NOTIFICATIONS", "out"),
        ("SUBSCRIBERS__URL", "postgres://nobody@127.0.0.1:1/none?sslmode=disable"),
        ("FEEDBACK__URL", "postgres://nobody@127.0.0.1:1/none?sslmode=disable"),
        ("HTTP__LISTEN", "127.0.0.1:0"),
    ];
    let all = variables.into_iter().chain(token.map(|token| ("HTTP__TOKEN", token)));
    config::load(None, all.map(|(name, value)| (format!("DINNERBELL_{name}"), value.to_owned()))).unwrap()
}

/// Serves a telemetry while the test runs, then stops and waits for the end.
async fn while_serving<F: Future<Output = ()>>(
    telemetry: Arc<Telemetry>,
    token: Option<&str>,
    test: impl FnOnce(SocketAddr, watch::Sender<bool>) -> F,
) {
    let config = configured(token);
    let bound = bind(&config.http).await.unwrap();
    let site = Arc::new(Site::new(&config, "box", Arc::clone(&telemetry)).unwrap());
    let (stop, stopped) = watch::channel(false);
    let address = bound.address();
    let ran = timeout(BOUND, async { tokio::join!(serve(bound, telemetry, site, stopped), test(address, stop)) });
    ran.await.unwrap();
}

/// Sends a request and returns the status and the whole answer.
async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).expect("an answer has a status").parse().unwrap();
    (status, answer)
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head ends").1
}

#[tokio::test]
async fn readiness_says_what_is_missing_until_nothing_is() {
    let telemetry = Arc::new(Telemetry::default());
    while_serving(Arc::clone(&telemetry), None, async |address, _stop| {
        telemetry.waits_for(Need::Kafka, "localhost:9092 does not answer");
        let (status, answer) = get(address, "/readyz").await;
        assert_eq!(status, 503);
        assert!(answer.contains("content-type: application/json"), "{answer}");
        let said: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
        let missing = said["missing"].as_array().unwrap();
        assert!(missing.iter().any(|why| why == "kafka: localhost:9092 does not answer"), "{answer}");
        for need in Need::ALL {
            telemetry.has(need);
        }
        telemetry.set_lane(Lane::new(0), LaneState::Running);
        let (status, answer) = get(address, "/readyz").await;
        assert_eq!((status, answer.contains(r#""ready":true"#)), (200, true), "{answer}");
        let (kind, found, remedy) = ("kafka-ahead".into(), "found".into(), "dinnerbell lane resolve 1".into());
        telemetry.set_lane(Lane::new(1), LaneState::Halted(Halt { kind, found, remedy }));
        let (status, answer) = get(address, "/readyz").await;
        let said: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
        assert_eq!(status, 503);
        assert_eq!(said["missing"], serde_json::json!(["lane 1: halted: kafka-ahead"]));
        assert_eq!(said["lanes"][1]["remedy"], "dinnerbell lane resolve 1");
        assert_eq!(get(address, "/healthz").await.0, 200, "a halted lane is no reason to start the process again");
    })
    .await;
}

#[tokio::test]
async fn metrics_carry_their_media_type_and_end_as_the_format_wants() {
    while_serving(Arc::default(), None, async |address, _stop| {
        let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        for (accept, media) in [(open, open), ("*/*", "text/plain; version=0.0.4; charset=utf-8")] {
            let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
            let (status, answer) = ask(address, &request).await;
            assert_eq!(status, 200);
            assert!(answer.contains(&format!("content-type: {media}\r\n")), "{answer}");
            assert_eq!(answer.ends_with("# EOF\n"), media == open);
            let counter = if media == open { "drafts_published" } else { "drafts_published_total" };
            assert!(answer.contains(&format!("# TYPE dinnerbell_{counter} counter\n")), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_open_needs_the_token() {
    while_serving(Arc::default(), Some("t"), async |address, _stop| {
        let (status, answer) = get(address, "/other").await;
        assert_eq!((status, answer.contains("www-authenticate: Bearer")), (401, true), "{answer}");
        let request = "GET /other HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t\r\n\r\n";
        assert_eq!(ask(address, request).await.0, 404);
        assert_eq!(get(address, "/healthz").await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    while_serving(Arc::default(), None, async |address, _stop| {
        let header = format!("X-Long: {}\r\n", "x".repeat(12_000));
        let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{header}{header}\r\n");
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The connection may be closed before all of it was sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(get(address, "/healthz").await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_keep_a_probe_from_its_answer() {
    /// More than may be open at once.
    const SILENT: usize = 150;
    /// How long a supervisor waits for a probe.
    const PROBE: Duration = Duration::from_secs(3);
    while_serving(Arc::default(), None, async |address, _stop| {
        let crowd = async {
            // Each comes again as soon as it is closed.
            let silent = (0..SILENT).map(|_| async {
                loop {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    let _ = stream.read(&mut [0]).await;
                }
            });
            futures_util::future::join_all(silent).await;
        };
        let probes = async {
            for _ in 0..20 {
                assert_eq!(timeout(PROBE, get(address, "/healthz")).await.unwrap().0, 200);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = probes => {}
            () = crowd => {}
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_does_not_arrive_within_a_second_or_so_is_given_up() {
    while_serving(Arc::default(), None, async |address, _stop| {
        for begun in ["", "GET /healthz HTTP/1.1\r\nHost: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        }
    })
    .await;
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_hold_up_the_stop() {
    while_serving(Arc::default(), None, async |address, stop| {
        let silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(get(address, "/healthz").await.0, 200);
        stop.send_replace(true);
        let mut silent = silent;
        let mut nothing = Vec::new();
        let _ = silent.read_to_end(&mut nothing).await;
        assert_eq!(nothing, b"", "it is closed without an answer");
    })
    .await;
}

/// The program with nothing of ours in its environment but what is given, and databases that nobody runs.
fn service(folder: &Path, listen: SocketAddr) -> Command {
    let toml = format!(
        r#"
            [kafka]
            bootstrap_servers = "127.0.0.1:1"
            security_protocol = "PLAINTEXT"
            [kafka.topics]
            campaigns = "promo.in"
            notifications = "promo.out"
            [subscribers]
            url = "postgres://nobody@127.0.0.1:1/none?sslmode=disable"
            [feedback]
            url = "postgres://nobody@127.0.0.1:1/none?sslmode=disable"
            [http]
            listen = "{listen}"
        "#
    );
    std::fs::write(folder.join("dinnerbell.toml"), toml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dinnerbell"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DINNERBELL_")) {
        command.env_remove(name);
    }
    command.args(["run", "--log-format", "json"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_service_whose_port_is_taken_exits_1_and_names_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = held.local_addr().unwrap();
    let ended = timeout(BOUND, service(folder.path(), listen).output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("http.listen: {listen} is taken by another process")), "{said}");
}

#[tokio::test]
async fn a_service_that_waits_for_its_database_lives_and_says_so_but_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = service(folder.path(), "127.0.0.1:0".parse().unwrap()).spawn().unwrap();
    let mut log = BufReader::new(running.stderr.take().unwrap()).lines();
    let test = async {
        let address = loop {
            let line = log.next_line().await.unwrap().expect("it serves before it ends");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if let Some(address) = line["address"].as_str() {
                break address.parse().unwrap();
            }
        };
        assert_eq!(get(address, "/healthz").await.0, 200);
        let (status, answer) = loop {
            let asked = get(address, "/readyz").await;
            // The first attempt takes its moment.
            if asked.1.contains("refused") {
                break asked;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(status, 503);
        let said: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
        let feedback = said["missing"][0].as_str().unwrap();
        assert!(feedback.starts_with("feedback: feedback database none at 127.0.0.1:1"), "{answer}");
        let process = Pid::from_raw(running.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(process, Signal::TERM).unwrap();
        // Whatever it logs until its end must find a reader.
        while log.next_line().await.unwrap().is_some() {}
        assert_eq!(running.wait().await.unwrap().code(), Some(0));
    };
    timeout(BOUND, test).await.unwrap();
}

/// What a metric is, as the page and the exposition both say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Described {
    kind: String,
    labels: BTreeSet<String>,
    unit: String,
}

/// A telemetry on which every metric shows.
fn full_board() -> Telemetry {
    let telemetry = Telemetry::default();
    telemetry.set_lane(Lane::new(0), LaneState::Running);
    telemetry.observe_lag(Lane::new(0), Some(Lag { records: 1, seconds: 1.0 }));
    telemetry.watch_memory(Arc::new(MemoryBudget::new(2048)));
    telemetry.clock_difference(0.5);
    telemetry.partitions(1);
    telemetry.subscribers_replica(Some(1.0), None);
    let headroom = |of| Headroom { of, column: String::new(), column_type: String::new(), last: 0, end: 1 << 40 };
    telemetry.headroom(&[Resource::FeedbackIds, Resource::DraftTimes].map(headroom));
    telemetry
}

/// What `/metrics` exposes. A counter's samples end in `_total`, an info's in `_info`, and that is how they are called.
fn exposed() -> BTreeMap<String, Described> {
    let exposition = full_board().exposition(Format::OpenMetrics).unwrap();
    let mut metrics = BTreeMap::<String, Described>::new();
    let mut current = (String::new(), String::new());
    for line in exposition.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "TYPE", name, kind] => {
                let suffix = match *kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                current = ((*name).to_owned(), format!("{name}{suffix}"));
                metrics.entry(current.1.clone()).or_default().kind = (*kind).to_owned();
            }
            ["#", "UNIT", name, unit] => {
                assert_eq!(*name, current.0);
                metrics.get_mut(&current.1).unwrap().unit = (*unit).to_owned();
            }
            ["#", ..] => {}
            _ => {
                assert!(line.starts_with(&current.0), "{line}");
                let labels =
                    line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
                let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
                metrics
                    .get_mut(&current.1)
                    .unwrap()
                    .labels
                    .extend(names.filter(|name| *name != "le").map(str::to_owned));
            }
        }
    }
    metrics
}

/// What the page's first table says.
fn documented() -> BTreeMap<String, Described> {
    let page = include_str!("../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `dinnerbell_") || line.starts_with("| `process_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, unit, meaning] = cells[..] else { panic!("five cells: {row}") };
        assert!(meaning.ends_with('.'), "{row}");
        let labels = labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (name.trim_matches('`').to_owned(), Described { kind: kind.to_owned(), labels, unit: unit.to_owned() })
    })
    .collect()
}

#[test]
fn the_page_says_exactly_what_is_exposed() {
    let (exposed, documented) = (exposed(), documented());
    // A process without a limit has none to show.
    let optional = |name: &&String| *name == "process_max_fds";
    let undocumented: Vec<_> = exposed.keys().filter(|name| !documented.contains_key(*name)).collect();
    assert!(undocumented.is_empty(), "not in docs/metrics.md: {undocumented:?}");
    let unexposed: Vec<_> =
        documented.keys().filter(|name| !exposed.contains_key(*name)).filter(|name| !optional(name)).collect();
    assert!(unexposed.is_empty(), "in docs/metrics.md only: {unexposed:?}");
    for (name, described) in &exposed {
        assert_eq!(described, &documented[name], "{name}: exposed on the left, documented on the right");
    }
}

#[test]
fn alert_rules_name_only_metrics_that_exist() {
    let rules = include_str!("../docs/alerts.yml");
    let mut names = BTreeSet::new();
    for (name, described) in documented() {
        if described.kind == "histogram" {
            names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        }
        names.insert(name);
    }
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named: BTreeSet<&str> =
        words.filter(|word| word.starts_with("dinnerbell_") || word.starts_with("process_")).collect();
    assert!(named.len() >= 8, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| !names.contains(**name)).collect();
    assert!(unknown.is_empty(), "alerts.yml names what is not exposed: {unknown:?}");
    let alerts = rules.matches("- alert: ").count();
    for needed in ["expr: ", "severity: ", "summary: ", "description: "] {
        assert_eq!(rules.matches(needed).count(), alerts, "each alert has one {needed}");
    }
}
