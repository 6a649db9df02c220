//! How a connection is made safe: TLS by OpenSSL, and the log-in by SASL.

use std::sync::Arc;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use rsasl::config::SASLConfig;
use rsasl::mechname::Mechname;
use rsasl::prelude::{MessageSent, SASLClient, Session, State};

/// What is needed to reach a broker safely.
#[derive(Clone, Default)]
pub struct Security {
    /// TLS, where the listener speaks it.
    pub tls: Option<SslConnector>,
    /// The log-in, where the listener asks for one.
    pub sasl: Option<Sasl>,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security").field("tls", &self.tls.is_some()).field("sasl", &self.sasl).finish()
    }
}

/// Who logs in, and how.
#[derive(Clone)]
pub struct Sasl {
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    pub mechanism: String,
    /// The user.
    pub username: String,
    /// The password; never printed.
    pub password: String,
}

impl std::fmt::Debug for Sasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// TLS that checks the chain and the host's name: against the system's roots, or against these alone (PEM). A client's certificate and key may go
/// with it (PEM). Returns a text for the operator where one of them cannot be used.
pub fn tls(roots: Option<&[u8]>, identity: Option<(&[u8], &[u8])>) -> Result<SslConnector, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(|error| error.to_string())?;
    builder.set_verify(SslVerifyMode::PEER);
    if let Some(roots) = roots {
        let mut store = openssl::x509::store::X509StoreBuilder::new().map_err(|error| error.to_string())?;
        for root in X509::stack_from_pem(roots).map_err(|error| format!("no PEM certificates: {error}"))? {
            store.add_cert(root).map_err(|error| error.to_string())?;
        }
        builder.set_cert_store(store.build());
    }
    if let Some((certificates, key)) = identity {
        let mut chain = X509::stack_from_pem(certificates).map_err(|error| error.to_string())?.into_iter();
        let own = chain.next().ok_or("no certificate of the client is in the file")?;
        builder.set_certificate(&own).map_err(|error| error.to_string())?;
        for certificate in chain {
            builder.add_extra_chain_cert(certificate).map_err(|error| error.to_string())?;
        }
        let key = openssl::pkey::PKey::private_key_from_pem(key).map_err(|error| error.to_string())?;
        builder.set_private_key(&key).map_err(|error| error.to_string())?;
    }
    Ok(builder.build())
}

/// One log-in under way.
pub(crate) struct LogIn {
    session: Session,
    done: bool,
}

impl LogIn {
    /// Begins one. Returns a text for the operator where the mechanism is not known.
    pub(crate) fn begin(sasl: &Sasl) -> Result<Self, String> {
        let config: Arc<SASLConfig> = SASLConfig::with_credentials(None, sasl.username.clone(), sasl.password.clone())
            .map_err(|error| error.to_string())?;
        let mechanism = Mechname::parse(sasl.mechanism.as_bytes()).map_err(|error| error.to_string())?;
        let session = SASLClient::new(config)
            .start_suggested([&mechanism])
            .map_err(|error| format!("{}: {error}", sasl.mechanism))?;
        Ok(Self { session, done: false })
    }

    /// What is to be sent after the broker's last words; none when nothing is. Fails where those do not prove that the broker knows the password.
    pub(crate) fn answer(&mut self, said: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
        if self.done {
            return Ok(None);
        }
        let mut out = Vec::new();
        match self.session.step(said, &mut out).map_err(|error| error.to_string())? {
            State::Running => Ok(Some(out)),
            State::Finished(sent) => {
                self.done = true;
                Ok((sent == MessageSent::Yes && !(out.is_empty() && said.is_some())).then_some(out))
            }
        }
    }

    /// Whether both sides have proved what they had to.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }
}
