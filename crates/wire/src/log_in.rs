//! The log-in by SASL: what is said to the broker, and what its answers mean.

use std::sync::Arc;

use dinnerbell_net::foreign::harmless;
use dinnerbell_token::{Token, TokenError, Tokens};
use rsasl::config::SASLConfig;
use rsasl::mechname::Mechname;
use rsasl::prelude::{MessageSent, SASLClient, Session, State};
use tokio::time::Instant;

use crate::error::{WireError, refused};
use crate::security::Sasl;

/// What is tried.
pub(crate) const DOING: &str = "logging in";

/// Most iterations of SCRAM: each hashes the password once more, on a thread that others need. Kafka's own default is 4,096.
const MOST_ITERATIONS: u64 = 1_000_000;

/// One log-in under way.
pub(crate) enum LogIn<'a> {
    /// By a password.
    Password(Proof),
    /// By a token.
    Token(Bearer<'a>),
}

/// A log-in in which the password is proved.
pub(crate) struct Proof {
    session: Session,
    done: bool,
}

/// A log-in by a token (RFC 7628).
pub(crate) struct Bearer<'a> {
    tokens: &'a Tokens,
    token: Token,
    step: Step,
}

/// How far a log-in by a token is.
enum Step {
    Beginning,
    Asked,
    /// With what the broker says of the token.
    Refused(String),
    Done,
}

impl<'a> LogIn<'a> {
    /// Begins one; a token is waited for until the deadline. Fails where there is none, or the mechanism is not known.
    pub(crate) async fn begin(sasl: &'a Sasl, address: &str, deadline: Instant) -> Result<Self, WireError> {
        match sasl {
            Sasl::Password { mechanism, username, password } => {
                let proof = Proof::begin(mechanism, username, password);
                proof.map(Self::Password).map_err(|reason| refused(DOING, address, reason))
            }
            Sasl::Token(tokens) => match tokens.get(deadline).await {
                Ok(token) => Ok(Self::Token(Bearer { tokens, token, step: Step::Beginning })),
                Err(TokenError::Refused(reason)) => Err(refused(DOING, address, reason)),
                Err(TokenError::Unavailable(reason)) => {
                    Err(WireError::Broken { doing: DOING, address: address.to_owned(), reason })
                }
            },
        }
    }

    /// What is to be sent after the broker's last words; none when nothing is. Fails where those are a refusal, or do not prove that the broker
    /// knows the password.
    pub(crate) fn answer(&mut self, said: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Password(proof) => proof.answer(said),
            Self::Token(bearer) => bearer.answer(said),
        }
    }

    /// Whether both sides have proved what they had to.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Password(proof) => proof.done,
            Self::Token(bearer) => matches!(bearer.step, Step::Done),
        }
    }

    /// The broker refuses with these words: what that means, and what to do. The next log-in is by another token, if there is one.
    pub(crate) fn refusal(&self, words: &str) -> String {
        let words = &harmless(words);
        match self {
            Self::Password(_) => format!(
                "{words}: check kafka.username, kafka.password_file and kafka.sasl_mechanism, and that the broker knows this user"
            ),
            Self::Token(bearer) => bearer.refusal(words),
        }
    }
}

impl Proof {
    fn begin(mechanism: &str, username: &str, password: &str) -> Result<Self, String> {
        let config: Arc<SASLConfig> = SASLConfig::with_credentials(None, username.to_owned(), password.to_owned())
            .map_err(|error| error.to_string())?;
        let name = Mechname::parse(mechanism.as_bytes()).map_err(|error| error.to_string())?;
        let session =
            SASLClient::new(config).start_suggested([&name]).map_err(|error| format!("{mechanism}: {error}"))?;
        Ok(Self { session, done: false })
    }

    fn answer(&mut self, said: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
        if self.done {
            return Ok(None);
        }
        if let Some(asked) = iterations(said.unwrap_or_default()).filter(|asked| *asked > MOST_ITERATIONS) {
            return Err(format!(
                "the broker asks for {asked} iterations of SCRAM, and at most {MOST_ITERATIONS} are made: check that it is your broker, and create the \
                 user again with fewer"
            ));
        }
        let mut out = Vec::new();
        match self.session.step(said, &mut out).map_err(|error| harmless(&error.to_string()))? {
            State::Running => Ok(Some(out)),
            State::Finished(sent) => {
                self.done = true;
                Ok((sent == MessageSent::Yes && !(out.is_empty() && said.is_some())).then_some(out))
            }
        }
    }
}

