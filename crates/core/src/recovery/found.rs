//! A draft as it is found in one of the two sinks. Nothing here is shared with what writes them.

use crate::model::number::Seconds;
use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The ten fields of a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundDraft<'a> {
    /// Whose offer it is.
    #[serde(borrow)]
    pub restaurant_id: Cow<'a, str>,
    /// The campaign.
    #[serde(borrow)]
    pub adv_campaign_id: Cow<'a, str>,
    /// The text of the offer.
    #[serde(borrow)]
    pub adv_campaign_content: Cow<'a, str>,
    /// Who answers for it.
    #[serde(borrow)]
    pub adv_campaign_owner: Cow<'a, str>,
    /// How to reach them.
    #[serde(borrow)]
    pub adv_campaign_owner_contact: Cow<'a, str>,
    /// When it begins.
    pub adv_campaign_datetime_start: Seconds,
    /// When it ends.
    pub adv_campaign_datetime_end: Seconds,
    /// Who is told.
    #[serde(borrow)]
    pub client_id: Cow<'a, str>,
    /// The sender's version.
    pub datetime_created: Seconds,
    /// When the draft was formed.
    pub trigger_datetime_created: Seconds,
}

impl<'a> FoundDraft<'a> {
    /// From a message's value; none where it is no draft.
    pub fn of_message(value: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }

    /// The same, apart from where it was read.
    pub fn into_owned(self) -> FoundDraft<'static> {
        let own = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        FoundDraft {
            restaurant_id: own(self.restaurant_id),
            adv_campaign_id: own(self.adv_campaign_id),
            adv_campaign_content: own(self.adv_campaign_content),
            adv_campaign_owner: own(self.adv_campaign_owner),
            adv_campaign_owner_contact: own(self.adv_campaign_owner_contact),
            adv_campaign_datetime_start: self.adv_campaign_datetime_start,
            adv_campaign_datetime_end: self.adv_campaign_datetime_end,
            client_id: own(self.client_id),
            datetime_created: self.datetime_created,
            trigger_datetime_created: self.trigger_datetime_created,
        }
    }

    /// Whose draft it is: campaign and client.
    pub fn key(&self) -> u128 {
        key(&self.adv_campaign_id, &self.client_id)
    }

    /// The campaign alone.
    pub fn campaign(&self) -> u64 {
        campaign(&self.adv_campaign_id)
    }

    /// All ten fields.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        let texts = [
            &self.restaurant_id,
            &self.adv_campaign_id,
            &self.adv_campaign_content,
            &self.adv_campaign_owner,
            &self.adv_campaign_owner_contact,
            &self.client_id,
        ];
        for text in texts {
            // The length keeps neighbours apart.
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        let times = [
            self.adv_campaign_datetime_start,
            self.adv_campaign_datetime_end,
            self.datetime_created,
            self.trigger_datetime_created,
        ];
        for time in times {
            hash.update(&time.get().to_le_bytes());
        }
        hash.digest()
    }
}

/// A campaign and a client as one number: 128 bits do not meet by chance.
pub fn key(adv_campaign_id: &str, client_id: &str) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&(adv_campaign_id.len() as u64).to_le_bytes());
    hash.update(adv_campaign_id.as_bytes());
    hash.update(client_id.as_bytes());
    hash.digest128()
}

/// A campaign as one number.
pub fn campaign(adv_campaign_id: &str) -> u64 {
    xxh3_64(adv_campaign_id.as_bytes())
}

#[cfg(test)]
mod tests {
    use crate::recovery::found::*;

    const VALUE: &str = r#"{"restaurant_id":"r","adv_campaign_id":"c","adv_campaign_content":"70% \"off\"","adv_campaign_owner":"o",
        "adv_campaign_owner_contact":"@","adv_campaign_datetime_start":1,"adv_campaign_datetime_end":2,"client_id":"u",
        "datetime_created":3,"trigger_datetime_created":4}"#;

    #[test]
    fn every_field_is_in_the_fingerprint() {
        let draft = FoundDraft::of_message(VALUE.as_bytes()).expect("a draft");
        assert_eq!(draft.adv_campaign_content, r#"70% "off""#);
        let mut seen = std::collections::BTreeSet::from([draft.fingerprint()]);
        let changes: [fn(&mut FoundDraft<'_>); 10] = [
            |d| d.restaurant_id = "x".into(),
            |d| d.adv_campaign_id = "x".into(),
            |d| d.adv_campaign_content = "x".into(),
            |d| d.adv_campaign_owner = "x".into(),
            |d| d.adv_campaign_owner_contact = "x".into(),
            |d| d.client_id = "x".into(),
            |d| d.adv_campaign_datetime_start = Seconds::new(9),
            |d| d.adv_campaign_datetime_end = Seconds::new(9),
            |d| d.datetime_created = Seconds::new(9),
            |d| d.trigger_datetime_created = Seconds::new(9),
        ];
        for change in changes {
            let mut changed = draft.clone();
            change(&mut changed);
            assert!(seen.insert(changed.fingerprint()), "{changed:?}");
        }
    }

    #[test]
    fn what_is_no_draft_is_none() {
        for wrong in ["", "{}", "null", r#"{"client_id":"u"}"#] {
            assert!(FoundDraft::of_message(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn campaign_and_client_do_not_run_into_each_other() {
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }
}
