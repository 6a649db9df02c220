//! Where a request comes from.

use std::net::IpAddr;

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether nobody on the way can read along.
    pub encrypted: bool,
}

impl Peer {
    /// Whether it is this machine.
    pub fn is_this_machine(&self) -> bool {
        self.address.to_canonical().is_loopback()
    }
}
