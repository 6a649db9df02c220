//! What must not grow: the cost of doing nothing, and the cost of beginning. What is counted is tested always; what is measured,
//! `make prove` runs and prints.

mod beginning;
pub mod history;
mod idle;
mod reads;
