//! Somebody at a browser, as far as HTTP is concerned.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::wait::wait_for;
use crate::support::{Service, Setting, Stage};
use std::time::Duration;

/// How soon a service that starts serves HTTP.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
/// The operators' and the viewers' token of these tests.
pub const OPERATOR: &str = "operator-token-of-the-tests";
pub const VIEWER: &str = "viewer-token-of-the-tests";

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunked(body.as_bytes()) } else { body.to_owned() };
        Self { status, head: head.to_owned(), body }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

fn unchunked(mut bytes: &[u8]) -> String {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&bytes[..end]), 16).unwrap_or(0);
        if size == 0 || bytes.len() < end + 2 + size {
            break;
        }
        all.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[(end + 4 + size).min(bytes.len())..];
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Where an instance serves HTTP.
#[track_caller]
pub fn address(service: &Service) -> String {
    wait_for("the address is in the log", SERVES_WITHIN, || {
        let log = service.log();
        let at = log.find("127.0.0.1:")?;
        log[at..].split(|c: char| !(c.is_ascii_digit() || ".:".contains(c))).next().map(str::to_owned)
    })
}

/// A browser of somebody.
#[derive(Debug, Clone)]
pub struct Browser {
    pub address: String,
    pub cookie: Option<String>,
}

impl Browser {
    /// Nobody has signed in with it.
    pub fn at(address: &str) -> Self {
        Self { address: address.to_owned(), cookie: None }
    }

    /// Somebody has signed in with it.
    #[track_caller]
    pub fn signed_in(service: &Service, name: &str, token: &str) -> Self {
        let mut browser = Self::at(&address(service));
        let answer = browser.sign_in(name, token);
        assert_eq!(answer.status, 303, "{answer:?}");
        browser
    }

    /// Signs in, and keeps the cookie.
    pub fn sign_in(&mut self, name: &str, token: &str) -> Answer {
        let answer = self.post("/sign-in", &[("name", name), ("token", token), ("to", "lanes")]);
        self.cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
        answer
    }

    /// Asks for a page.
    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, "")
    }

    /// Asks for a page, with further headers.
    pub fn get_with(&self, path: &str, headers: &str) -> Answer {
        let cookie = self.cookie_header();
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\nConnection: close\r\n{cookie}{headers}\r\n",
            self.address
        ))
    }

    /// Sends a form.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_with(path, fields, "Sec-Fetch-Site: same-origin\r\n")
    }

    /// Sends a form, with further headers.
    pub fn post_with(&self, path: &str, fields: &[(&str, &str)], headers: &str) -> Answer {
        let pairs = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        let cookie = self.cookie_header();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
             Connection: close\r\n{cookie}{headers}\r\n{body}",
            self.address,
            body.len()
        ))
    }

    /// The proof that forms of a page hold.
    #[track_caller]
    pub fn form_token(&self, page: &str) -> String {
        let answer = self.get(page);
        let (_, rest) = answer.body.split_once("name=\"form_token\" value=\"").expect("the page has a form");
        rest.split('"').next().expect("the value ends").to_owned()
    }

    /// Sends a form of a page, with its proof.
    #[track_caller]
    pub fn order(&self, page: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.form_token(page);
        let all: Vec<_> = fields.iter().copied().chain([("form_token", token.as_str())]).collect();
        self.post(path, &all)
    }

    /// Begins to ask, and leaves the answer to be read.
    pub fn open(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let cookie = self.cookie_header();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n{cookie}\r\n", self.address).expect("it reads");
        stream
    }

    fn cookie_header(&self) -> String {
        self.cookie.as_ref().map_or(String::new(), |cookie| format!("Cookie: {cookie}\r\n"))
    }

    fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("it answers");
        Answer::parse(&bytes)
    }
}

/// Text as a part of an address or a form.
pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A stage whose service has both tokens.
pub fn stage() -> Stage {
    stage_with(Setting::default())
}

/// The same, with a setting of its own.
pub fn stage_with(setting: Setting) -> Stage {
    let mut stage = Stage::with(setting);
    stage.config.set("http", "token", OPERATOR).set("http", "viewer_token", VIEWER);
    stage
}
