//! The page, as a browser asks for it: over real sockets, about real campaigns.

mod client;
mod load;
mod pages;
mod sign_in;
mod slots;
