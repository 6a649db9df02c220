//! From the name of a server to a connection: which of its addresses is taken.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, ToSocketAddrs, lookup_host};

use crate::hedge::first_answer;

/// How long one address is waited for before the next one is tried beside it (RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 16;

/// Which addresses of a server are taken.
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

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name says nothing to this machine.
    #[error("{0}")]
    Unresolved(io::Error),
    /// None of its addresses is of the family.
    #[error("it has no address of the family that is asked for")]
    NoAddress,
    /// No address took the connection: what the last one said.
    #[error("{0}")]
    Failed(io::Error),
}

/// Connects to a host and port: to whichever of its addresses answers first. One that does not answer holds up no other. It waits as long as the system
/// does: the caller gives it a time-out.
pub async fn connect(address: impl ToSocketAddrs, family: Family) -> Result<TcpStream, DialError> {
    let found = lookup_host(address).await.map_err(DialError::Unresolved)?;
    to_any(found.collect(), family).await
}

async fn to_any(found: Vec<SocketAddr>, family: Family) -> Result<TcpStream, DialError> {
    let connected = first_answer(in_turn(found, family), NEXT_ADDRESS, TcpStream::connect).await;
    connected.map_err(|mut failed| failed.pop().map_or(DialError::NoAddress, DialError::Failed))
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
        let connected = to_any(vec![hole, well.local_addr().unwrap()], Family::Any);
        let connected = tokio::time::timeout(Duration::from_secs(3), connected).await.unwrap().unwrap();
        assert_eq!(connected.peer_addr().unwrap(), well.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_name_without_an_address_of_the_family_says_so() {
        let error = connect("127.0.0.1:9", Family::V6).await.unwrap_err();
        assert!(matches!(error, DialError::NoAddress), "{error}");
    }
}
