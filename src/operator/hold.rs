//! The hold: whether nothing is sent and nothing is taken in because the ledger may have lost commits, and what is to be done.

use std::fmt;

use crate::model::halt::LOSSES;
use crate::model::record::Lane;
use crate::postgres::connect::Pool;
use crate::postgres::errors::PostgresError;
use crate::postgres::ledger::hold::COMPARISON;
use tokio_postgres::types::Type;

/// All is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Lanes that were not compared with Kafka since the server was started, or since a lane found commits missing.
    pub waiting: Vec<Lane>,
    /// Lanes in which commits are missing.
    pub lost: Vec<Lane>,
}

/// What puts back what was lost.
pub const REMEDY: &str = "put back what Kafka holds, of all lanes: dinnerbell lane resolve --all --from-kafka";

/// The hold that stands, if one does.
pub async fn standing(pool: &Pool) -> Result<Option<Hold>, PostgresError> {
    let sql = format!(
        "select l.lane, l.compared is distinct from {COMPARISON}, coalesce(l.halted = any($1), false) \
         from dinnerbell.service s left join dinnerbell.lane l on true where s.compared <> {COMPARISON} order by l.lane"
    );
    let rows = pool.query(&sql, &[(&LOSSES.as_slice(), Type::TEXT_ARRAY)]).await?;
    let lanes = |column: usize| rows.iter().filter(|row| row.get(column)).filter_map(|row| row.get(0)).collect();
    Ok((!rows.is_empty()).then(|| Hold { waiting: lanes(1), lost: lanes(2) }))
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |lanes: &[Lane]| lanes.iter().map(Lane::to_string).collect::<Vec<_>>().join(", ");
        write!(
            f,
            "nothing is sent or taken in until every lane was compared with Kafka, because the ledger may have lost commits; "
        )?;
        match (self.waiting.as_slice(), self.lost.as_slice()) {
            ([], []) => write!(f, "an instance enters the lanes that the ledger does not have yet"),
            (waiting, []) => write!(f, "an instance compares a lane when it enters it: {} wait", named(waiting)),
            (waiting, lost) => {
                write!(f, "commits are missing in {}", named(lost))?;
                let others: Vec<Lane> = waiting.iter().filter(|lane| !lost.contains(lane)).copied().collect();
                if others.is_empty() { Ok(()) } else { write!(f, ", and {} wait", named(&others)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_names_the_lanes_that_lost_commits_and_those_that_wait() {
        let said = |waiting: &[Lane], lost: &[Lane]| {
            Hold { waiting: waiting.to_vec(), lost: lost.to_vec() }.to_string().split_off("nothing is sent".len())
        };
        assert!(said(&[0, 3], &[]).ends_with("when it enters it: 0, 3 wait"));
        assert!(said(&[0, 1, 3], &[0, 3]).ends_with("commits are missing in 0, 3, and 1 wait"));
        assert!(said(&[3], &[3]).ends_with("commits are missing in 3"));
        assert!(said(&[], &[]).ends_with("that the ledger does not have yet"));
    }
}
