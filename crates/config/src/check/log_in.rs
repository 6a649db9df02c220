//! How to log in to Kafka: by a password, or by tokens.

use std::collections::BTreeMap;

use super::{Reader, not_blank};
use crate::keys::CLIENT;
use crate::{Sasl, kafka_client, oauthbearer};

impl Reader<'_> {
    /// The outer option is none after a mistake, the inner one where nobody logs in. `tokens` are the settings of OAUTHBEARER, none after a mistake.
    pub(super) fn sasl(&mut self, protocol: &str, tokens: Option<&BTreeMap<String, String>>) -> Option<Option<Sasl>> {
        let mechanism = self.choice("kafka.sasl_mechanism");
        let username = self.optional("kafka.username", not_blank);
        let password = self.secret("kafka.password", not_blank);
        if protocol.is_empty() {
            return None;
        }
        let by_token = mechanism.as_deref() == Some(oauthbearer::MECHANISM);
        if !(by_token && protocol.starts_with("SASL_")) {
            for name in tokens.into_iter().flat_map(BTreeMap::keys) {
                self.wrong_setting(
                    name,
                    "needs kafka.sasl_mechanism = \"OAUTHBEARER\" and a kafka.security_protocol of SASL",
                );
            }
        }
        if !protocol.starts_with("SASL_") {
            for name in ["kafka.username", "kafka.password", "kafka.password_file"] {
                self.needless(name, "needs kafka.security_protocol = \"SASL_SSL\" (or SASL_PLAINTEXT)");
            }
            return Some(None);
        }
        if by_token {
            return self.tokens(tokens?).map(Some);
        }
        let (username, password) = (username?, password?);
        if username.is_none() {
            self.missing("kafka.username", &format!("is needed with {protocol}"));
        }
        if password.is_none() {
            self.missing("kafka.password", &format!("is needed with {protocol}; kafka.password_file will do"));
        }
        Some(Some(Sasl::Password { mechanism: mechanism?, username: username?, password: password? }))
    }

    fn tokens(&mut self, settings: &BTreeMap<String, String>) -> Option<Sasl> {
        for name in ["kafka.username", "kafka.password", "kafka.password_file"] {
            self.needless(name, "is of no use with OAUTHBEARER: the token says who logs in; leave it out");
        }
        let problems = match oauthbearer::tokens(settings) {
            Ok(tokens) => return Some(Sasl::Token(tokens)),
            Err(problems) => problems,
        };
        problems.into_iter().for_each(|(name, problem)| self.wrong_setting(name, &problem));
        None
    }

    /// A setting of `[kafka.client]` is wrong.
    fn wrong_setting(&mut self, name: &str, problem: &str) {
        let given =
            self.settings.client().iter().find(|(given, _)| {
                kafka_client::canonical(kafka_client::secret_of_file(given).unwrap_or(given)) == name
            });
        let (key, origin) = given.map_or((name, None), |(key, given)| (key.as_str(), Some(&given.origin)));
        self.wrong::<()>(&format!("{CLIENT}.{key}"), origin, problem);
    }
}
