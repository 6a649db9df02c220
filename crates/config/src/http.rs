//! `[http]`: where HTTP is served, who may read and order by it, and under which names.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::Secret;

/// `[http]`
#[derive(Debug, Clone)]
pub struct Http {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Who shows it may read and order.
    pub token: Option<Token>,
    /// Who shows it may read.
    pub viewer_token: Option<Token>,
    /// Certificate and key of this service.
    pub tls: Option<HttpTls>,
    /// Names by which the page is called, besides addresses and this machine's own.
    pub hosts: Vec<String>,
    /// Who tells by a header who asks.
    pub proxy: Option<Proxy>,
    /// Whether the page is served beyond this machine without TLS.
    pub insecure: bool,
}

impl Http {
    /// Everything but the address as it is when left out.
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, token: None, viewer_token: None, tls: None, hosts: Vec::new(), proxy: None, insecure: false }
    }

    /// Whether somebody can show that they may read or order.
    pub fn has_sign_in(&self) -> bool {
        self.token.is_some() || self.viewer_token.is_some()
    }
}

/// A token, and the file it came from.
#[derive(Debug, Clone)]
pub struct Token {
    /// The token, as it was when the configuration was read.
    pub secret: Secret,
    /// Its file: what stands in it later counts then.
    pub file: Option<PathBuf>,
}

/// Certificate and key, PEM files: what stands in them later counts then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTls {
    /// The certificate, and those of the authorities between it and the root.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// A proxy that has found out who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The header in which it says so.
    pub header: String,
    /// Where it may come from.
    pub from: Vec<Network>,
    /// What those may whom it names.
    pub role: Role,
}

/// What somebody may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything.
    Viewer,
    /// Look, pause, resume, cancel and replay.
    Operator,
}

impl Role {
    /// Whether they may order.
    pub fn may_order(self) -> bool {
        self == Self::Operator
    }

    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// An address, or all that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// `10.0.0.1`, `10.0.0.0/8` or `fd00::/8`; what would be right otherwise.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("must be addresses or networks, as 127.0.0.1, 10.0.0.0/8; `{}` is none", text.escape_debug());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if bits > most { Err(wrong()) } else { Ok(Self { address, bits }) }
    }

    /// Whether an address is in it. One of IPv4 that was written as one of IPv6 is itself.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.bits);
                u32::from(own).checked_shr(shift) == u32::from(other).checked_shr(shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.bits);
                u128::from(own).checked_shr(shift) == u128::from(other).checked_shr(shift)
            }
            _ => false,
        }
    }
}

/// Networks, comma separated.
pub fn networks(text: &str) -> Result<Vec<Network>, String> {
    text.split(',').map(|network| Network::parse(network.trim())).collect()
}

/// Names of hosts, comma separated, without their port and in lower case.
pub fn hosts(text: &str) -> Result<Vec<String>, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let host = |host: &str| match host.trim() {
        host if (1..=253).contains(&host.len()) && host.chars().all(allowed) => Ok(host.to_ascii_lowercase()),
        host => Err(format!("must be names of hosts without port, comma separated; `{}` is none", host.escape_debug())),
    };
    text.split(',').map(host).collect()
}

/// The name of a header that a proxy sets; those that mean something else are refused.
pub fn header(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let taken = ["authorization", "connection", "content-length", "content-type", "cookie", "host", "origin"];
    let name = text.to_ascii_lowercase();
    match (1..=64).contains(&name.len()) && name.chars().all(allowed) && !taken.contains(&name.as_str()) {
        true => Ok(name),
        false => Err("must be the name of a header that only the proxy sets, as X-Forwarded-User".to_owned()),
    }
}

/// The rules of a token: it travels in a header.
pub fn token(text: &str) -> Result<String, String> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true if text.is_empty() => Err("must not be blank, nor hold control characters".to_owned()),
        true => Ok(text.to_owned()),
        false => Err("must be of visible ASCII characters, without blanks: it travels in a header".to_owned()),
    }
}

/// Reads the file of a token again; what is wrong with it.
pub fn read_token(file: &Path) -> Result<Secret, String> {
    let secret = super::secret::read(file)?;
    token(&secret).map(Secret::new).map_err(|problem| format!("the token in {} {problem}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_the_addresses_that_begin_as_it_does() {
        let holds = |network: &str, address: &str| Network::parse(network).unwrap().contains(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.9.8.7") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.0.2.1", "192.0.2.1") && !holds("192.0.2.1", "192.0.2.2"));
        assert!(holds("192.0.2.1", "::ffff:192.0.2.1"), "IPv4 in the clothes of IPv6");
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("fd00::/8", "fdab::1") && !holds("fd00::/8", "fe80::1"));
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "proxy", "10.0.0.1/"] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_have_no_port_and_a_header_means_nothing_else() {
        assert_eq!(hosts("Bell.Example.org, bell"), Ok(vec!["bell.example.org".to_owned(), "bell".to_owned()]));
        for text in ["", "a,,b", "bell:8080", "https://bell", "a b"] {
            assert!(hosts(text).is_err(), "{text}");
        }
        assert_eq!(header("X-Forwarded-User"), Ok("x-forwarded-user".to_owned()));
        for text in ["", "Cookie", "authorization", "x user", "x:"] {
            assert!(header(text).is_err(), "{text}");
        }
    }
}
