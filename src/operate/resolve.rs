//! Resolving a halt.
