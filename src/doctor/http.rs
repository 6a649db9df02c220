//! Who may look at the page, as far as its configuration tells.

use dinnerbell_config::{Http, Token};
use dinnerbell_core::model::finding::Findings;

/// A token of fewer characters may be guessed, or found from a cookie.
const SHORT: usize = 16;

/// Says what is worth a thought.
pub fn check(http: &Http, found: &mut Findings) {
    let remedy = "set http.cert_file and http.key_file, or let a proxy on this machine speak TLS";
    match (http.listen.ip().is_loopback(), http.tls.is_some(), http.insecure) {
        (false, false, true) => found.warn(
            "http-tls",
            "the page is served beyond this machine without TLS: who can read along on the way reads tokens and client ids",
            remedy,
        ),
        (false, false, false) if http.has_sign_in() => found.warn(
            "http-tls",
            "http.listen leads beyond this machine and there is no TLS: the page and its API are served to this machine alone",
            remedy,
        ),
        _ => {}
    }
    for (name, token) in [("http.token", &http.token), ("http.viewer_token", &http.viewer_token)] {
        if token.as_ref().is_some_and(is_short) {
            let remedy = "take at least 32 random characters, as `openssl rand -hex 32` prints them";
            found.warn("http-token", format!("{name} has fewer than {SHORT} characters: it can be guessed"), remedy);
        }
    }
}

fn is_short(token: &Token) -> bool {
    token.secret.reveal().len() < SHORT
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_config::Secret;

    fn warned(http: &Http) -> Vec<&'static str> {
        let mut found = Findings::default();
        check(http, &mut found);
        found.into_all().into_iter().map(|finding| finding.check).collect()
    }

    #[test]
    fn a_token_that_can_be_read_or_guessed_is_worth_a_thought() {
        let token = |text: &str| Some(Token { secret: Secret::new(text.to_owned()), file: None });
        let near = Http::at(([127, 0, 0, 1], 8080).into());
        let far = Http::at(([0, 0, 0, 0], 8080).into());
        assert!(warned(&near).is_empty() && warned(&far).is_empty(), "who listens for probes alone is left in peace");
        let long = token("0123456789abcdef");
        assert_eq!(warned(&Http { token: long.clone(), ..far.clone() }), ["http-tls"]);
        assert!(warned(&Http { token: long, ..near.clone() }).is_empty());
        assert_eq!(warned(&Http { insecure: true, ..far }), ["http-tls"]);
        assert_eq!(warned(&Http { viewer_token: token("short"), ..near }), ["http-token"]);
    }
}