/// How often the password is to be hashed (RFC 5802, 5.1), where that is what is said.
fn iterations(said: &[u8]) -> Option<u64> {
    let count = said.split(|byte| *byte == b',').find_map(|attribute| attribute.strip_prefix(b"i="))?;
    std::str::from_utf8(count).ok()?.parse().ok()
}

impl Bearer<'_> {
    /// The token; after a refusal the one byte that ends the log-in, for which the broker waits before it says the rest.
    fn answer(&mut self, said: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
        let said = said.unwrap_or_default();
        match &self.step {
            Step::Beginning => {
                self.step = Step::Asked;
                Ok(Some(format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", self.token.reveal()).into_bytes()))
            }
            Step::Asked if said.is_empty() => {
                self.step = Step::Done;
                Ok(None)
            }
            Step::Asked => {
                self.step = Step::Refused(harmless(&String::from_utf8_lossy(said)));
                Ok(Some(vec![1]))
            }
            Step::Refused(words) => Err(self.refusal(words)),
            Step::Done => Ok(None),
        }
    }

    fn refusal(&self, last_words: &str) -> String {
        self.tokens.distrust(&self.token);
        let words = match &self.step {
            Step::Refused(words) => words,
            _ => last_words,
        };
        format!("the broker refuses the token: {words}: {}", dinnerbell_token::REFUSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(tokens: &Tokens) -> Bearer<'_> {
        // {"alg":"none"} and {"sub":"bell","exp":9}
        let token = Token::parse("eyJhbGciOiJub25lIn0.eyJzdWIiOiJiZWxsIiwiZXhwIjo5fQ.").unwrap();
        Bearer { tokens, token, step: Step::Beginning }
    }

    fn tokens() -> Tokens {
        Tokens::new(dinnerbell_token::Source::File("/nowhere".into()))
    }

    #[test]
    fn a_token_is_sent_as_rfc_7628_says_and_silence_means_that_it_is_taken() {
        let tokens = tokens();
        let mut login = LogIn::Token(bearer(&tokens));
        let first = login.answer(None).unwrap().unwrap();
        assert_eq!(
            String::from_utf8(first).unwrap(),
            "n,,\u{1}auth=Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJiZWxsIiwiZXhwIjo5fQ.\u{1}\u{1}"
        );
        assert!(!login.is_done());
        assert_eq!(login.answer(Some(b"")), Ok(None));
        assert!(login.is_done());
    }

    #[test]
    fn a_refusal_is_answered_by_the_byte_that_ends_the_log_in_and_told_in_the_brokers_words() {
        let tokens = tokens();
        let mut login = LogIn::Token(bearer(&tokens));
        login.answer(None).unwrap();
        assert_eq!(login.answer(Some(br#"{"status":"invalid_token"}"#)), Ok(Some(vec![1])));
        for told in [login.refusal("failed"), login.answer(Some(b"")).unwrap_err()] {
            assert!(told.contains(r#"{"status":"invalid_token"}: check"#) && !told.contains("eyJ"), "{told}");
        }
        assert!(!login.is_done());
    }

    #[test]
    fn a_broker_that_wants_the_password_hashed_for_minutes_is_refused() {
        let answer = |iterations: &str| {
            let mut login = LogIn::Password(Proof::begin("SCRAM-SHA-256", "anna", "s3cret").unwrap());
            let first = String::from_utf8(login.answer(None).unwrap().unwrap()).unwrap();
            let nonce = first.split_once("r=").unwrap().1;
            login.answer(Some(format!("r={nonce}more,s=c2FsdA==,i={iterations}").as_bytes()))
        };
        assert!(answer("4096").unwrap().is_some());
        let refused = answer("4294967295").unwrap_err();
        assert!(refused.contains("4294967295") && refused.contains("create the user again"), "{refused}");
    }

    #[test]
    fn a_brokers_words_at_a_log_in_are_bounded_and_stay_in_their_line() {
        let words = format!("no\nERROR forged{}", "a".repeat(100_000));
        let tokens = tokens();
        let mut by_token = LogIn::Token(bearer(&tokens));
        by_token.answer(None).unwrap();
        by_token.answer(Some(words.as_bytes())).unwrap();
        let by_password = LogIn::Password(Proof::begin("PLAIN", "anna", "s3cret").unwrap());
        for told in [by_token.refusal("failed"), by_password.refusal(&words)] {
            assert!(told.contains("noERROR forged") && !told.contains('\n') && told.len() < 1_000, "{told}");
        }
    }
}
