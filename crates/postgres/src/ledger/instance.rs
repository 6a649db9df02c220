//! What the lanes of an instance ask in common.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PostgresLedger;
use crate::connect::Parameter;
use crate::number::number;
use crate::sql;
use crate::sql::fragments::{OPEN, of_restaurants};
use dinnerbell_core::model::due::Poll;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::ownership::{Ownership, Suspension};
use dinnerbell_core::ports::ledger::{InstanceLedger, LedgerError};

impl InstanceLedger for PostgresLedger {
    async fn poll(&self, owned: &[Ownership]) -> Result<Poll, LedgerError> {
        let lanes: Vec<i32> = owned.iter().map(|own| own.lane.get()).collect();
        let epochs: Vec<i64> = owned.iter().map(|own| own.epoch.get()).collect();
        let server_starts: Vec<i64> = owned.iter().map(|own| own.server_started_at.get()).collect();
        let parameters: [Parameter<'_>; 4] = [
            (&lanes, Type::INT4_ARRAY),
            (&epochs, Type::INT8_ARRAY),
            (&server_starts, Type::INT8_ARRAY),
            (&self.feedback(), Type::TEXT),
        ];
        let rows = self.ask(sql::WAITING.text(), &parameters).await?;
        let poll = |row: &Row| Poll {
            changes: lanes_of(row, "changes"),
            rescans: lanes_of(row, "rescans"),
            lost_lanes: lanes_of(row, "taken"),
        };
        Ok(rows.first().map(poll).unwrap_or_default())
    }

    async fn open_restaurants(
        &self,
        lanes: &[Lane],
        restaurants: &[String],
    ) -> Result<Vec<(Lane, String)>, LedgerError> {
        let sql = format!(
            "select distinct lane, restaurant_id from {} where lane = any($2) and {OPEN}",
            of_restaurants("$1")
        );
        let parameters: [Parameter<'_>; 2] = [(&restaurants, Type::TEXT_ARRAY), (&bare(lanes), Type::INT4_ARRAY)];
        let rows = self.ask(&sql, &parameters).await?;
        Ok(rows.iter().map(|row| (number(row, "lane"), row.get("restaurant_id"))).collect())
    }

    async fn tail_scanned(&self, lanes: &[Lane]) -> Result<Option<i64>, LedgerError> {
        let sql = "select min(swept_to) from dinnerbell.lane where lane = any($1)";
        let rows = self.pool.query(sql, &[(&bare(lanes), Type::INT4_ARRAY)]).await?;
        Ok(rows.first().and_then(|row| row.get(0)))
    }

    async fn note_tail_scanned(&self, lanes: &[Lane], upto: i64) -> Result<bool, LedgerError> {
        let owner = &self.shared.owner;
        let parameters: [Parameter<'_>; 3] =
            [(&bare(lanes), Type::INT4_ARRAY), (&upto, Type::INT8), (&owner, Type::TEXT)];
        let rows = self.pool.query(sql::NOTE_TAIL_SCANNED.text(), &parameters).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    async fn suspension(&self) -> Result<Suspension, LedgerError> {
        self.read_suspension().await
    }
}

/// For a parameter that is an array.
fn bare(lanes: &[Lane]) -> Vec<i32> {
    lanes.iter().map(|lane| lane.get()).collect()
}

fn lanes_of(row: &Row, column: &str) -> Vec<Lane> {
    row.get::<_, Vec<i32>>(column).into_iter().map(Lane::new).collect()
}
