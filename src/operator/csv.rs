//! Comma-separated values, as RFC 4180 has them, for spreadsheets.

/// A line of cells. One with a comma, a quote or a line break stands in quotes. One that a spreadsheet would take for a formula gets an apostrophe
/// before it: it begins with `=`, `+`, `-`, `@`, a tab or a carriage return. Who needs ids byte for byte asks for JSON.
pub fn line<const N: usize>(cells: [&str; N]) -> String {
    format!("{}\r\n", cells.map(cell).join(","))
}

fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    // An empty cell is quoted: so that a line of one empty id is no empty line.
    match text.is_empty() || text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{guard}{}\"", text.replace('"', "\"\"")),
        false => format!("{guard}{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be_and_none_is_a_formula() {
        assert_eq!(line(["client_id", "reason"]), "client_id,reason\r\n");
        assert_eq!(line(["a,b", "say \"hi\"", "two\nlines"]), "\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\"\r\n");
        assert_eq!(line(["=1+1", "+7900", "-x", "@a", "\tb"]), "'=1+1,'+7900,'-x,'@a,'\tb\r\n");
        assert_eq!(line(["\r=cmd", "", "a=b"]), "\"'\r=cmd\",\"\",a=b\r\n");
    }
}
