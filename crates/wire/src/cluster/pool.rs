//! Connections that nobody uses at the moment.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::connection::Connection;

/// Most connections to one broker that are kept while nobody uses them: as many lanes may be woken together.
const MOST_KEPT: usize = 64;
/// A connection that was not used for so long may have died in silence.
const PROVEN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Pool {
    most_idle: Duration,
    idle: Mutex<HashMap<String, Vec<Connection>>>,
}

impl Pool {
    /// Connections that nobody used for so long are dropped.
    pub(super) fn new(most_idle: Duration) -> Self {
        Self { most_idle, idle: Mutex::default() }
    }

    /// The one to this broker that was used last, fit for something that takes so long.
    pub(super) fn take(&self, address: &str, longest_use: Duration) -> Option<Connection> {
        loop {
            let mut connection = self.idle().get_mut(address)?.pop()?;
            if connection.is_fit_for(longest_use, self.most_idle) {
                return Some(connection);
            }
        }
    }

    /// Keeps it, unless there are enough. Drops what lay idle for too long, wherever it leads.
    pub(super) fn put(&self, connection: Connection) {
        let mut idle = self.idle();
        retain(&mut idle, |kept| !kept.lay_idle(self.most_idle));
        let kept = idle.entry(connection.address().to_owned()).or_default();
        if kept.len() < MOST_KEPT {
            kept.push(connection);
        }
    }

    /// Drops what leads to this broker.
    pub(super) fn forget(&self, address: &str) {
        self.idle().remove(address);
    }

    /// Drops what leads to any other broker.
    pub(super) fn keep_only(&self, addresses: &[String]) {
        self.idle().retain(|address, _| addresses.contains(address));
    }

    /// Drops what was not used lately.
    pub(super) fn drop_unproven(&self) {
        retain(&mut self.idle(), |kept| !kept.lay_idle(PROVEN));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.idle().values().map(Vec::len).sum()
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<String, Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn retain(idle: &mut HashMap<String, Vec<Connection>>, stays: impl Fn(&Connection) -> bool) {
    idle.retain(|_, kept| {
        kept.retain(&stays);
        !kept.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::to_nobody;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn no_more_are_kept_than_lanes_may_be_woken_together_and_none_that_lay_idle_too_long() {
        let pool = Pool::new(MINUTE);
        (0..=MOST_KEPT).for_each(|_| pool.put(to_nobody("a:9092")));
        assert_eq!(pool.len(), MOST_KEPT);
        tokio::time::advance(MINUTE).await;
        pool.put(to_nobody("b:9092"));
        assert_eq!(pool.len(), 1, "those to any broker go");
    }

    #[tokio::test(start_paused = true)]
    async fn in_doubt_only_those_that_were_used_lately_stay() {
        let pool = Pool::new(MINUTE);
        pool.put(to_nobody("a:9092"));
        tokio::time::advance(PROVEN).await;
        pool.put(to_nobody("b:9092"));
        pool.drop_unproven();
        assert_eq!(pool.len(), 1);
        assert!(pool.take("b:9092", MINUTE).is_some());
    }
}
