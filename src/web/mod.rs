//! What people and programs see and order over HTTP: the page, and `/api/v1`.

pub mod identity;
