//! What the partial indexes hold. A query is served by such an index only if it says the same.
//!
//! They are partial because btree refuses entries that are too long: an index of ours must not refuse other people's rows.

use dinnerbell_core::model::limits::LONGEST_CLIENT_ID as LONGEST;

/// Rows whose id of a campaign or restaurant, in this column, and whose client id are short enough to be ours.
pub fn short_enough(first: &str) -> String {
    format!("octet_length({first}) <= {LONGEST} and octet_length(client_id) <= {LONGEST}")
}

/// Favourites of clients that are in no page.
pub(super) fn too_long() -> String {
    format!("octet_length(restaurant_id) <= {LONGEST} and octet_length(client_id) > {LONGEST}")
}

/// Feedback rows of a campaign: as bytes, as the index has them, and in the column's own collation, by which the table may be partitioned.
pub fn of_campaign(column: &str, id: &str) -> String {
    format!("{column} = {id} and {column} collate \"C\" = {id}")
}
