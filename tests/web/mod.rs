//! The page, as a browser asks for it: over real sockets, about real campaigns.

mod client;
mod sign_in;
mod slots;
