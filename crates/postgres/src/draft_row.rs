//! A draft as a feedback row holds it. Nothing here is shared with what writes rows.

use crate::number::number;
use std::borrow::Cow;

use tokio_postgres::Row;

use dinnerbell_core::recovery::found::FoundDraft;

/// What [`read`] reads, of a feedback table named `f`.
pub const COLUMNS: &str = "f.restaurant_id, f.adv_campaign_id, f.adv_campaign_content, f.adv_campaign_owner, \
     f.adv_campaign_owner_contact, f.adv_campaign_datetime_start, f.adv_campaign_datetime_end, f.client_id, f.datetime_created, \
     f.trigger_datetime_created::int8";

/// The draft of a row whose [`COLUMNS`] begin at this one. They are read by their places, in the order of that list. A table may have many millions
/// of rows, and a lookup by name costs time in each row.
pub fn read(row: &Row, first: usize) -> FoundDraft<'_> {
    let text = |column: usize| Cow::Borrowed(row.get::<_, &str>(first + column));
    FoundDraft {
        restaurant_id: text(0),
        adv_campaign_id: text(1),
        adv_campaign_content: text(2),
        adv_campaign_owner: text(3),
        adv_campaign_owner_contact: text(4),
        adv_campaign_datetime_start: number(row, first + 5),
        adv_campaign_datetime_end: number(row, first + 6),
        client_id: text(7),
        datetime_created: number(row, first + 8),
        trigger_datetime_created: number(row, first + 9),
    }
}
