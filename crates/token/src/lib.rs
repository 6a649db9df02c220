//! Tokens with which Kafka's clients log in (SASL OAUTHBEARER, KIP-255 and KIP-768). One source serves every client of an instance.
//!
//! - [`jwt`]: what a token says of itself: whose it is, and when it ends.
//! - [`source`]: where tokens come from: an [`endpoint`] of an authorization server, or a file that something else keeps fresh.
//! - [`tokens`]: the token at hand, shared by all who ask, and fetched again when most of its life is over.
//!
//! It knows no client of Kafka. A token and a client's secret are never printed.

pub mod endpoint;
pub mod jwt;
pub mod source;
pub mod tokens;

pub use endpoint::{Endpoint, EndpointSettings};
pub use jwt::Token;
pub use source::Source;
pub use tokens::Tokens;

/// What to do about a token that the brokers refuse, as a fragment.
pub const REFUSED: &str = "check that kafka.client.sasl.oauthbearer.token.endpoint.url gives tokens for these brokers (issuer, audience, scope, \
                           and clocks that agree), and that the brokers trust who signs them";

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The source refuses, or what it gives is no token. It will again, until somebody mends it.
    #[error("{0}")]
    Refused(String),
    /// The source is away, or did not answer in time.
    #[error("{0}")]
    Unavailable(String),
}
