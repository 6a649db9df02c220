//! How many files this process may have open: raised at the start as far as the system allows, and compared with what the lanes need.
//!
//! A lane that finds no file is taken over again and again, and which lanes those are is chance. So what is too little is said beforehand.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections to one broker that are kept while no lane needs them.
const IDLE_CONNECTIONS: u64 = 16;
/// Files of a client of the library, whatever the cluster: its queues and timers.
const OF_A_CLIENT: u64 = 8;
/// And for each broker: the connection, and what wakes its thread.
const OF_A_BROKER: u64 = 3;
/// Clients that an instance has once: the group's, the reading one, the one that asks for ends.
const CLIENTS: u64 = 3;
/// HTTP, logs, the runtime, and room to spare.
const BESIDES: u64 = 150;

/// Raises the limit to the highest that this process may have, and returns it; none where there is no limit.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        // What stood before stands.
        Err(_) => current,
    }
}

/// The highest limit that this process may have; none where there is no limit.
pub fn highest() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// How many files an instance needs that has all lanes of the topic, with this many connections to databases.
pub fn needed(lanes: u64, brokers: u64, connections: u64) -> u64 {
    let client = OF_A_CLIENT + OF_A_BROKER * brokers;
    (lanes + IDLE_CONNECTIONS) * brokers + CLIENTS * client + connections + BESIDES
}

/// What is wrong with a limit, and how to mend it; none where it will do.
pub fn check(limit: Option<u64>, lanes: u64, brokers: u64, connections: u64) -> Option<(String, String)> {
    let needed = needed(lanes, brokers, connections);
    let limit = limit.filter(|limit| *limit < needed)?;
    let found = format!(
        "a process may have {limit} files open, and one instance with all {lanes} lanes needs about {needed} (one for each lane and \
         broker)"
    );
    let remedy =
        format!("raise the limit of open files to {needed} or more (ulimit -Hn; in systemd LimitNOFILE={needed})");
    Some((found, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_judged_by_the_lanes_and_brokers() {
        assert_eq!(check(Some(1_024), 12, 3, 16), None);
        let (found, remedy) = check(Some(1_024), 400, 3, 16).expect("it was seen to be too little");
        assert!(found.contains("1024 files") && remedy.contains("LimitNOFILE="), "{found}: {remedy}");
        assert_eq!(check(None, 10_000, 30, 16), None);
    }
}
