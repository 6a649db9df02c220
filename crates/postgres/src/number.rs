//! The model's numbers in SQL: which type each has there, how it becomes a parameter, and how it is read. The one place that knows.

use std::fmt::Display;

use tokio_postgres::Row;
use tokio_postgres::row::RowIndex;
use tokio_postgres::types::{ToSql, Type};

use crate::connect::Parameter;
use dinnerbell_core::model::number::{Epoch, Lane, Micros, Millis, Offset, Seconds, Seq};

/// A number of the model, or one that may be null.
pub trait Number: Sized {
    /// It, as a parameter of a statement.
    fn parameter(&self) -> Parameter<'_>;

    /// Reads it from a column. Panics as [`Row::get`] does where the statement has no such column of its type.
    fn read(row: &Row, column: impl RowIndex + Display) -> Self;
}

/// Reads a number of the model from a column, one that may be null where an `Option` is wanted. Panics as [`Row::get`] does.
pub fn number<N: Number>(row: &Row, column: impl RowIndex + Display) -> N {
    N::read(row, column)
}

/// Says which bare number and which type of SQL each is.
macro_rules! in_sql {
    ($($name:ident: $bare:ty = $sql:ident;)*) => {
        $(
            impl Number for $name {
                fn parameter(&self) -> Parameter<'_> {
                    (self.as_ref(), Type::$sql)
                }

                fn read(row: &Row, column: impl RowIndex + Display) -> Self {
                    Self::new(row.get(column))
                }
            }

            impl Number for Option<$name> {
                fn parameter(&self) -> Parameter<'_> {
                    let null: &(dyn ToSql + Sync) = &None::<$bare>;
                    (self.as_ref().map_or(null, |number| number.as_ref()), Type::$sql)
                }

                fn read(row: &Row, column: impl RowIndex + Display) -> Self {
                    row.get::<_, Option<$bare>>(column).map($name::new)
                }
            }
        )*
    };
}

in_sql! {
    Epoch: i64 = INT8;
    Lane: i32 = INT4;
    Micros: i64 = INT8;
    Millis: i64 = INT8;
    Offset: i64 = INT8;
    Seconds: i64 = INT8;
    Seq: i64 = INT8;
}
