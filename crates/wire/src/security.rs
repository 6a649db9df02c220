//! How a connection is made safe: TLS by OpenSSL, and who logs in.

use dinnerbell_token::Tokens;
use openssl::error::ErrorStack;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::{X509Lookup, X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;

/// What is needed to reach a broker safely.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// TLS, where the listener speaks it.
    pub tls: Option<Tls>,
    /// The log-in, where the listener asks for one.
    pub sasl: Option<Sasl>,
}

/// TLS, ready to be used.
#[derive(Clone)]
pub struct Tls {
    connector: SslConnector,
    any_name: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("any_name", &self.any_name).finish_non_exhaustive()
    }
}

/// What TLS is to be made of; certificates and keys are PEM.
#[derive(Default)]
pub struct TlsSettings {
    /// These certificates alone sign brokers' certificates; the system's where there are none.
    pub roots: Option<Vec<u8>>,
    /// Our certificate and what signed it.
    pub certificates: Option<Vec<u8>>,
    /// Its key, and the password of the key.
    pub key: Option<(Vec<u8>, Option<String>)>,
    /// Both of them in one PKCS#12 file, with its password.
    pub key_store: Option<(Vec<u8>, String)>,
    /// File of certificates that were revoked.
    pub revoked: Option<String>,
    /// Ciphers, by OpenSSL's names.
    pub ciphers: Option<String>,
    /// Curves.
    pub curves: Option<String>,
    /// Signature algorithms.
    pub signatures: Option<String>,
    /// Whether a certificate of any name is taken.
    pub any_name: bool,
}

/// Who logs in, and how. Passwords and tokens are never printed.
#[derive(Clone)]
pub enum Sasl {
    /// By PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    Password {
        /// Which of them.
        mechanism: String,
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// By OAUTHBEARER.
    Token(Tokens),
}

impl Sasl {
    /// The mechanism, by its name.
    pub fn mechanism(&self) -> &str {
        match self {
            Self::Password { mechanism, .. } => mechanism,
            Self::Token(_) => "OAUTHBEARER",
        }
    }
}

impl std::fmt::Debug for Sasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sasl").field(&self.mechanism()).finish()
    }
}

impl Tls {
    /// TLS that checks the chain and the host's name. Returns a text for the operator where something of it cannot be used.
    pub fn new(settings: &TlsSettings) -> Result<Self, String> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(text)?;
        builder.set_verify(SslVerifyMode::PEER);
        if settings.roots.is_some() || settings.revoked.is_some() {
            builder.set_cert_store(store(settings)?);
        }
        own_certificate(settings, &mut builder)?;
        if let Some(ciphers) = &settings.ciphers {
            builder.set_cipher_list(ciphers).map_err(text)?;
        }
        if let Some(curves) = &settings.curves {
            builder.set_groups_list(curves).map_err(text)?;
        }
        if let Some(signatures) = &settings.signatures {
            builder.set_sigalgs_list(signatures).map_err(text)?;
        }
        Ok(Self { connector: builder.build(), any_name: settings.any_name })
    }

    /// A session with this host.
    pub(crate) fn session(&self, host: &str) -> Result<Ssl, ErrorStack> {
        let mut configured = self.connector.configure()?;
        configured.set_verify_hostname(!self.any_name);
        configured.into_ssl(host)
    }
}

fn text(error: ErrorStack) -> String {
    error.to_string()
}

/// Who signs brokers' certificates, and which were revoked.
fn store(settings: &TlsSettings) -> Result<X509Store, String> {
    let mut store = X509StoreBuilder::new().map_err(text)?;
    match &settings.roots {
        Some(roots) => {
            for root in X509::stack_from_pem(roots).map_err(|error| format!("no PEM certificates: {error}"))? {
                store.add_cert(root).map_err(text)?;
            }
        }
        None => store.set_default_paths().map_err(text)?,
    }
    if let Some(revoked) = &settings.revoked {
        let lookup = store.add_lookup(X509Lookup::file()).map_err(text)?;
        lookup.load_crl_file(revoked, SslFiletype::PEM).map_err(|error| format!("{revoked}: {error}"))?;
        store.set_flags(X509VerifyFlags::CRL_CHECK).map_err(text)?;
    }
    Ok(store.build())
}

/// Our own certificate, where we have one.
fn own_certificate(settings: &TlsSettings, builder: &mut SslConnectorBuilder) -> Result<(), String> {
    if let Some((file, password)) = &settings.key_store {
        let parsed = Pkcs12::from_der(file).and_then(|file| file.parse2(password)).map_err(text)?;
        let (certificate, key) =
            parsed.cert.zip(parsed.pkey).ok_or("no certificate with its key is in the key store")?;
        return identify(builder, &certificate, parsed.ca.into_iter().flatten(), &key);
    }
    let Some((certificates, (key, password))) = settings.certificates.as_ref().zip(settings.key.as_ref()) else {
        return Ok(());
    };
    let mut chain = X509::stack_from_pem(certificates).map_err(text)?.into_iter();
    let own = chain.next().ok_or("no certificate is in the file")?;
    let key = match password {
        Some(password) => PKey::private_key_from_pem_passphrase(key, password.as_bytes()),
        None => PKey::private_key_from_pem(key),
    };
    identify(builder, &own, chain, &key.map_err(text)?)
}

fn identify(
    builder: &mut SslConnectorBuilder,
    own: &X509,
    chain: impl Iterator<Item = X509>,
    key: &PKey<Private>,
) -> Result<(), String> {
    builder.set_certificate(own).map_err(text)?;
    for certificate in chain {
        builder.add_extra_chain_cert(certificate).map_err(text)?;
    }
    builder.set_private_key(key).map_err(text)
}
