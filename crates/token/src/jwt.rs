//! What a token says of itself. The brokers judge it; here it is only read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Most bytes of a token, or of an answer that holds one.
pub(crate) const LARGEST: usize = 256 * 1024;

/// A token, with what its claims say. Its value is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: String,
    principal: String,
    expires_ms: i64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

impl Token {
    /// Reads a JWT. Returns what is wrong with it, without any of its text.
    pub fn parse(value: &str) -> Result<Self, String> {
        let value = value.trim();
        // What RFC 6750 takes as a token. Anything else could not be sent.
        let sendable = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if value.is_empty() || !value.bytes().all(sendable) {
            return Err("it holds no token, or characters that no token has".into());
        }
        let claims =
            claims(value).ok_or("it is no JWT: header, claims and signature, each in base64url, with dots between")?;
        let expires =
            claims.get("exp").and_then(Value::as_f64).ok_or("it has no claim exp, which says when it ends")?;
        let principal =
            claims.get("sub").and_then(Value::as_str).ok_or("it has no claim sub, which says whose it is")?;
        #[expect(clippy::cast_possible_truncation, reason = "a float that is too large becomes the largest number")]
        let expires_ms = (expires * 1000.0) as i64;
        Ok(Self { value: value.to_owned(), principal: principal.to_owned(), expires_ms })
    }

    /// The token itself, for who sends it.
    pub fn reveal(&self) -> &str {
        &self.value
    }

    /// Whose it is, by its claim `sub`.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// When it ends, in milliseconds since 1970, by its claim `exp`.
    pub fn expires_ms(&self) -> i64 {
        self.expires_ms
    }
}

fn claims(value: &str) -> Option<Value> {
    let mut parts = value.split('.');
    let (_, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A token without a signature, as tests of brokers take it.
    pub(crate) fn unsigned(claims: &str) -> String {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_says_whose_it_is_and_when_it_ends() {
        let token = Token::parse(&format!(" {}\n", unsigned(r#"{"sub":"bell","exp":1234.5}"#))).unwrap();
        assert_eq!((token.principal(), token.expires_ms()), ("bell", 1_234_500));
        assert!(token.reveal().ends_with('.') && !token.reveal().contains('\n'));
    }

    #[test]
    fn what_is_no_token_is_told_by_what_it_lacks_and_never_shown() {
        let cases = [
            (String::new(), "no token"),
            ("two words".to_owned(), "characters"),
            ("a\u{1}auth=b".to_owned(), "characters"),
            ("s3cret".to_owned(), "no JWT"),
            ("s3cret.s3cret.s3cret".to_owned(), "no JWT"),
            (unsigned(r#"{"sub":"s3cret","exp":1}"#).trim_end_matches('.').to_owned(), "no JWT"),
            (format!("{}.s3cret", unsigned(r#"{"sub":"s3cret","exp":1}"#)), "no JWT"),
            (unsigned(r#"{"sub":"s3cret"}"#), "claim exp"),
            (unsigned(r#"{"sub":"s3cret","exp":"soon"}"#), "claim exp"),
            (unsigned(r#"{"exp":1}"#), "claim sub"),
        ];
        for (text, wrong) in cases {
            let problem = Token::parse(&text).unwrap_err();
            assert!(problem.contains(wrong) && !problem.contains("s3cret"), "{problem}");
        }
        let token = Token::parse(&unsigned(r#"{"sub":"bell","exp":1}"#)).unwrap();
        assert!(!format!("{token:?}").contains(token.reveal()));
    }
}
