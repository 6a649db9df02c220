//! Open pages and probes do not stand in each other's way; TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::{X509, X509NameBuilder};

use super::client::{Browser, OPERATOR, address, stage};
use crate::support::{Campaign, wait_until};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn open_pages_take_no_probe_its_answer_and_end_with_the_service() {
    let stage = stage();
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", OPERATOR);
    let mut streams: Vec<TcpStream> = (0..200).map(|_| browser.open("/events")).collect();
    let mut first = [0; 4096];
    for stream in &mut streams {
        let read = stream.read(&mut first).expect("it answers");
        assert!(first[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&first[..read]));
    }
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(Browser::at(&browser.address).get("/healthz").status, 200);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    assert_eq!(browser.get("/").status, 200, "pages have their own");
    let began = Instant::now();
    service.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "event streams do not hold up the stop");
}

#[test]
fn an_event_stream_tells_what_changes() {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 10);
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", OPERATOR);
    let mut stream = browser.open("/events");
    stream.set_read_timeout(Some(SOON)).expect("a time-out can be set");
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    let mut seen = Vec::new();
    let mut piece = [0; 65_536];
    while !String::from_utf8_lossy(&seen).contains("two-for-one") {
        let read = stream.read(&mut piece).expect("there is news in time");
        assert!(read > 0, "the stream ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..read]);
    }
    assert!(String::from_utf8_lossy(&seen).contains("text/event-stream"));
    service.stop();
}

/// A certificate for localhost, and its key, as PEM.
fn certificate() -> (Vec<u8>, Vec<u8>) {
    let key = PKey::generate_ed25519().expect("OpenSSL makes keys");
    let mut name = X509NameBuilder::new().expect("OpenSSL makes names");
    name.append_entry_by_text("CN", "localhost").expect("this is a name");
    let name = name.build();
    let mut builder = X509::builder().expect("OpenSSL makes certificates");
    builder.set_version(2).expect("there is version 3");
    builder.set_subject_name(&name).expect("this is a name");
    builder.set_issuer_name(&name).expect("this is a name");
    builder.set_pubkey(&key).expect("this is a key");
    builder.set_not_before(&Asn1Time::days_from_now(0).expect("a time")).expect("a time");
    builder.set_not_after(&Asn1Time::days_from_now(1).expect("a time")).expect("a time");
    builder.sign(&key, MessageDigest::null()).expect("this key signs");
    (builder.build().to_pem().expect("PEM"), key.private_key_to_pem_pkcs8().expect("PEM"))
}

/// Asks with TLS; the certificate's serial, the signature stands for it, and the answer.
fn ask_with_tls(address: &str, path: &str) -> Option<(Vec<u8>, String)> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).expect("OpenSSL speaks TLS");
    connector.set_verify(SslVerifyMode::NONE);
    let stream = TcpStream::connect(address).ok()?;
    let mut stream = connector.build().connect("localhost", stream).ok()?;
    let shown = stream.ssl().peer_certificate()?.to_der().ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Some((shown, String::from_utf8_lossy(&answer).into_owned()))
}

#[test]
fn with_a_certificate_the_page_is_served_with_tls_alone_and_probes_either_way() {
    let mut stage = stage();
    let (cert, key) = (stage.dir.path().join("server.pem"), stage.dir.path().join("server.key"));
    let write = || {
        let (pem, private) = certificate();
        std::fs::write(&key, private).expect("the test's folder can be written");
        std::fs::write(&cert, pem).expect("the test's folder can be written");
    };
    write();
    stage.config.set("http", "cert_file", cert.display().to_string()).set(
        "http",
        "key_file",
        key.display().to_string(),
    );
    stage.migrate();
    let service = stage.start();
    let at = address(&service);
    let plain = Browser::at(&at);
    assert_eq!(plain.get("/healthz").status, 200, "a probe needs no TLS");
    assert_eq!(plain.get("/").status, 403);
    let (shown, page) = ask_with_tls(&at, "/").expect("it speaks TLS");
    assert!(page.starts_with("HTTP/1.1 303"), "{page}");
    assert!(ask_with_tls(&at, "/healthz").expect("it speaks TLS").1.starts_with("HTTP/1.1 200"));
    write();
    wait_until("the new certificate counts", SOON, || {
        ask_with_tls(&at, "/healthz").is_some_and(|(now, _)| now != shown)
    });
    service.stop();
}
