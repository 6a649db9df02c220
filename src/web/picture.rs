//! Pictures, drawn by the server: when a campaign was told, as a line that rises.

use crate::operator::campaigns::Told;
use jiff::Timestamp;

/// Width and height in the picture's own units.
pub const SIZE: (f64, f64) = (600.0, 160.0);

/// How many were told by when.
#[derive(Debug, Clone, PartialEq)]
pub struct Rising {
    /// The line, as the points of a polyline.
    pub line: String,
    /// What is below it, as the points of a polygon.
    pub area: String,
    /// How many were told in all.
    pub told: i64,
    /// When the first of them was.
    pub from: String,
    /// When the last of them was.
    pub until: String,
}

/// The picture of parts of time with drafts, in the order of time; none where there are none, or their times are not known.
pub fn rising(parts: &[Told]) -> Option<Rising> {
    let micros = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok().map(Timestamp::as_microsecond);
    let (first, last) = (parts.first()?, parts.last()?);
    let (from, until) = (micros(&first.since)?, micros(&last.until)?);
    let told: i64 = parts.iter().map(|part| part.drafts).sum();
    let (width, height) = SIZE;
    if until <= from {
        return None;
    }
    let span = (until - from) as f64;
    let point = |at: i64, sum: i64| {
        format!(
            "{:.1},{:.1}",
            (at - from) as f64 / span * width,
            height - sum as f64 / told.max(1) as f64 * (height - 4.0)
        )
    };
    let (mut sum, mut points) = (0, vec![point(from, 0)]);
    for part in parts {
        // Before it, as many as before: nobody was told between the parts.
        points.push(point(micros(&part.since)?, sum));
        sum += part.drafts;
        points.push(point(micros(&part.until)?, sum));
    }
    let line = points.join(" ");
    let area = format!("0,{height} {line} {width},{height}");
    Some(Rising { line, area, told, from: first.since.clone()?, until: last.until.clone()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(since: &str, until: &str, drafts: i64) -> Told {
        let time = |second: &str| Some(format!("2026-03-01T12:00:{second}Z"));
        Told { since: time(since), until: time(until), drafts, late: 0 }
    }

    #[test]
    fn the_line_rises_from_nobody_to_all_and_stays_level_while_nobody_is_told() {
        let picture = rising(&[part("00", "01", 30), part("09", "10", 10)]).unwrap();
        assert_eq!(picture.line, "0.0,160.0 0.0,160.0 60.0,43.0 540.0,43.0 600.0,4.0");
        assert_eq!((picture.told, picture.from.as_str()), (40, "2026-03-01T12:00:00Z"));
    }

    #[test]
    fn without_times_there_is_no_picture_and_a_moment_is_none() {
        assert_eq!(rising(&[]), None);
        assert_eq!(rising(&[Told { since: None, until: None, drafts: 1, late: 0 }]), None);
        assert_eq!(rising(&[part("00", "00", 1)]), None, "all were told in one moment");
    }
}
