//! In which order brokers are asked what any of them knows.

use std::collections::BTreeMap;

/// Addresses of brokers, the one that is asked first in front. Those that the settings name stay for ever.
#[derive(Debug)]
pub(super) struct Brokers {
    named: Vec<String>,
    order: Vec<String>,
}

impl Brokers {
    pub(super) fn new(named: &[String]) -> Self {
        let mut order: Vec<String> = Vec::new();
        for address in named {
            if !order.contains(address) {
                order.push(address.clone());
            }
        }
        Self { named: order.clone(), order }
    }

    /// All of them, in the order in which they are asked.
    pub(super) fn all(&self) -> Vec<String> {
        self.order.clone()
    }

    /// This one has answered: it is asked first.
    pub(super) fn prefer(&mut self, address: &str) {
        if let Some(at) = self.place(address) {
            self.order[..=at].rotate_right(1);
        }
    }

    /// This one failed, or what it said turned out to be wrong: it is asked last.
    pub(super) fn demote(&mut self, address: &str) {
        if let Some(at) = self.place(address) {
            self.order[at..].rotate_left(1);
        }
    }

    /// The brokers as they are now; those that stay keep their places.
    pub(super) fn know(&mut self, addresses: &BTreeMap<i32, String>) {
        let Self { named, order } = self;
        order.retain(|known| named.contains(known) || addresses.values().any(|address| address == known));
        for address in addresses.values() {
            if !order.contains(address) {
                order.push(address.clone());
            }
        }
    }

    fn place(&self, address: &str) -> Option<usize> {
        self.order.iter().position(|known| known == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(named: &[&str]) -> Brokers {
        Brokers::new(&named.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    fn cluster(addresses: &[&str]) -> BTreeMap<i32, String> {
        (0..).zip(addresses.iter().map(|address| (*address).to_owned())).collect()
    }

    #[test]
    fn who_answered_is_asked_first_also_where_only_the_settings_name_it() {
        let mut brokers = brokers(&["a", "b", "a", "c"]);
        assert_eq!(brokers.all(), ["a", "b", "c"]);
        brokers.prefer("b");
        assert_eq!(brokers.all(), ["b", "a", "c"]);
    }

    #[test]
    fn who_failed_is_asked_last() {
        let mut brokers = brokers(&["a", "b", "c"]);
        brokers.demote("a");
        assert_eq!(brokers.all(), ["b", "c", "a"]);
        brokers.demote("nobody");
        assert_eq!(brokers.all(), ["b", "c", "a"]);
    }

    #[test]
    fn brokers_that_left_are_forgotten_and_named_ones_never() {
        let mut brokers = brokers(&["named"]);
        brokers.know(&cluster(&["a", "b"]));
        assert_eq!(brokers.all(), ["named", "a", "b"]);
        brokers.prefer("b");
        brokers.know(&cluster(&["b", "c"]));
        assert_eq!(brokers.all(), ["b", "named", "c"]);
    }
}
