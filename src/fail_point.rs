//! placeholder, replaced by the rig's
/// x
pub fn fail_point(_name: &str) {}
