//! Log-in by tokens (SASL OAUTHBEARER): every client of ours on a real broker, with tokens that live for seconds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Campaign, Expected, Setting, Stage, service, wait_until};

/// The broker starts anew, and tokens end meanwhile.
const LONG: Duration = Duration::from_secs(120);
/// For how long a token of these tests lives, and after how long the broker wants another log-in.
const TOKEN_LIVES: u64 = 8;
const SESSION_MS: &str = "4000";
const SECRET: &str = "s3cret-of-the-client";

/// A stage whose broker takes tokens alone, at its listener with TLS.
fn stage() -> Stage {
    let mut stage = Stage::with(Setting { own_kafka: true, ..Setting::default() });
    stage.kafka.take_tokens(SESSION_MS);
    let (servers, ca) = (stage.kafka.sasl_ssl.clone(), stage.kafka.ca.display().to_string());
    stage
        .config
        .set("kafka", "bootstrap_servers", servers)
        .set("kafka", "security_protocol", "SASL_SSL")
        .set("kafka", "sasl_mechanism", "OAUTHBEARER")
        .set("kafka", "ca_file", ca)
        .set("kafka.client", "sasl.oauthbearer.method", "oidc");
    stage
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn base64url(text: &str) -> String {
    openssl::base64::encode_block(text.as_bytes()).replace('+', "-").replace('/', "_").replace('=', "")
}

/// A token as Kafka's unsecured validator takes it.
fn unsigned(lives: u64) -> String {
    let claims = format!(r#"{{"sub":"bell","iat":{},"exp":{}}}"#, now(), now() + lives);
    format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(&claims))
}

/// An authorization server: gives a new token to the client that knows the secret.
struct Issuer {
    address: SocketAddr,
    issued: Arc<AtomicU64>,
}

impl Issuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, issued) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&issued);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever asked may have gone.
                let _ = answer(stream.unwrap(), &count);
            }
        });
        Self { address, issued }
    }

    fn issued(&self) -> u64 {
        self.issued.load(Ordering::SeqCst)
    }

    fn configure(&self, stage: &mut Stage, secret: &str) {
        let url = format!("http://{}/realms/it/token", self.address);
        stage
            .config
            .set("kafka.client", "sasl.oauthbearer.token.endpoint.url", url)
            .set("kafka.client", "sasl.oauthbearer.client.id", "bell")
            .set("kafka.client", "sasl.oauthbearer.client.secret", secret)
            .set("kafka.client", "sasl.oauthbearer.scope", "kafka");
    }
}

