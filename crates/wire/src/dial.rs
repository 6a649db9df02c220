//! From a broker's name to a byte stream: how it is dialled, and TLS over it.

use std::io;
use std::time::Duration;

use dinnerbell_net::dial::DialError;
pub use dinnerbell_net::dial::Family;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::error::{WireError, broken, refused};
use crate::security::Tls;

/// A connection that says nothing for so long is asked whether it lives, and again and again after a shorter while.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMES: u32 = 3;

/// How a broker is dialled.
#[derive(Debug, Clone, Copy)]
pub struct Dial {
    /// Which addresses are taken.
    pub family: Family,
    /// Whether the system asks, while nothing is said, whether the other side lives.
    pub keepalive: bool,
}

impl Default for Dial {
    fn default() -> Self {
        Self { family: Family::Any, keepalive: true }
    }
}

const DOING: &str = "connecting";

/// Connects to `host:port`: to whichever of its addresses answers first. One that does not answer holds up no other.
pub(crate) async fn connect(address: &str, dial: Dial) -> Result<TcpStream, WireError> {
    let tcp = dinnerbell_net::dial::connect(address, dial.family).await.map_err(|error| match error {
        DialError::Failed(error) => broken(DOING, address, &error),
        error => WireError::Unresolved { doing: DOING, address: address.to_owned(), reason: error.to_string() },
    })?;
    prepare(&tcp, dial).map_err(|error| broken(DOING, address, &error))?;
    Ok(tcp)
}

fn prepare(tcp: &TcpStream, dial: Dial) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    if dial.keepalive {
        let often =
            TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_AGAIN).with_retries(KEEPALIVE_TIMES);
        SockRef::from(tcp).set_tcp_keepalive(&often)?;
    }
    Ok(())
}

/// TLS over a connection. Fails with a refusal where the broker's certificate is not good.
pub(crate) async fn encrypt(
    tls: &Tls,
    tcp: TcpStream,
    address: &str,
) -> Result<tokio_openssl::SslStream<TcpStream>, WireError> {
    const DOING: &str = "making the connection safe (TLS)";
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let failed = |error: openssl::error::ErrorStack| refused(DOING, address, error.to_string());
    let ssl = tls.session(host).map_err(failed)?;
    let mut stream = tokio_openssl::SslStream::new(ssl, tcp).map_err(failed)?;
    match std::pin::Pin::new(&mut stream).connect().await {
        Ok(()) => Ok(stream),
        Err(error) => {
            let verified = stream.ssl().verify_result();
            match verified == openssl::x509::X509VerifyResult::OK {
                true => Err(broken(DOING, address, &io::Error::other(error))),
                false => Err(refused(
                    DOING,
                    address,
                    format!(
                        "{verified}: set kafka.ca_file to the PEM file of the CA that signed the broker's certificate, and address the broker by a name that \
                     the certificate holds"
                    ),
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_system_watches_whether_the_other_side_lives_unless_it_may_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        for keepalive in [true, false] {
            let tcp = connect(&address, Dial { keepalive, ..Dial::default() }).await.unwrap();
            let socket = SockRef::from(&tcp);
            assert_eq!(socket.keepalive().unwrap(), keepalive);
            if keepalive {
                assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
            }
        }
    }

    #[tokio::test]
    async fn a_name_without_an_address_of_the_family_says_so() {
        let dial = Dial { family: Family::V6, ..Dial::default() };
        let error = connect("127.0.0.1:9", dial).await.unwrap_err();
        assert!(error.to_string().contains("no address of the family"), "{error}");
    }
}
