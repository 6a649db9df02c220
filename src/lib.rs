//! Dinnerbell: a restaurant rings; everyone who favours it hears, once, while the offer lasts.

pub mod backoff;
pub mod bench;
pub mod cli;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod fail_point;
pub mod guard;
pub mod instance;
pub mod kafka;
pub mod lane;
pub mod model;
pub mod operator;
pub mod ports;
pub mod postgres;
pub mod recovery;
pub mod service;
pub mod shutdown;
#[cfg(feature = "fail-points")]
pub mod simulation;
pub mod telemetry;
pub mod text_table;
pub mod verify;
