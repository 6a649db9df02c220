//! Dinnerbell: a restaurant rings; everyone who favours it hears, once, while the offer lasts.

pub mod audience;
pub mod broker;
pub mod campaign;
pub mod clock;
pub mod config;
pub mod draft;
pub mod kafka;
pub mod ledger;
pub mod way;
