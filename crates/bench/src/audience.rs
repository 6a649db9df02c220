//! Subscribers that are made: known by their number, so that ten million of them need no memory.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// The subscribers of one restaurant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// Whose they are.
    pub restaurant: String,
    /// How many there are.
    pub subscribers: usize,
}

/// The restaurant whose campaigns warm up, and how many favour it.
const WARM_UP: (&str, usize) = ("warm-up", 100);

impl Audience {
    /// The subscribers of a restaurant that is named after their number.
    pub fn of(subscribers: usize) -> Self {
        Self { restaurant: format!("audience-{subscribers}"), subscribers }
    }

    /// Those to whom campaigns are sent before anything is measured.
    pub fn warm_up() -> Self {
        Self { restaurant: WARM_UP.0.to_owned(), subscribers: WARM_UP.1 }
    }

    /// Hands over each client's id, in the order of `client_id COLLATE "C"`.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> + use<> {
        let subscribers = self.subscribers;
        (0..subscribers).map(move |number| ClientId::of(number, subscribers))
    }

    /// Appends the rows of some of them to a COPY in binary format of (client_id, restaurant_id).
    pub fn row(&self, client: &ClientId, frame: &mut BytesMut) {
        frame.put_i16(2);
        for text in [client.as_str(), &self.restaurant] {
            frame.put_i32(i32::try_from(text.len()).unwrap_or(i32::MAX));
            frame.put_slice(text.as_bytes());
        }
    }
}

/// A client's id: a UUID as people have them, its first half rising with the client's number.
#[derive(Debug, Clone, Copy)]
pub struct ClientId([u8; Hyphenated::LENGTH]);

impl ClientId {
    fn of(number: usize, among: usize) -> Self {
        let (number, among) = (number as u64, among as u64);
        let rising = number * (u64::MAX / among.max(1));
        // The second half of SplitMix64: bits that no compression guesses, as in real ids.
        let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mut text = [0; Hyphenated::LENGTH];
        let uuid = Uuid::from_u64_pair(rising ^ (mixed & 0xff), mixed ^ (mixed >> 31));
        uuid.hyphenated().encode_lower(&mut text);
        Self(text)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_distinct_and_come_in_order() {
        for subscribers in [1, 7, 10_000] {
            let clients: Vec<String> = Audience::of(subscribers).clients().map(|id| id.as_str().to_owned()).collect();
            assert_eq!(clients.len(), subscribers);
            assert!(clients.iter().zip(&clients[1..]).all(|(one, next)| one < next));
            assert!(clients.iter().all(|client| Uuid::parse_str(client).is_ok()));
        }
        let last = ClientId::of(99_999_999, 100_000_000);
        assert!(ClientId::of(99_999_998, 100_000_000).as_str() < last.as_str());
    }
}