fn answer(mut stream: TcpStream, issued: &AtomicU64) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"scope=kafka") {
        let mut more = [0; 1024];
        let read = stream.read(&mut more)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&more[..read]);
    }
    let credentials = openssl::base64::encode_block(format!("bell:{SECRET}").as_bytes());
    let (status, body) = match String::from_utf8_lossy(&request).contains(&format!("Basic {credentials}\r\n")) {
        true => {
            issued.fetch_add(1, Ordering::SeqCst);
            ("200 OK", format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, unsigned(TOKEN_LIVES)))
        }
        false => ("401 Unauthorized", r#"{"error":"invalid_client"}"#.to_owned()),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

#[test]
fn campaigns_reach_both_sinks_while_tokens_of_seconds_end_and_the_broker_asks_for_new_log_ins() {
    let issuer = Issuer::start();
    let mut stage = stage();
    issuer.configure(&mut stage, SECRET);
    stage.subscribers.subscribe("deli", 300);
    stage.migrate();
    let service = stage.start();
    let mut expected = Expected::default();
    for number in 0..4 {
        let campaign = Campaign::now(&format!("offer-{number}"), "deli");
        stage.send(&campaign);
        expected.add(&campaign, stage.subscribers.clients_of("deli"));
        stage.await_sinks(&expected, LONG);
        let before = issuer.issued();
        wait_until("the next token is fetched", LONG, || issuer.issued() > before);
    }
    // One for each of its lives, however many clients log in by it.
    assert!(issuer.issued() < 30, "{} tokens were fetched", issuer.issued());
    let log = service.log();
    for wrong in ["halted", "ERROR", "no new token"] {
        assert!(!log.contains(wrong), "{wrong}:\n{log}");
    }
    // The commands log in by the same way.
    stage.dinnerbell_ok(&["verify"]);
    stage.dinnerbell_ok(&["doctor"]);
    stage.dinnerbell_ok(&["lane", "list"]);
    let campaign = Campaign::now("by-command", "deli");
    let file = stage.dir.path().join("campaign.json");
    std::fs::write(&file, campaign.json()).unwrap();
    stage.dinnerbell_ok(&["campaign", "send", "--file", file.to_str().unwrap()]);
    expected.add(&campaign, stage.subscribers.clients_of("deli"));
    stage.await_sinks(&expected, LONG);
    stage.dinnerbell_ok(&["verify"]);
    service.stop();
}

#[test]
fn a_token_that_is_refused_names_the_setting_the_cause_and_the_remedy_and_a_good_one_in_its_place_does() {
    let mut stage = stage();
    let file = stage.dir.path().join("token");
    stage.config.set("kafka.client", "sasl.oauthbearer.token.endpoint.url", format!("file://{}", file.display()));
    stage.migrate();
    // Signed by nobody whom the broker knows.
    let claims = format!(r#"{{"sub":"bell","exp":{}}}"#, now() + 3_600);
    let forged = format!("{}.{}.{}", base64url(r#"{"alg":"HS256"}"#), base64url(&claims), base64url("forged"));
    std::fs::write(&file, &forged).unwrap();
    let errors = refused(&stage);
    for word in ["the token", "invalid_token", "sasl.oauthbearer.token.endpoint.url", "check that"] {
        assert!(errors.contains(word), "{word:?} is not in:\n{errors}");
    }
    assert!(!errors.contains(&forged), "{errors}");
    for (text, word) in [("nonsense", "no JWT"), (&*unsigned(0), "ended")] {
        std::fs::write(&file, text).unwrap();
        let errors = refused(&stage);
        let told = errors.contains(word) && errors.contains("token") && errors.contains(&file.display().to_string());
        assert!(told, "{errors}");
    }

    replace(&file, 20);
    stage.subscribers.subscribe("deli", 10);
    let service = stage.start();
    let campaign = Campaign::now("offer", "deli");
    stage.send(&campaign);
    let expected = Expected::from([(&campaign, stage.subscribers.clients_of("deli"))]);
    stage.await_sinks(&expected, LONG);
    // What keeps the file fresh did not, and does again: nothing halts, and nothing is lost.
    service.wait_for_log("no new token for kafka", LONG);
    replace(&file, 3_600);
    let campaign = Campaign::now("later", "deli");
    stage.send(&campaign);
    let mut expected = expected;
    expected.add(&campaign, stage.subscribers.clients_of("deli"));
    stage.await_sinks(&expected, LONG);
    service.stop();
}

/// As whatever keeps such a file fresh does it: whole or not at all.
fn replace(file: &Path, lives: u64) {
    let new = file.with_extension("new");
    std::fs::write(&new, unsigned(lives)).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[test]
fn a_client_that_the_authorization_server_does_not_know_starts_nothing_and_is_told_so() {
    let issuer = Issuer::start();
    let mut stage = stage();
    issuer.configure(&mut stage, "wrong-s3cret");
    stage.migrate();
    let errors = refused(&stage);
    let address = issuer.address.to_string();
    for word in [&*address, "401", "invalid_client", "sasl.oauthbearer.client.id", ".client.secret"] {
        assert!(errors.contains(word), "{word:?} is not in:\n{errors}");
    }
    assert!(!errors.contains("wrong-s3cret"), "{errors}");
    let doctor = stage.dinnerbell(&["doctor"]);
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned() + &String::from_utf8_lossy(&doctor.stderr);
    assert!(told.contains("invalid_client") && !told.contains("wrong-s3cret"), "{told}");
}

/// The service does not start: what it says.
#[track_caller]
fn refused(stage: &Stage) -> String {
    let config = stage.config.write(stage.dir.path());
    let mut command = service::command(stage.dir.path(), &["run"]);
    command.arg("-c").arg(config);
    let output = service::run(command, LONG);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    errors.lines().last().unwrap_or_default().to_owned()
}
