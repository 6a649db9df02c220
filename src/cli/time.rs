//! Times as they are given on the command line: RFC 3339, epoch seconds, or a span with its sign.

use dinnerbell_core::model::number::Seconds;
use jiff::{Span, SpanRelativeTo, Timestamp, Unit};

use super::Failure;

/// `--since`: a time that is over, or none where it is not given.
pub fn since(text: Option<&str>) -> Result<Option<Seconds>, Failure> {
    let since = text.map(|text| past(text, Seconds::new(Timestamp::now().as_second()))).transpose();
    since.map_err(|problem| Failure::Usage(format!("--since {problem}")))
}

/// `--until`: any time, or none where it is not given.
pub fn until(text: Option<&str>) -> Result<Option<Seconds>, Failure> {
    let until = |text| from_now(text, Seconds::new(Timestamp::now().as_second()));
    let wrong = "--until must be an RFC 3339 time, epoch seconds, now, or a span from now, as -1h";
    text.map(|text| until(text).ok_or_else(|| Failure::Usage(wrong.to_owned()))).transpose()
}

fn past(text: &str, now: Seconds) -> Result<Seconds, String> {
    match from_now(text, now) {
        Some(time) if time <= now => Ok(time),
        Some(_) => Err("lies in the future: of a span, give what has passed, as -24h".to_owned()),
        None => Err("must be an RFC 3339 time, epoch seconds, now, or a span back from now, as -24h".to_owned()),
    }
}

/// `--start`: when a campaign begins.
pub fn start(text: &str, now: Seconds) -> Result<Seconds, Failure> {
    let wrong = "--start must be now, an RFC 3339 time, epoch seconds, or a span from now, as +10m";
    from_now(text, now).ok_or_else(|| Failure::Usage(wrong.to_owned()))
}

/// `--end`: when a campaign ends.
pub fn end(text: &str, start: Seconds) -> Result<Seconds, Failure> {
    let wrong = "--end must be an RFC 3339 time, epoch seconds, or a span from its start, as +2h or +1h30m";
    time(text, start).ok_or_else(|| Failure::Usage(wrong.to_owned()))
}

fn from_now(text: &str, now: Seconds) -> Option<Seconds> {
    if text == "now" { Some(now) } else { time(text, now) }
}

/// RFC 3339, epoch seconds, or a span from `base` with its sign.
fn time(text: &str, base: Seconds) -> Option<Seconds> {
    if text.starts_with(['+', '-']) {
        let span: Span = text.parse().ok()?;
        let seconds = span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())).ok()?;
        // A span of jiff is at most some 10^12 seconds: exact in an f64, and far from the limits of an i64.
        return Some(Seconds::new(base.get().saturating_add(seconds as i64)));
    }
    text.parse::<Seconds>().ok().or_else(|| text.parse::<Timestamp>().ok().map(|time| Seconds::new(time.as_second())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_absolute_or_relative() {
        for (text, seconds) in [
            ("1678615562", 1_678_615_562),
            ("2023-03-12T10:06:02Z", 1_678_615_562),
            ("+2h", 1000 + 7200),
            ("+1h30m", 1000 + 5400),
            ("+1d", 1000 + 86_400),
            ("-10m", 1000 - 600),
            ("+0s", 1000),
        ] {
            assert_eq!(time(text, Seconds::new(1000)), Some(Seconds::new(seconds)), "{text}");
        }
        for text in ["", "2h", "tomorrow", "+", "+1month", "+2", "2023-03-12", "1.5", "now"] {
            assert_eq!(time(text, Seconds::new(1000)), None, "{text}");
        }
    }

    #[test]
    fn nothing_has_happened_since_a_time_that_is_still_to_come() {
        for (text, seconds) in [("-10m", 400), ("now", 1000), ("1000", 1000), ("1970-01-01T00:00:00Z", 0)] {
            assert_eq!(past(text, Seconds::new(1000)), Ok(Seconds::new(seconds)), "{text}");
        }
        for text in ["+1h", "1001", "2999-01-01T00:00:00Z"] {
            assert!(past(text, Seconds::new(1000)).is_err_and(|problem| problem.contains("future")), "{text}");
        }
        assert!(past("2h", Seconds::new(1000)).is_err_and(|problem| problem.ends_with("as -24h")));
    }
}
