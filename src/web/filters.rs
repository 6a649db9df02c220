//! How values are written on the page. Everything that comes from outside is text: it is escaped by the templates, and what would turn or
//! hide it is shown.

use dinnerbell_core::model::number::Seconds;
use std::fmt::{Display, Write};

use askama::filters::Safe;
use askama::{Result, Values};
use jiff::Timestamp;

use dinnerbell_core::text_table::steers;

/// Text as it is, but for control characters and those that turn text around or are not to be seen: these are shown as escapes.
#[askama::filter_fn]
pub(crate) fn shown(text: impl Display, _: &dyn Values) -> Result<String> {
    Ok(visible(&text.to_string()))
}

/// A number with its thousands apart.
#[askama::filter_fn]
pub(crate) fn grouped(number: impl Display, _: &dyn Values) -> Result<String> {
    Ok(thousands(&number.to_string()))
}

/// Text as a part of an address.
#[askama::filter_fn]
pub(crate) fn in_path(text: impl Display, _: &dyn Values) -> Result<String> {
    Ok(super::paths::encoded(&text.to_string()))
}

/// The text, with control characters, and those that turn text around or are not to be seen, as escapes.
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => visible.push(c),
            c if c.is_control() || steers(c) => {
                let _ = write!(visible, "{}", c.escape_unicode());
            }
            c => visible.push(c),
        }
    }
    visible
}

/// A number with its thousands apart.
pub fn thousands(number: &str) -> String {
    let digits = number.trim_start_matches('-').split('.').next().unwrap_or_default().len();
    let sign = usize::from(number.starts_with('-'));
    let mut grouped = String::with_capacity(number.len() + digits / 3 * 3);
    for (at, c) in number.char_indices() {
        let left = (digits + sign).saturating_sub(at);
        if at > sign && left > 0 && left.is_multiple_of(3) {
            // A thin space that does not break.
            grouped.push('\u{202f}');
        }
        grouped.push(c);
    }
    grouped
}

/// A time that the ledger gave as RFC 3339: for a machine, and in UTC for a reader without script.
#[askama::filter_fn]
pub(crate) fn time(text: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    let text = text.to_string();
    Ok(Safe(text.parse::<Timestamp>().map_or_else(|_| "–".to_owned(), element)))
}

/// A time that a sender gave; it may lie beyond the calendar.
#[askama::filter_fn]
pub(crate) fn moment(seconds: &Seconds, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(said(*seconds)))
}

fn said(seconds: Seconds) -> String {
    Timestamp::from_second(seconds.get()).map_or_else(|_| format!("{seconds} s since 1970"), element)
}

fn element(time: Timestamp) -> String {
    format!("<time datetime=\"{time}\">{}</time>", time.strftime("%Y-%m-%d %H:%M:%S UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_or_hides_text_is_shown_and_letters_stay() {
        assert_eq!(visible("суп\n<b>"), "суп\n<b>");
        assert_eq!(visible("pay\u{202e}txt\u{0}\u{200b}"), "pay\\u{202e}txt\\u{0}\\u{200b}");
    }

    #[test]
    fn thousands_stand_apart() {
        let grouped = ["0", "999", "1000", "-12345678"].map(thousands);
        assert_eq!(grouped, ["0", "999", "1\u{202f}000", "-12\u{202f}345\u{202f}678"]);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_a_number() {
        assert_eq!(said(Seconds::new(0)), "<time datetime=\"1970-01-01T00:00:00Z\">1970-01-01 00:00:00 UTC</time>");
        assert_eq!(said(Seconds::MAX), "9223372036854775807 s since 1970");
    }
}
