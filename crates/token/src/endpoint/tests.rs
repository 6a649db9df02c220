use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{Ssl, SslAcceptor};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509Builder, X509NameBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::jwt::tests::unsigned;

fn settings(url: String) -> EndpointSettings {
    EndpointSettings {
        url,
        client_id: "bell".into(),
        client_secret: "s3c:ret".into(),
        scope: "kafka write".into(),
        roots: None,
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// Takes one request and answers it. Returns the request.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut request = Vec::new();
    let whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).to_lowercase();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
        (body.len() >= length).then_some(())
    };
    while whole(&request).is_none() {
        if stream.read_buf(&mut request).await.unwrap() == 0 {
            break;
        }
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    // Whoever asked may have had enough of it.
    let _ = stream.shutdown().await;
    String::from_utf8(request).unwrap()
}

/// Asks an endpoint that gives this answer. Returns the outcome, and what was asked.
async fn asked(answer: &str) -> (Result<Token, TokenError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/realms/it/token?tenant=7", listener.local_addr().unwrap());
    let endpoint = Endpoint::new(&settings(url)).unwrap();
    let served = async { serve(listener.accept().await.unwrap().0, answer).await };
    tokio::join!(endpoint.fetch(), served)
}

fn granted(name: &str) -> String {
    let token = unsigned(&format!(r#"{{"sub":"{name}","exp":9}}"#));
    answer("200 OK", &format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":300}}"#))
}

#[tokio::test]
async fn a_token_is_asked_for_as_librdkafka_asks() {
    let (token, request) = asked(&granted("anna")).await;
    assert_eq!(token.unwrap().principal(), "anna");
    assert!(request.starts_with("POST /realms/it/token?tenant=7 HTTP/1.1\r\n"), "{request}");
    let says = |line: &str| request.to_lowercase().contains(&format!("\r\n{}", line.to_lowercase()));
    assert!(says("Content-Type: application/x-www-form-urlencoded\r\n"), "{request}");
    assert!(says("Accept: application/json\r\n") && says("Host: 127.0.0.1:"), "{request}");
    assert!(request.contains(&format!("Basic {}\r\n", STANDARD.encode("bell:s3c:ret"))), "{request}");
    assert!(request.ends_with("\r\n\r\ngrant_type=client_credentials&scope=kafka+write"), "{request}");
}

#[tokio::test]
async fn a_refusal_repeats_the_servers_reason_and_names_the_settings_and_no_secret() {
    let body = r#"{"error":"invalid_client","error_description":"no such\nclient","access_token":"s3cret"}"#;
    let (refused, _) = asked(&answer("401 Unauthorized", body)).await;
    let Err(TokenError::Refused(text)) = refused else { panic!("{refused:?}") };
    for part in ["/realms/it/token: 401", "invalid_client: no suchclient", "sasl.oauthbearer.client.id", ".scope"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("s3c") && !text.contains("tenant"), "{text}");
}

#[tokio::test]
async fn what_passes_is_told_from_what_is_to_be_mended() {
    for status in ["500 Oops", "503 Away", "429 Slower", "408 Late"] {
        let (outcome, _) = asked(&answer(status, "<html>")).await;
        assert!(matches!(&outcome, Err(TokenError::Unavailable(text)) if text.contains(&status[..3])), "{outcome:?}");
    }
    let moved =
        "HTTP/1.1 302 Found\r\nLocation: https://u:s3c@elsewhere/token?key=s3cret#s3cret\r\nContent-Length: 0\r\n\r\n";
    for (answer, wrong) in [
        (moved, "302 Found to https://elsewhere/token: set"),
        (&*answer("404 Not Found", ""), "token.endpoint.url"),
        (&*answer("200 OK", "<html>"), "no access_token"),
        (&*answer("200 OK", r#"{"access_token":"s3cret"}"#), "no JWT"),
    ] {
        let (outcome, _) = asked(answer).await;
        let told = matches!(&outcome, Err(TokenError::Refused(text)) if text.contains(wrong) && !text.contains("s3c"));
        assert!(told, "{outcome:?}");
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_read_no_further_than_its_bound() {
    let long = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", " ".repeat(LARGEST + 1));
    let (outcome, _) = asked(&long).await;
    assert!(matches!(&outcome, Err(TokenError::Unavailable(text)) if text.contains("cannot be read")), "{outcome:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_away_may_come_and_names_its_setting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    drop(listener);
    let outcome = Endpoint::new(&settings(url)).unwrap().fetch().await;
    assert!(matches!(&outcome, Err(TokenError::Unavailable(text)) if text.contains("endpoint.url")), "{outcome:?}");
}

#[test]
fn an_address_that_cannot_be_asked_is_told_before_anything_is() {
    for url in ["", "token", "ftp://host/token", "https://", "https://bell:s3cret@host/token", "file:relative"] {
        let problem = Endpoint::new(&settings(url.into())).unwrap_err();
        assert!(!problem.contains("s3cret"), "{problem}");
    }
    let endpoint = Endpoint::new(&settings("https://[::1]:8443/token?key=s3cret".into())).unwrap();
    assert_eq!((endpoint.host.as_str(), endpoint.to_string().as_str()), ("::1", "https://[::1]:8443/token"));
    assert!(!format!("{endpoint:?}").contains("s3c"));
}

/// A certificate for this machine, signed by itself.
fn certificate() -> (X509, PKey<Private>) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "token endpoint").unwrap();
    let name = name.build();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.append_extension(BasicConstraints::new().ca().build().unwrap()).unwrap();
    let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}

#[tokio::test]
async fn an_endpoint_is_believed_by_the_authority_that_is_named_and_by_no_other() {
    let (own, key) = certificate();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&own).unwrap();
    acceptor.set_private_key(&key).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/token", listener.local_addr().unwrap());
    let trusting = |roots: Option<&X509>| {
        let roots = roots.map(|root| root.to_pem().unwrap());
        Endpoint::new(&EndpointSettings { roots, ..settings(url.clone()) }).unwrap()
    };
    let served = async {
        let mut stream =
            SslStream::new(Ssl::new(acceptor.context()).unwrap(), listener.accept().await.unwrap().0).unwrap();
        match Pin::new(&mut stream).accept().await {
            Ok(()) => serve(stream, &granted("anna")).await,
            Err(_) => String::new(),
        }
    };
    let endpoint = trusting(Some(&own));
    let (token, request) = tokio::join!(endpoint.fetch(), served);
    assert_eq!(token.unwrap().principal(), "anna");
    assert!(request.starts_with("POST /token "), "{request}");
    for roots in [Some(certificate().0), None] {
        let endpoint = trusting(roots.as_ref());
        let hangs_up = async {
            let stream = listener.accept().await.unwrap().0;
            let mut stream = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
            assert!(Pin::new(&mut stream).accept().await.is_err());
        };
        let (refused, ()) = tokio::join!(endpoint.fetch(), hangs_up);
        let told = matches!(&refused, Err(TokenError::Refused(text)) if text.contains("https.ca.location"));
        assert!(told, "{refused:?}");
    }
}
