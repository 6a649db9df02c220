//! A campaign's whole life on the real servers: on time, only while it lasts, everyone once.
//!
//! Most of these tests wait for the clock: a window opens, ends, is moved. Where a claim names a figure (100 ms, 250 ms, 2 s), the test prints
//! what it measured and asserts a bound that a busy machine keeps as well.

mod bad_input;
mod changes;
mod counts;
mod ear;
mod end;
mod fairness;
mod feedback_table;
mod late;
mod letters;
mod locks;
mod nobody_twice;
mod pause;
mod scene;
mod settings;
mod start;
mod subscribers;
mod topic;
