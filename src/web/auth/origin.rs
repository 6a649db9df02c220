//! What another page makes a browser send: by another name of this machine (DNS rebinding), or as a form of its own (cross-site request).

use std::net::IpAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method};

/// Names by which the page may be called.
#[derive(Debug, Clone)]
pub struct Hosts {
    configured: Vec<String>,
    own: [String; 2],
}

impl Hosts {
    /// Those that are configured, localhost and this machine's own name.
    pub fn new(configured: &[String], machine: &str) -> Self {
        Self { configured: configured.to_vec(), own: ["localhost".to_owned(), machine.to_ascii_lowercase()] }
    }

    /// Whether it is called by one of these, or by an address: no name of somebody else leads here by an address.
    pub fn know(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
        let name = without_port(host).to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.is_ok() || self.configured.iter().chain(&self.own).any(|own| own == name.trim_end_matches('.'))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a page of somebody else made the browser send this. A link that is followed is none, as long as it changes nothing.
pub fn is_foreign(method: &Method, headers: &HeaderMap, hosts: &Hosts) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        // No page can make its browser lie here.
        (Some("same-origin" | "none"), _) => false,
        (Some(_), _) => changes || text("sec-fetch-mode") != Some("navigate"),
        (None, Some(origin)) if changes => {
            let of = origin.split_once("://").map_or("", |(_, of)| of);
            let is_asked = text(HOST.as_str()).is_some_and(|host| host.eq_ignore_ascii_case(of));
            // A proxy in front may ask by another name.
            !is_asked && !hosts.configured.iter().any(|own| without_port(of).eq_ignore_ascii_case(own))
        }
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_name_that_nobody_listed_is_not_ours() {
        let hosts = Hosts::new(&["bell.example.org".to_owned()], "Box");
        for known in [
            "localhost:8080",
            "127.0.0.1",
            "[::1]:8080",
            "bell.example.org",
            "BELL.example.org.:443",
            "box:1",
            "10.0.0.7:8080",
        ] {
            assert!(hosts.know(&headers(&[("host", known)])), "{known}");
        }
        for other in ["evil.example", "localhost.evil.example", "bell.example.org.evil", "", "127.0.0.1.evil"] {
            assert!(!hosts.know(&headers(&[("host", other)])), "{other}");
        }
        assert!(!hosts.know(&HeaderMap::new()));
    }

    #[test]
    fn what_another_page_sends_is_foreign_and_a_link_to_this_one_is_not() {
        let hosts = Hosts::new(&["bell.example.org".to_owned()], "box");
        let foreign = |method: Method, pairs: &[(&'static str, &str)]| is_foreign(&method, &headers(pairs), &hosts);
        let host = ("host", "bell:1");
        assert!(!foreign(Method::POST, &[host, ("origin", "http://bell:1"), ("sec-fetch-site", "same-origin")]));
        assert!(!foreign(Method::POST, &[host]), "no browser");
        assert!(foreign(Method::POST, &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
        assert!(foreign(Method::POST, &[host, ("sec-fetch-site", "same-site")]));
        assert!(foreign(Method::POST, &[host, ("origin", "http://evil")]));
        assert!(foreign(Method::POST, &[host, ("origin", "null")]));
        assert!(foreign(Method::POST, &[host, ("origin", "http://bell:2")]), "another port is another page");
        assert!(
            !foreign(Method::POST, &[host, ("origin", "https://bell.example.org")]),
            "a proxy asks by another name"
        );
        assert!(!foreign(Method::GET, &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
        assert!(foreign(Method::GET, &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]));
    }
}
