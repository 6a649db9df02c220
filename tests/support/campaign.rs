//! Campaigns to send.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The eight fields of an input message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    pub restaurant_id: String,
    pub adv_campaign_id: String,
    pub adv_campaign_content: String,
    pub adv_campaign_owner: String,
    pub adv_campaign_owner_contact: String,
    pub adv_campaign_datetime_start: i64,
    pub adv_campaign_datetime_end: i64,
    pub datetime_created: i64,
}

impl Campaign {
    /// The campaign of samples/campaign.json.
    pub fn sample() -> Self {
        serde_json::from_str(include_str!("../../samples/campaign.json")).expect("the sample is a campaign")
    }

    /// A campaign that began a minute ago and lasts an hour.
    pub fn now(adv_campaign_id: &str, restaurant_id: &str) -> Self {
        let now = epoch_seconds();
        Self {
            restaurant_id: restaurant_id.to_owned(),
            adv_campaign_id: adv_campaign_id.to_owned(),
            adv_campaign_content: format!("{adv_campaign_id}: 70% off \u{1f35c}, \"to the last bowl\"\n"),
            adv_campaign_owner: "Ivanov Ivan Ivanovich".to_owned(),
            adv_campaign_owner_contact: "iiivanov@restaurant.ru".to_owned(),
            adv_campaign_datetime_start: now - 60,
            adv_campaign_datetime_end: now + 3600,
            datetime_created: now - 120,
        }
    }

    /// The same with another window.
    pub fn lasting(mut self, start: i64, end: i64) -> Self {
        self.adv_campaign_datetime_start = start;
        self.adv_campaign_datetime_end = end;
        self
    }

    /// The value of its record.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and integers are JSON")
    }
}

/// This machine's clock.
pub fn epoch_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock stands after 1970");
    i64::try_from(since.as_secs()).expect("seconds fit for a long time")
}
