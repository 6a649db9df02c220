//! Addresses, as a configuration gives them, and free ones.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Whether a name or an address, as a configuration gives it, is this machine's own.
pub fn is_of_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// A port that is free now. Somebody may take it before it is used; that is an error then, and another run finds another port.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
