//! The hold: whether nothing is sent and nothing is taken in because the ledger may have lost commits, what holds, and what ends it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use dinnerbell_core::instance::pause::PauseWatch;
use dinnerbell_core::model::halt::{CommitLoss, HaltKind};
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::telemetry::Telemetry;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::number::number;
use dinnerbell_postgres::sql;

/// How long a hold may last before it is said what holds: a takeover takes 2.5 s at most when all goes well.
const ORDINARY: Duration = Duration::from_secs(5);
/// How often it is looked at what holds.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// All is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hold {
    /// Lanes that were not compared with Kafka since the server was started, or since a lane found commits missing, each with what it waits for.
    pub lanes: BTreeMap<Lane, Cause>,
    /// Whether the server was started a moment ago: a hold of that time ends by itself.
    pub is_young: bool,
}

/// Why a lane is not compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Commits are missing in it.
    Lost,
    /// It is halted by this name: the two sides contradict each other, and commits may be missing.
    Halted(String),
    /// A backend of a role that the service's may not end holds its lock.
    Locked {
        /// The backend.
        pid: i32,
        /// Its role.
        role: String,
    },
    /// This instance took it over since the server was started, and has not come so far yet.
    TakenOver(String),
    /// Nobody has taken it over since.
    NotTakenOver,
}

/// What compares every lane, and puts back what was lost.
const RESOLVE_ALL: &str = "dinnerbell lane resolve --all --from-kafka";

impl Hold {
    /// The lanes that hold.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> {
        self.lanes.keys().copied()
    }

    /// Whether it does not end by itself, as far as can be known.
    pub fn needs_somebody(&self) -> bool {
        let waits = |cause: &Cause| matches!(cause, Cause::TakenOver(_) | Cause::NotTakenOver);
        !self.lanes.values().all(waits)
    }

    /// What holds, and what ends it.
    pub fn with_remedy(&self) -> String {
        format!("{self}; {}", self.remedy())
    }

    /// What ends it.
    pub fn remedy(&self) -> String {
        let is_lost = self.lanes.values().any(|cause| matches!(cause, Cause::Lost | Cause::Halted(_)));
        let ends = self.lanes.values().filter_map(|cause| match cause {
            Cause::Locked { pid, .. } => Some(format!("select pg_terminate_backend({pid})")),
            _ => None,
        });
        let ends: Vec<_> = ends.collect();
        let first = match ends.is_empty() {
            true => String::new(),
            false => {
                format!("end who holds the lock, as a superuser of the feedback database: {}; then ", ends.join("; "))
            }
        };
        let what = if is_lost { "put back what Kafka holds, and compare all lanes" } else { "compare all lanes" };
        format!("{first}{what}: {RESOLVE_ALL}")
    }
}

/// The hold that stands, if one does.
pub async fn current(pool: &Pool) -> Result<Option<Hold>, PostgresError> {
    let names = |loss| -> Vec<&str> {
        HaltKind::matching(|kind| kind.commit_loss() == loss).into_iter().map(HaltKind::name).collect()
    };
    let (lost, in_doubt) = (names(CommitLoss::Certain), names(CommitLoss::Possible));
    let rows = pool
        .query(
            sql::CURRENT_HOLD.text(),
            &[(&lost, Type::TEXT_ARRAY), (&in_doubt, Type::TEXT_ARRAY), (&0xffff_ffff_i64, Type::INT8)],
        )
        .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let lanes = rows.iter().filter_map(|row| Some((number::<Option<Lane>>(row, 0)?, cause(row)))).collect();
    Ok(Some(Hold { lanes, is_young: first.get(6) }))
}

fn cause(row: &Row) -> Cause {
    let text = |column: usize| row.get::<_, Option<String>>(column).unwrap_or_default();
    match row.get::<_, &str>(1) {
        "lost" => Cause::Lost,
        "halted" => Cause::Halted(text(2)),
        "locked" => Cause::Locked { pid: row.get(3), role: text(4) },
        "entered" => Cause::TakenOver(text(5)),
        _ => Cause::NotTakenOver,
    }
}

/// Says what holds for as long as all is held longer than is ordinary: the telemetry shows it, and the log says what is new.
pub async fn watch(pool: &Pool, pause: &PauseWatch, telemetry: &Telemetry) -> Infallible {
    loop {
        pause.until_held().await;
        let mut wait = ORDINARY;
        while timeout(wait, pause.until_not_held()).await.is_err() {
            // A database that does not answer has its own place.
            if let Ok(hold) = current(pool).await {
                telemetry.holds(hold.map(|hold| hold.with_remedy()));
            }
            wait = POLL_INTERVAL;
        }
        telemetry.holds(None);
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nothing is sent or taken in until every lane was compared with Kafka, because the ledger may have lost commits"
        )?;
        if self.lanes.is_empty() {
            return write!(f, "; an instance takes over the lanes that the ledger does not have yet");
        }
        let mut alike: BTreeMap<&Cause, Vec<String>> = BTreeMap::new();
        self.lanes.iter().for_each(|(lane, cause)| alike.entry(cause).or_default().push(lane.to_string()));
        for (cause, lanes) in alike {
            let lanes = lanes.join(", ");
            match cause {
                Cause::Lost => write!(f, "; commits are missing in {lanes}")?,
                Cause::Halted(name) => write!(f, "; halted as {name}, so that commits may be missing: {lanes}")?,
                Cause::Locked { pid, role } => write!(f, "; backend {pid} of role {role} holds the lock of {lanes}")?,
                Cause::TakenOver(owner) => write!(f, "; taken over by {owner} and not compared yet: {lanes}")?,
                Cause::NotTakenOver => write!(f, "; not taken over by any instance since: {lanes}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(lanes: impl IntoIterator<Item = (i32, Cause)>) -> Hold {
        Hold { lanes: lanes.into_iter().map(|(lane, cause)| (Lane::new(lane), cause)).collect(), is_young: false }
    }

    #[test]
    fn a_hold_names_its_lanes_by_what_they_wait_for() {
        let taken_over = || Cause::TakenOver("a:1".to_owned());
        let said =
            hold([(0, Cause::Lost), (1, taken_over()), (3, Cause::Lost), (4, Cause::NotTakenOver), (7, taken_over())]);
        let text = said.to_string();
        assert!(text.contains("commits are missing in 0, 3; taken over by a:1 and not compared yet: 1, 7; "), "{text}");
        assert!(text.ends_with("; not taken over by any instance since: 4") && said.needs_somebody(), "{text}");
        assert!(!hold([(1, taken_over()), (4, Cause::NotTakenOver)]).needs_somebody());
        assert!(hold([]).to_string().ends_with("that the ledger does not have yet"));
    }

    #[test]
    fn a_holds_remedy_ends_with_its_command_and_first_ends_who_holds_a_lock() {
        let command = "dinnerbell lane resolve --all --from-kafka";
        let locked = Cause::Locked { pid: 17, role: "other".to_owned() };
        let waits = hold([(0, Cause::NotTakenOver)]).remedy();
        assert_eq!(waits, format!("compare all lanes: {command}"));
        let halted = hold([(0, locked), (1, Cause::Halted("mark-missing".to_owned()))]);
        let remedy = halted.remedy();
        assert!(remedy.contains("select pg_terminate_backend(17); then put back what Kafka holds"), "{remedy}");
        assert!(remedy.ends_with(command) && halted.needs_somebody(), "{remedy}");
        assert!(halted.to_string().contains("backend 17 of role other holds the lock of 0"));
    }
}
