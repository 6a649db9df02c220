//! Everything that is tested against real servers or through the binary, in one program: its tests wait for servers more than they
//! compute, so they run side by side. The models and the simulation, which only compute, are programs of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test looks at real servers and processes, in real time, from threads of its own"
)]

mod bench;
mod brokers;
mod cli_campaign_send;
mod cli_config;
mod cli_usage;
mod contract;
#[path = "contract/real/mod.rs"]
mod contract_on_servers;
mod crash;
mod demo;
mod disturbed;
mod guards;
mod held_back;
mod http;
mod kafka;
mod life;
mod log_in_by_token;
mod operate;
mod postgres;
mod reach;
mod resent;
mod rig;
mod scale;
mod seed_case;
mod slow_servers;
mod start;
mod stop;
mod support;
mod web;
