//! Text for a terminal: columns that line up, and what comes from outside such that it cannot steer the terminal.

/// Lines up columns. What comes from outside may hold control characters: they are shown escaped, so that they cannot steer a terminal.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let head = head.map(str::to_owned);
    let lines: Vec<[String; N]> = std::iter::once(head).chain(rows).map(|row| row.map(|cell| plain(&cell))).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Text of at most so many characters: what is longer ends with an ellipsis.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
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

/// Characters that change the direction of text, or are not to be seen.
fn steers(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
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
    }

    #[test]
    fn columns_line_up_and_control_characters_are_escaped() {
        let rows = [["a".to_owned(), "1".to_owned()], ["\u{1b}[2Jгость".to_owned(), String::new()]];
        let text = table(["ID", "N"], rows);
        assert_eq!(text, "ID              N\na               1\n\\u{1b}[2Jгость\n");
    }
}
