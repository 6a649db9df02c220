//! Lists of clients, and ranges of them.

/// A list of client ids in one buffer: a page of twenty thousand costs two allocations, not twenty thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    text: String,
    ends: Vec<u32>,
}

impl Clients {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one client.
    pub fn push(&mut self, client_id: &str) {
        self.text.push_str(client_id);
        let end =
            u32::try_from(self.text.len()).expect("a round of at most a million clients of 256 bytes fits in 4 GiB");
        self.ends.push(end);
    }

    /// How many clients it holds.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The last client, if any.
    pub fn last(&self) -> Option<&str> {
        self.len().checked_sub(1).map(|last| self.get(last))
    }

    /// The clients in the order in which they were pushed.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// What the list occupies, in bytes.
    pub fn size(&self) -> usize {
        self.text.len() + 4 * self.ends.len()
    }

    fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.text[start..self.ends[index] as usize]
    }
}

impl<'a> FromIterator<&'a str> for Clients {
    fn from_iter<I: IntoIterator<Item = &'a str>>(clients: I) -> Self {
        let mut list = Self::new();
        clients.into_iter().for_each(|client| list.push(client));
        list
    }
}

/// The clients of a campaign in `(after, upto]`, by `client_id COLLATE "C"`.
#[derive(Debug, Clone, Copy)]
pub struct ClientRange<'a> {
    /// The campaign.
    pub adv_campaign_id: &'a str,
    /// After this client; none from the first on.
    pub after: Option<&'a str>,
    /// Up to this client, inclusive.
    pub upto: &'a str,
}
