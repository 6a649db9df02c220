//! From a broker's name to a byte stream: which of its addresses is taken, and TLS over it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::error::{WireError, broken, refused};
use crate::hedge::first_answer;
use crate::security::Tls;

/// How long one address is waited for before the next one is tried beside it (RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 16;
/// A connection that says nothing for so long is asked whether it lives, and again and again after a shorter while.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMES: u32 = 3;

/// Which addresses of a broker are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// All of them.
    #[default]
    Any,
    /// Those of IPv4.
    V4,
    /// Those of IPv6.
    V6,
}

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
    let unresolved = |reason: String| WireError::Unresolved { doing: DOING, address: address.to_owned(), reason };
    let found = tokio::net::lookup_host(address).await.map_err(|error| unresolved(error.to_string()))?;
    match to_any(found.collect(), dial).await {
        Ok(tcp) => Ok(tcp),
        Err(Some(error)) => Err(broken(DOING, address, &error)),
        Err(None) => Err(unresolved("it has no address of the family that is asked for".into())),
    }
}

/// Connects to whichever of these addresses answers first. Fails with what the last one said; with nothing where none is of the family.
async fn to_any(found: Vec<SocketAddr>, dial: Dial) -> Result<TcpStream, Option<io::Error>> {
    let connected = first_answer(in_turn(found, dial.family), NEXT_ADDRESS, TcpStream::connect).await;
    let tcp = connected.map_err(|mut failed| failed.pop())?;
    prepare(&tcp, dial)?;
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

/// The addresses of the family, in the system's order, but both families in turn.
fn in_turn(found: Vec<SocketAddr>, family: Family) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let taken = found.into_iter().filter(|address| match family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    });
    let (first, second): (Vec<_>, Vec<_>) = taken.partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] || all.len() >= MOST_ADDRESSES {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
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
    use std::net::{Ipv4Addr, Ipv6Addr};

    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    fn v4(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn v6(port: u16) -> SocketAddr {
        (Ipv6Addr::LOCALHOST, port).into()
    }

    #[test]
    fn both_families_of_addresses_are_tried_in_turn() {
        let found = vec![v6(1), v6(2), v4(1), v4(2), v4(3)];
        assert_eq!(in_turn(found.clone(), Family::Any), [v6(1), v4(1), v6(2), v4(2), v4(3)]);
        assert_eq!(in_turn(found.clone(), Family::V4), [v4(1), v4(2), v4(3)]);
        assert_eq!(in_turn(found, Family::V6), [v6(1), v6(2)]);
        assert!(in_turn((1..1000).map(v4).collect(), Family::Any).len() <= MOST_ADDRESSES);
    }

    /// A listener whose queue is full: it answers nobody. Returned with those that fill it.
    async fn black_hole() -> (Socket, Vec<TcpStream>, SocketAddr) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&v4(0).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut filling = Vec::new();
        while let Ok(connected) = tokio::time::timeout(NEXT_ADDRESS, TcpStream::connect(address)).await {
            filling.push(connected.unwrap());
        }
        (listener, filling, address)
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_holds_up_no_other_one() {
        let (_listener, _filling, hole) = black_hole().await;
        let well = TcpListener::bind(v4(0)).await.unwrap();
        let connected = to_any(vec![hole, well.local_addr().unwrap()], Dial::default());
        let connected = tokio::time::timeout(Duration::from_secs(3), connected).await.unwrap().unwrap();
        assert_eq!(connected.peer_addr().unwrap(), well.local_addr().unwrap());
    }

    #[tokio::test]
    async fn the_system_watches_whether_the_other_side_lives_unless_it_may_not() {
        let listener = TcpListener::bind(v4(0)).await.unwrap();
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
