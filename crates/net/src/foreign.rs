//! What of a foreign text or address may be printed.

/// Most characters of a server's own words that are repeated.
const MOST_WORDS: usize = 300;

/// A server's own words as they may be repeated: bounded, and without control characters, which could forge a line of a log.
pub fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_WORDS).collect()
}

/// An address without user, password, query and fragment: each may hold a secret. It may be no whole address, and none at all; where it cannot be told
/// what of it is secret, its scheme alone is left. The path of a file is told whole.
pub fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.find("//").map_or(("", url), |at| url.split_at(at + 2));
    if scheme == "file://" {
        return url.to_owned();
    }
    let (open, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    // A password that holds a question mark, or a query that holds an address.
    if query.contains('@') {
        return format!("{scheme}***");
    }
    let open = open.rsplit_once('@').map_or(open, |(_, open)| open);
    format!("{scheme}{open}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_what_may_be_secret() {
        for (url, told) in [
            ("https://anna:s3cret@login/token?key=s3cret#s3cret", "https://login/token"),
            ("https://anna:s3@cr/et@login:8443", "https://login:8443"),
            ("https://anna:s3?cret@login", "https://***"),
            ("https://login/token?user=a@b&key=s3cret", "https://***"),
            ("//anna:s3cret@login/token", "//login/token"),
            ("/token?key=s3cret", "/token"),
            ("anna:s3cret@login", "login"),
            ("https://login?key=//s3cret", "https://login"),
            ("file:///run/token@7", "file:///run/token@7"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(url), told, "{url}");
        }
    }

    #[test]
    fn a_servers_words_are_bounded_and_stay_in_their_line() {
        assert_eq!(harmless("no\r\nERROR forged\u{1b}[2J"), "noERROR forged[2J");
        assert_eq!(harmless(&"é".repeat(1_000)).chars().count(), MOST_WORDS);
    }
}
