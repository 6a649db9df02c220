//! Orders are kept: a row of `dinnerbell.audit` for each, in the transaction that carries it out.

use tokio_postgres::types::Type;

use super::PostgresLedger;
use crate::connect::{Connection, Parameter, Pool};
use crate::errors::PostgresError;
use crate::sql;
use dinnerbell_core::model::audit::{Action, Order, Orderer, Subject};

/// Keeps an order in an open transaction: it stays if what was ordered does.
pub async fn note(
    tx: &Connection,
    by: &Orderer,
    action: Action,
    subject: Subject<'_>,
    details: &str,
) -> Result<(), PostgresError> {
    let order = Order::new(by, action, subject, details);
    tx.execute(sql::NOTE_ORDER.text(), &parameters(&order)).await.map(drop)
}

/// Keeps what changes nothing else: a sign-in, a refusal.
pub async fn note_alone(
    pool: &Pool,
    by: &Orderer,
    action: Action,
    subject: Subject<'_>,
    details: &str,
) -> Result<(), PostgresError> {
    let order = Order::new(by, action, subject, details);
    pool.query(sql::NOTE_ORDER.text(), &parameters(&order)).await.map(drop)
}

fn parameters(order: &Order) -> [Parameter<'_>; 7] {
    [
        (&order.who, Type::TEXT),
        (&order.what, Type::TEXT),
        (&order.subject, Type::TEXT),
        (&order.subject_id, Type::TEXT),
        (&order.details, Type::TEXT),
        (&order.origin, Type::TEXT),
        (&order.host, Type::TEXT),
    ]
}

impl PostgresLedger {
    /// Keeps the order that this transaction carries out; nothing where an instance is at work.
    pub(super) async fn note_order(
        &self,
        tx: &Connection,
        action: Action,
        subject: Subject<'_>,
        details: &str,
    ) -> Result<(), PostgresError> {
        match &self.shared.orderer {
            Some(by) => note(tx, by, action, subject, details).await,
            None => Ok(()),
        }
    }
}
