//! Pictures, drawn by the server: when a campaign was told, as a line that rises, and the lanes as a strip.

use askama::Template;
use jiff::Timestamp;

use crate::operator::campaigns::Told;
use crate::operator::lanes::LaneStatus;

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

/// Width and height of a lane's place in the strip.
const CELL: (usize, usize) = (44, 36);
/// Lanes in a row of the strip: as many as can be read on a telephone.
const IN_A_ROW: usize = 12;

/// All lanes, each a cell with its number: how it is coloured, and a mark for readers who see no colours.
#[derive(Debug, Template)]
#[template(path = "strip.html")]
pub struct Strip {
    width: usize,
    height: usize,
    label: String,
    cells: Vec<Cell>,
}

#[derive(Debug)]
struct Cell {
    x: usize,
    y: usize,
    tone: &'static str,
    text: String,
    title: String,
}

impl Strip {
    /// Draws the lanes; `look` says how one is coloured and what it does.
    pub fn new(lanes: &[LaneStatus], look: impl Fn(&LaneStatus) -> (&'static str, &'static str)) -> Self {
        let cell = |(at, lane): (usize, &LaneStatus)| {
            let (tone, state) = look(lane);
            let mark = match tone {
                "good" => "",
                "bad" => "!",
                _ => "?",
            };
            let (x, y) = (at % IN_A_ROW * CELL.0, at / IN_A_ROW * CELL.1);
            let title = format!("lane {}: {state}", lane.lane);
            Cell { x, y, tone, text: format!("{}{mark}", lane.lane), title }
        };
        let (width, height) = (lanes.len().min(IN_A_ROW) * CELL.0, lanes.len().div_ceil(IN_A_ROW) * CELL.1);
        let states: Vec<_> = lanes.iter().map(|lane| look(lane).1).collect();
        let cells = lanes.iter().enumerate().map(cell).collect();
        Self { width, height, label: format!("Lanes: {}", counted(&states)), cells }
    }
}

/// How many of each, the most frequent first.
pub fn counted(states: &[&'static str]) -> String {
    let mut counts: Vec<(usize, &str)> = Vec::new();
    for state in states {
        match counts.iter_mut().find(|(_, known)| known == state) {
            Some((count, _)) => *count += 1,
            None => counts.push((1, state)),
        }
    }
    counts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    counts.iter().map(|(count, state)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_counted_the_most_frequent_first() {
        assert_eq!(counted(&["halted", "running", "running"]), "2 running, 1 halted");
        assert_eq!(counted(&[]), "");
    }

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
