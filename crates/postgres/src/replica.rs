//! How a replica of the subscribers stands. One that stopped replaying looks like an audience without newcomers.

use crate::connect::Pool;
use crate::errors::PostgresError;
use crate::sql;

/// A replica that is further behind than this is worth a warning, in seconds.
const NOTABLE: f64 = 60.0;
/// A primary says something each half minute, also where nothing is written; by default a receiver gives up one that was silent for a minute.
const SILENT: f64 = 300.0;

/// A replica, as it says itself.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    /// Whether a receiver is connected to the primary, or to another replica.
    receives: bool,
    /// What it does; none where this role may not see it.
    status: Option<String>,
    /// How long the other side has said nothing, in seconds; none where this role may not see it.
    silent: Option<f64>,
    /// Whether something was received that is not replayed yet.
    unreplayed: bool,
    /// Whether somebody paused the replay.
    paused: bool,
    /// How long ago the last transaction that it replayed was committed, in seconds.
    age: Option<f64>,
    /// When that was.
    replayed: Option<String>,
}

impl Replica {
    /// Asks a database how it stands as a replica; none where it is a primary.
    pub async fn look(pool: &Pool) -> Result<Option<Self>, PostgresError> {
        let rows = pool.query(sql::REPLICA.text(), &[]).await?;
        Ok(rows.first().map(|row| Self {
            receives: row.get("receives"),
            status: row.get("status"),
            silent: row.get("silent"),
            unreplayed: row.get("unreplayed"),
            paused: row.get("paused"),
            age: row.get("age"),
            replayed: row.get("replayed"),
        }))
    }

    /// By how many seconds what is read here may be behind. None where nothing was replayed since the server was started. One that has replayed all
    /// that its primary says is not behind, however long nothing was written.
    pub fn behind(&self) -> Option<f64> {
        match self.receives && !self.unreplayed && !self.is_silent() {
            true => Some(0.0),
            false => self.age.map(|age| age.max(0.0)),
        }
    }

    /// Whether this role sees what the receiver does.
    pub fn is_visible(&self) -> bool {
        !self.receives || self.status.is_some()
    }

    /// What is wrong, in the same words as long as it lasts: who subscribes is not seen, or a minute late.
    pub fn trouble(&self) -> Option<String> {
        let what = match &self.status {
            _ if self.paused => "its replay is paused".to_owned(),
            _ if !self.receives => "it receives nothing from its primary".to_owned(),
            Some(status) if status != "streaming" => format!("its receiver is {status}"),
            _ if self.is_silent() => "its primary has been silent for minutes".to_owned(),
            _ if self.unreplayed && self.age.is_some_and(|age| age > NOTABLE) => {
                return Some("it is a replica that replays more than a minute behind its primary".to_owned());
            }
            _ => return None,
        };
        let since = self.replayed.as_ref().map_or_else(|| "it was started".to_owned(), Clone::clone);
        Some(format!("it is a replica, and {what}: who subscribed since {since} is not seen"))
    }

    fn is_silent(&self) -> bool {
        self.silent.is_some_and(|silent| silent > SILENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that streams, and whose primary has written nothing for a day.
    fn idle() -> Replica {
        Replica {
            receives: true,
            status: Some("streaming".to_owned()),
            silent: Some(20.0),
            age: Some(86_400.0),
            replayed: Some("2026-11-26T12:00:00Z".to_owned()),
            ..Replica::default()
        }
    }

    #[test]
    fn a_replica_whose_primary_writes_nothing_is_not_behind() {
        let hidden = Replica { status: None, silent: None, ..idle() };
        for replica in [idle(), hidden] {
            assert_eq!((replica.behind(), replica.trouble()), (Some(0.0), None));
        }
    }

    #[test]
    fn a_replica_that_receives_or_replays_nothing_says_since_when() {
        let since = "who subscribed since 2026-11-26T12:00:00Z is not seen";
        for (replica, what) in [
            (Replica { receives: false, status: None, silent: None, ..idle() }, "receives nothing"),
            (Replica { paused: true, ..idle() }, "its replay is paused"),
            (Replica { status: Some("waiting".to_owned()), ..idle() }, "its receiver is waiting"),
            (Replica { silent: Some(301.0), ..idle() }, "silent for minutes"),
        ] {
            let trouble = replica.trouble().unwrap();
            assert!(trouble.contains(what) && trouble.contains(since), "{trouble}");
        }
        let slow = Replica { unreplayed: true, age: Some(61.0), ..idle() };
        assert_eq!(slow.behind(), Some(61.0));
        assert!(slow.trouble().unwrap().contains("more than a minute behind"));
        assert_eq!(Replica { age: Some(59.0), ..slow }.trouble(), None);
    }
}
