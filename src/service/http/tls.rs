//! TLS of the page: its certificate, read again when its files change.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use dinnerbell_config::HttpTls;
use dinnerbell_core::periodic::Periodic;

/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("http.cert_file, http.key_file: {0}")]
pub struct TlsError(String);

/// The certificate by which connections are accepted.
#[derive(Clone)]
pub struct Certificate {
    files: HttpTls,
    acceptor: Arc<RwLock<SslAcceptor>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads certificate and key.
    pub fn read(files: HttpTls) -> Result<Self, TlsError> {
        let acceptor = acceptor(&files).map_err(TlsError)?;
        Ok(Self { files, acceptor: Arc::new(RwLock::new(acceptor)) })
    }

    /// Speaks TLS on a connection.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<SslStream<TcpStream>, String> {
        let session = {
            let acceptor = self.acceptor.read().unwrap_or_else(PoisonError::into_inner);
            Ssl::new(acceptor.context()).map_err(|error| error.to_string())?
        };
        let mut stream = SslStream::new(session, stream).map_err(|error| error.to_string())?;
        Pin::new(&mut stream).accept().await.map_err(|error| error.to_string())?;
        Ok(stream)
    }

    /// Takes up what changes in the files, until it is dropped. What cannot be used is said in the log, and the certificate before stays.
    pub(super) async fn follow(&self) -> Infallible {
        let (mut known, mut checks) = (self.content().await, Periodic::later(CHECK_INTERVAL));
        loop {
            checks.due().await;
            let found = self.content().await;
            if found == known {
                continue;
            }
            match acceptor(&self.files) {
                Ok(acceptor) => {
                    *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                    tracing::info!(file = %self.files.cert_file.display(), "http.cert_file changed: the new certificate counts");
                }
                Err(error) => {
                    tracing::warn!(%error, "http.cert_file or http.key_file changed and cannot be used: the certificate before stays")
                }
            }
            known = found;
        }
    }

    async fn content(&self) -> [Option<Vec<u8>>; 2] {
        let read = async |path: &Path| tokio::fs::read(path).await.ok();
        [read(&self.files.cert_file).await, read(&self.files.key_file).await]
    }
}

fn acceptor(files: &HttpTls) -> Result<SslAcceptor, String> {
    let pem = std::fs::read(&files.key_file).map_err(|error| error.to_string())?;
    // Without the callback OpenSSL would ask the terminal for a passphrase.
    let key = PKey::private_key_from_pem_callback(&pem, |_| Ok(0)).map_err(|error| error.to_string())?;
    build(files, &key).map_err(|error| error.to_string())
}

fn build(files: &HttpTls, key: &PKey<Private>) -> Result<SslAcceptor, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_certificate_chain_file(&files.cert_file)?;
    builder.set_private_key(key)?;
    builder.check_private_key()?;
    builder.set_alpn_select_callback(|_, offered| {
        openssl::ssl::select_next_proto(b"\x08http/1.1", offered).ok_or(openssl::ssl::AlpnError::NOACK)
    });
    Ok(builder.build())
}
