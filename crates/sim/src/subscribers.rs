//! The subscribers table of a simulated world, with its history.

use std::collections::BTreeSet;

use dinnerbell_core::model::late::Subscription;
use dinnerbell_core::model::limits::{LONGEST_CLIENT_ID, LONGEST_NAME};
use dinnerbell_core::model::number::Micros;
use dinnerbell_core::model::page::{Page, PageRequest};

/// The subscribers table with its history, so that a replica can show it as it was.
#[derive(Debug, Default)]
pub struct Subscribers {
    /// Every row that ever was, by its id.
    pub rows: Vec<Subscriber>,
    /// How far behind the replica is, in microseconds.
    pub lag: i64,
    /// Restaurants whose pages take longer than a page may.
    pub overdue: BTreeSet<String>,
}

impl Subscribers {
    /// Inserts a favourite; its transaction commits at that time. Sequences leave gaps: so wide ones that the tail scan's overlap does not
    /// reach back to the beginning of the table.
    pub fn insert(&mut self, client_id: &str, restaurant_id: &str, from: Micros, gap: i64) {
        let (client_id, restaurant_id) = (client_id.to_owned(), restaurant_id.to_owned());
        let id = self.rows.last().map_or(0, |row| row.id) + 1 + gap;
        self.rows.push(Subscriber { id, client_id, restaurant_id, from, until: Micros::MAX });
    }

    /// Deletes every row of a favourite that stands.
    pub fn delete(&mut self, client_id: &str, restaurant_id: &str, at: Micros) {
        for row in &mut self.rows {
            if row.client_id == client_id && row.restaurant_id == restaurant_id && row.stands(at) {
                row.until = at;
            }
        }
    }

    /// The rows that stand at a time.
    pub fn at(&self, time: Micros) -> impl Iterator<Item = &Subscriber> {
        self.rows.iter().filter(move |row| row.stands(time))
    }

    pub(super) fn page(&self, time: Micros, asked: &Asked) -> Page {
        let favour = |row: &&Subscriber| row.restaurant_id == asked.restaurant_id && row.has_restaurant();
        let stand: BTreeSet<&str> = self.at(time).filter(favour).map(|row| row.client_id.as_str()).collect();
        let usable = |client: &&str| !client.is_empty() && client.len() <= LONGEST_CLIENT_ID;
        let skipped = if asked.after.is_some() { 0 } else { stand.iter().filter(|client| !usable(client)).count() };
        let behind = |client: &&str| asked.after.as_deref().is_none_or(|after| *client > after);
        let within = |client: &&str| asked.upto.as_deref().is_none_or(|upto| *client <= upto);
        let of_page = stand.iter().copied().filter(|client| usable(client) && behind(client) && within(client));
        let clients: dinnerbell_core::model::clients::Clients = of_page.take(asked.rows).collect();
        Page { last: clients.len() < asked.rows, clients, skipped: skipped as u64 }
    }
}

/// A favourite and the time for which it stood.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// The id: it is given when the row is inserted, which may be long before that is committed.
    pub id: i64,
    /// The client that favours the restaurant.
    pub client_id: String,
    /// The restaurant that is favoured.
    pub restaurant_id: String,
    /// When it was committed.
    pub from: Micros,
    /// When its deletion was committed.
    pub until: Micros,
}

impl Subscriber {
    pub(super) fn stands(&self, at: Micros) -> bool {
        self.from <= at && at < self.until
    }

    pub(super) fn favourite(&self) -> Subscription {
        Subscription { id: self.id, client_id: self.client_id.clone(), restaurant_id: self.restaurant_id.clone() }
    }

    /// Whether a draft can be made for the client.
    pub fn is_usable(&self) -> bool {
        !self.client_id.is_empty() && self.client_id.len() <= LONGEST_CLIENT_ID && self.has_restaurant()
    }

    /// Whether a restaurant of this id can have a campaign.
    pub(super) fn has_restaurant(&self) -> bool {
        self.restaurant_id.len() <= LONGEST_NAME
    }
}

pub(super) struct Asked {
    pub(super) restaurant_id: String,
    pub(super) after: Option<String>,
    pub(super) upto: Option<String>,
    pub(super) rows: usize,
}

impl From<&PageRequest<'_>> for Asked {
    fn from(wanted: &PageRequest<'_>) -> Self {
        let PageRequest { restaurant_id, after, upto, rows } = *wanted;
        let (after, upto) = (after.map(str::to_owned), upto.map(str::to_owned));
        Self { restaurant_id: restaurant_id.to_owned(), after, upto, rows }
    }
}
