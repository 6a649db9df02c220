//! The protocol of Dinnerbell: who is told what, decided once. It knows no client library.

pub mod backoff;
pub mod fail_point;
pub mod guard;
pub mod instance;
pub mod lane;
pub mod model;
pub mod periodic;
pub mod ports;
pub mod recovery;
pub mod shutdown;
pub mod telemetry;
pub mod text_table;
