//! Dinnerbell: a restaurant rings; everyone who favours it hears, once, while the offer lasts.

pub mod audience;
pub mod bench;
pub mod broker;
pub mod campaign;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod draft;
pub mod fail_point;
pub mod http;
pub mod kafka;
pub mod keep;
pub mod lanes;
pub mod ledger;
pub mod memory;
pub mod metrics;
pub mod operate;
pub mod patience;
pub mod postgres;
pub mod service;
#[cfg(feature = "fail-points")]
pub mod simulation;
pub mod verify;
pub mod way;
