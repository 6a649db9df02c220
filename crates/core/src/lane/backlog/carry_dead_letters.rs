//! The backlog's part for dead letters: they wait until their topic takes them, and a round carries some.

use crate::lane::backlog::LaneBacklog;

impl LaneBacklog {
    /// Waits until a dead letter waits to be published.
    pub async fn dead_letters_wait(&self) {
        while self.waiting_dead_letters() == 0 {
            self.wakeups.letters.wait().await;
        }
    }

    /// How many dead letters wait, as far as they are remembered.
    pub fn waiting_dead_letters(&self) -> usize {
        self.state().letters.len()
    }

    /// The next round that is planned may carry dead letters, at most `most`.
    pub fn carry(&self, most: usize) {
        self.state().letters.carry(most);
        self.wakeups.changed.notify();
    }

    /// Waits until a round with dead letters was recorded, or they were called back.
    pub async fn carried(&self) {
        while self.state().letters.are_carried() {
            self.wakeups.letters.wait().await;
        }
    }

    /// The topic of dead letters takes none any more: they wait.
    pub fn call_dead_letters_back(&self) {
        self.state().letters.carry(0);
        self.wakeups.letters.notify();
    }

    /// The dead letters of the next round, oldest first, bounded in number and bytes; and how many bytes they are.
    pub fn dead_letters(&self) -> (Vec<i64>, usize) {
        self.state().letters.of_a_round()
    }
}
