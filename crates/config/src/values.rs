//! Single values: text becomes what it means, or a sentence that says what would be right.

use dinnerbell_core::model::number::Seconds;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

use super::{Start, TableName};

/// `64MiB`: bytes, or with a unit of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || "must be bytes, or a number with KiB, MiB or GiB, as 64MiB".to_owned();
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(|| "is more than any machine has".to_owned())
}

/// Bytes in the largest unit that divides them.
pub fn show_size(bytes: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// `90d`: a span of time, a day being 24 hours.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a span of time, as 90d or 12w".to_owned();
    let span: Span = text.trim().parse().map_err(|_| wrong())?;
    let span = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

/// `earliest`, `latest` or a time.
pub fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        time => time
            .parse::<jiff::Timestamp>()
            .ok()
            .filter(|time| time.as_second() >= 0)
            .map(|time| Start::At(Seconds::new(time.as_second())))
            .ok_or_else(|| "must be earliest, latest or an RFC 3339 time as 2026-03-01T12:00:00Z".to_owned()),
    }
}

/// `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map_err(|_| "must be an IP address and a port, as 127.0.0.1:8080 or [::]:8080".to_owned())
}

/// `schema.table`; one word alone lies in the schema `public`.
pub fn table(text: &str) -> Result<TableName, String> {
    let mut names = Vec::new();
    let mut rest = text;
    loop {
        let (name, after) = identifier(rest)?;
        names.push(name);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None if after.is_empty() => break,
            None => return Err(TABLE.to_owned()),
        }
    }
    match <[String; 2]>::try_from(names) {
        Ok([schema, table]) => Ok(TableName { schema, table }),
        Err(mut names) => match (names.pop(), names.is_empty()) {
            (Some(table), true) => Ok(TableName { schema: "public".to_owned(), table }),
            _ => Err(TABLE.to_owned()),
        },
    }
}

const TABLE: &str = "must be schema.table, a name of other than letters, digits and _ in double quotes";

/// One name as SQL reads it: folded to lower case, unless it stands in double quotes.
fn identifier(text: &str) -> Result<(String, &str), String> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted_identifier(quoted)?,
        None => {
            let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            if name.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
                return Err(TABLE.to_owned());
            }
            (name.to_lowercase(), rest)
        }
    };
    match name.len() {
        1..=63 if !name.contains('\0') => Ok((name, rest)),
        0 => Err(TABLE.to_owned()),
        _ => Err("is longer than the 63 bytes that Postgres allows for a name".to_owned()),
    }
}

fn quoted_identifier(mut rest: &str) -> Result<(String, &str), String> {
    let mut name = String::new();
    loop {
        let Some((part, after)) = rest.split_once('"') else { return Err("lacks a closing double quote".to_owned()) };
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Ok((name, after)),
        }
    }
}

/// The rules of Kafka for the name of a topic.
pub fn topic(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match text.len() {
        1..=249 if text.chars().all(allowed) && text != "." && text != ".." => Ok(text.to_owned()),
        _ => Err("must be the name of a topic: 1 to 249 letters, digits, dots, _ or -".to_owned()),
    }
}

/// The name of the group: it is a part of transactional ids and of `ce_source`.
pub fn group(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    match text.len() {
        1..=200 if text.chars().all(allowed) => Ok(text.to_owned()),
        _ => Err("must be 1 to 200 letters, digits, dots, colons, _ or -".to_owned()),
    }
}

/// `host:port,host:port`
pub fn bootstrap_servers(text: &str) -> Result<String, String> {
    let servers: Vec<&str> = text.split(',').map(str::trim).collect();
    match servers.iter().find(|server| !is_server(server)) {
        None => Ok(servers.join(",")),
        Some(wrong) => Err(format!("must be host:port, comma separated; `{}` is not", wrong.escape_debug())),
    }
}

fn is_server(server: &str) -> bool {
    let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (host, port),
            None => return false,
        },
        None => match server.split_once(':') {
            Some(parts) => parts,
            None => return false,
        },
    };
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    !host.is_empty() && host.chars().all(allowed) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_bytes_or_has_a_unit() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("512KiB", 512 << 10), ("123456", 123_456)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "64MB", "64 mib", "-1", "1.5GiB", "99999999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(show_size(64 << 20), "64MiB");
        assert_eq!(show_size(1500), "1500");
    }

    #[test]
    fn a_start_is_a_word_or_a_time() {
        assert_eq!(start("latest"), Ok(Start::Latest));
        assert_eq!(start("2023-03-12T10:06:02Z"), Ok(Start::At(Seconds::new(1_678_615_562))));
        assert_eq!(start("2023-03-12T13:06:02+03:00"), Ok(Start::At(Seconds::new(1_678_615_562))));
        for text in ["", "Earliest", "2023-03-12", "2023-03-12T10:06:02", "1678615562", "1969-01-01T00:00:00Z"] {
            assert!(start(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_table_is_read_as_sql_reads_it() {
        let table_name = |schema: &str, table: &str| TableName { schema: schema.to_owned(), table: table.to_owned() };
        assert_eq!(table("a.b"), Ok(table_name("a", "b")));
        assert_eq!(table("b"), Ok(table_name("public", "b")));
        assert_eq!(table("Public.Feedback"), Ok(table_name("public", "feedback")));
        assert_eq!(table(r#""My ""Schema"""."t.x""#), Ok(table_name(r#"My "Schema""#, "t.x")));
        for text in ["", ".", "a.", ".b", "a.b.c", "a b", "a-b", r#""a"#, r#""a"b"#, r#""""#, "1a", "a;drop"] {
            assert!(table(text).is_err(), "{text}");
        }
        assert!(table(&"x".repeat(64)).is_err());
    }

    #[test]
    fn servers_have_a_host_and_a_port() {
        assert_eq!(bootstrap_servers("a:9092, b:9093"), Ok("a:9092,b:9093".to_owned()));
        assert_eq!(bootstrap_servers("[::1]:9092"), Ok("[::1]:9092".to_owned()));
        for text in
            ["", "a", "a:", ":9092", "a:0", "a:99999", "a:9092,", "a:9092;b:9092", "PLAINTEXT://a:9092", "[::1]"]
        {
            assert!(bootstrap_servers(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_topics_and_groups_keep_their_rules() {
        assert!(topic("promo.in-1_x").is_ok());
        for text in ["", ".", "..", "a/b", "a b", "é"] {
            assert!(topic(text).is_err(), "{text}");
        }
        assert!(group("dinnerbell:eu-1").is_ok());
        assert!(group("").is_err() && group("a/b").is_err());
    }
}
