//! Dinnerbell: a restaurant rings; everyone who favours it hears, once, while the offer lasts.

pub mod cli;
pub mod demo;
pub mod doctor;
pub mod operator;
pub mod service;
pub mod verify;
pub mod web;
