//! Subscribers who come while a campaign runs, and the campaigns for which they may be late.

use crate::model::clients::Clients;
use crate::model::due::RunningCampaign;

/// A campaign that is open: active or complete, inside its window. Its audience is rescanned, and its late subscribers are told.
#[derive(Debug, Clone)]
pub struct OpenCampaign {
    /// The campaign as the next draft shall show it.
    pub running: RunningCampaign,
    /// Whether the main pass has recorded its last page.
    pub main_pass_over: bool,
    /// Drafts that are recorded, and rows that stayed when theirs was withdrawn.
    pub told: i64,
}

/// An open campaign, as far as it takes to find out who is late for it: without its content, of which there may be much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateCheckCampaign {
    /// The campaign.
    pub adv_campaign_id: String,
    /// Whose subscribers may be late for it.
    pub restaurant_id: String,
    /// The last client of the main pass, none before the first page.
    pub cursor: Option<String>,
    /// Whether the main pass has recorded its last page.
    pub main_pass_over: bool,
    /// How many drafts of it were recorded.
    pub told: i64,
    /// How many bytes its texts have together.
    pub texts: usize,
}

/// Who of these clients is late for a campaign: the question of a round.
#[derive(Debug, Clone, Copy)]
pub struct LateQuery<'a> {
    /// The campaign.
    pub adv_campaign_id: &'a str,
    /// The candidates, each once.
    pub clients: &'a Clients,
    /// The cursor as the round plans it.
    pub planned_cursor: Option<&'a str>,
    /// Whether the main pass is over by then.
    pub main_pass_over: bool,
}

/// How many drafts of a campaign were told, and how many feedback rows it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCounts {
    /// Drafts that are recorded, and rows that stayed when theirs was withdrawn.
    pub told: i64,
    /// Rows that are there; not counted any further than to what was told.
    pub rows: i64,
}

impl RowCounts {
    /// Returns true when over 2 % of the rows are missing, and also more than 5 or at least half: more than somebody takes out one by one.
    /// Who subscribes late is no part of either number.
    pub fn indicates_bulk_removal(self) -> bool {
        let missing = self.told - self.rows;
        missing > 0 && missing.saturating_mul(50) > self.told && (missing > 5 || missing * 2 >= self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::RowCounts;

    #[test]
    fn many_missing_rows_are_a_bulk_removal_and_single_ones_are_not() {
        let removed = |told, rows| RowCounts { told, rows }.indicates_bulk_removal();
        assert!(removed(1, 0) && removed(2, 1) && removed(10, 4) && removed(300, 200) && removed(10_000, 9_799));
        assert!(!removed(0, 0) && !removed(3, 2) && !removed(10, 6) && !removed(300, 295) && !removed(10_000, 9_800));
        assert!(!removed(10, 300), "an earlier job left rows");
    }
}

/// A favourite that was added: its id in the table, and who favours what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its id in the table, by which the tail scan goes.
    pub id: i64,
    /// The client that favours the restaurant.
    pub client_id: String,
    /// The restaurant that is favoured.
    pub restaurant_id: String,
}

/// Rows that were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Added {
    /// The ids of all, in their order.
    pub ids: Vec<i64>,
    /// Those that can be told: an id that is empty, too long or no UTF-8 is passed over.
    pub favourites: Vec<Subscription>,
}
