//! What the integration tests share. A test takes a [`Stage`]: its own topics, group, databases and folder on servers that all
//! tests share (or on a pair of its own, to bounce), and from it runs the service, sends campaigns and compares the sinks:
//!
//! ```ignore
//! let stage = Stage::new();
//! stage.subscribers.subscribe("pizzeria", 1_000);
//! stage.migrate();
//! let service = stage.start();
//! let campaign = Campaign::now("two-for-one", "pizzeria");
//! stage.send(&campaign);
//! let expected = Expected::from([(&campaign, stage.subscribers.clients_of("pizzeria"))]);
//! stage.await_sinks(&expected, Duration::from_secs(20));
//! service.stop();
//! stage.assert_sinks(&expected);
//! ```
//!
//! Everything blocks, so that it serves plain and async tests alike. What reads the sinks ([`sinks`]) goes through kcat and psql
//! and shares no code with the service.
#![allow(dead_code, unused_imports, reason = "each test crate uses its own part")]

pub mod acls;
pub mod campaign;
pub mod cluster;
pub mod database;
pub mod kafka;
pub mod kafka_proxy;
pub mod kafka_server;
pub mod proxy;
pub mod servers;
pub mod service;
pub mod sinks;
pub mod stage;
pub mod wait;

pub use campaign::Campaign;
pub use database::Database;
pub use kafka::{CommittedOffset, Message, Security};
pub use kafka_proxy::KafkaProxy;
pub use kafka_server::KafkaServer;
pub use proxy::Proxy;
pub use servers::PostgresServer;
pub use service::{Service, ServiceConfig};
pub use sinks::{Draft, Expected};
pub use stage::{Setting, Stage};
pub use wait::{block_on, unique, wait_for, wait_until};
