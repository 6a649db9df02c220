//! Text for a terminal: columns that line up, and what comes from outside such that it cannot steer the terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Lines up columns. What comes from outside may hold control characters: they are shown escaped, so that they cannot steer a terminal.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    Fit { width: usize::MAX, flexible: &[], optional: &[] }.table(head, rows)
}

/// How a table is made to fit.
#[derive(Debug, Clone, Copy)]
pub struct Fit<'a> {
    /// How many places a line has.
    pub width: usize,
    /// Columns that are cut where there is not enough room, the first one first, each with the places that it keeps at least.
    pub flexible: &'a [(usize, usize)],
    /// Columns that are left out where nothing is in them.
    pub optional: &'a [usize],
}

impl Fit<'_> {
    /// Lines up columns, as wide as there is room for.
    pub fn table<const N: usize>(self, head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
        let mut lines: Vec<[String; N]> = vec![head.map(str::to_owned)];
        lines.extend(rows.into_iter().map(|row| row.map(|cell| plain(&cell))));
        let is_empty = |column: usize| lines.len() > 1 && lines[1..].iter().all(|line| line[column] == "-");
        let shown: Vec<usize> =
            (0..N).filter(|column| !(self.optional.contains(column) && is_empty(*column))).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].width()).max().unwrap_or(0);
        let mut widths: [usize; N] = std::array::from_fn(width);
        self.narrow(&mut widths, &shown);
        let mut text = String::new();
        for line in &lines {
            let cells = shown.iter().map(|column| padded(&cut(&line[*column], widths[*column]), widths[*column]));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// Takes from the flexible columns what is too much.
    fn narrow(self, widths: &mut [usize], shown: &[usize]) {
        let between = 2 * shown.len().saturating_sub(1);
        let mut too_much =
            (shown.iter().map(|column| widths[*column]).sum::<usize>() + between).saturating_sub(self.width);
        for (column, least) in self.flexible.iter().filter(|(column, _)| shown.contains(column)) {
            let taken = widths[*column].saturating_sub(*least).min(too_much);
            widths[*column] -= taken;
            too_much -= taken;
        }
    }
}

/// Text with blanks up to this many places.
fn padded(text: &str, places: usize) -> String {
    format!("{text}{}", " ".repeat(places.saturating_sub(text.width())))
}

/// Text of at most `most` places of a terminal. Longer text ends with an ellipsis. A wide character takes two places.
pub fn cut(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(if fits { width } else { left });
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Text on one line, control characters escaped.
pub fn plain(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// Bytes on one line: UTF-8 as it is, but for what would steer a terminal or turn the text around; everything else as escapes.
pub fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() || steers(c) => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a character changes the direction of text, or is not to be seen.
pub fn steers(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A value that may be missing.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable_and_cannot_steer_a_terminal() {
        assert_eq!(readable("суп \u{1f35c}".as_bytes()), "суп \u{1f35c}");
        assert_eq!(readable(b"a\xff\x00\x1b[2J\n\\"), "a\\xff\\u{0}\\u{1b}[2J\\n\\\\");
        assert_eq!(readable("pay\u{202e}txt".as_bytes()), "pay\\u{202e}txt");
    }

    #[test]
    fn what_is_too_long_ends_with_an_ellipsis() {
        assert_eq!([cut("кафе", 4), cut("кафе у моря", 5)], ["кафе", "кафе…"]);
        assert_eq!([cut("拉麺屋さん", 10), cut("拉麺屋さん", 8), cut("拉麺屋さん", 2)], ["拉麺屋さん", "拉麺屋…", "…"]);
        assert_eq!(cut("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…", "a mark takes no place of its own");
    }

    #[test]
    fn a_table_fits_by_cutting_its_flexible_columns_and_leaving_out_empty_ones() {
        let fit = Fit { width: 20, flexible: &[(1, 4), (0, 3)], optional: &[2] };
        let row = |id: &str, what: &str| [id.to_owned(), what.to_owned(), "-".to_owned(), "9".to_owned()];
        let rows = [row("0123456789", "拉麺屋さんの昼食"), row("b", "soup")];
        let text = fit.table(["ID", "WHAT", "NEVER", "N"], rows.clone());
        assert_eq!(text, "ID          WHAT   N\n0123456789  拉麺…  9\nb           soup   9\n");
        assert!(text.lines().all(|line| line.width() <= 20), "{text}");
        let narrow = Fit { width: 10, ..fit }.table(["ID", "WHAT", "NEVER", "N"], rows);
        assert!(narrow.starts_with("ID   WHAT  N\n01…  拉…   9\n"), "{narrow}");
    }

    #[test]
    fn columns_line_up_and_control_characters_are_escaped() {
        let rows = [["a".to_owned(), "1".to_owned()], ["\u{1b}[2Jгость".to_owned(), String::new()]];
        let text = table(["ID", "N"], rows);
        assert_eq!(text, "ID              N\na               1\n\\u{1b}[2Jгость\n");
    }
}
