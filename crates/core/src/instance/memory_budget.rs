//! The memory for drafts in flight, all lanes of an instance together: `fanout.memory_limit`.
//!
//! It is given out in three parts. What a round holds (its clients and its dead letters) is taken before its pages are read and kept until it is
//! published. A page that is read ahead takes some of it, and is given up before its lane waits for more. What the client library holds of its
//! messages is taken only while they are on their way; what an intake holds, only while it is recorded. A publication waits for nothing but other
//! publications, an intake for other intakes, so that lanes cannot wait for one another in a circle.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::limits::LONGEST_CLIENT_ID;

/// What one client of a round occupies at most: its id, and where it ends.
pub const LARGEST_CLIENT: usize = LONGEST_CLIENT_ID + 4;
/// What the client library holds of a publication at most, in bytes: its queue is bounded by half of that, as it counts.
const LARGEST_PUBLICATION: usize = 8 << 20;

/// Memory that lanes share. Counted in kilobytes, a begun one as a whole.
#[derive(Debug)]
pub struct MemoryBudget {
    rounds: Part,
    publications: Part,
    intakes: Part,
}

#[derive(Debug)]
struct Part {
    free: Arc<Semaphore>,
    kilobytes: u32,
}

/// Memory that was taken; given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    permit: Option<OwnedSemaphorePermit>,
}

impl MemoryBudget {
    /// A budget of this many bytes in all.
    pub fn new(bytes: usize) -> Self {
        let eighth = u32::try_from(bytes / 8 / 1024).unwrap_or(u32::MAX).clamp(1, 1 << 26);
        Self { rounds: Part::new(4 * eighth), publications: Part::new(3 * eighth), intakes: Part::new(eighth) }
    }

    /// Most clients of one round: a lane has two rounds in memory at once.
    pub fn most_clients(&self) -> usize {
        (self.rounds.kilobytes as usize * 1024 / 2 / LARGEST_CLIENT).max(1)
    }

    /// Waits for what the clients of a round may take, and for the bytes of its dead letters.
    pub async fn for_round(&self, clients: usize, letters: usize) -> Reserved {
        self.rounds.take(clients.saturating_mul(LARGEST_CLIENT).saturating_add(letters)).await
    }

    /// The memory of so many clients of a round to come. None where less than half of what rounds have would be left: it is not needed yet.
    pub fn spare_for_clients(&self, clients: usize) -> Option<Reserved> {
        let wanted = kilobytes(clients.saturating_mul(LARGEST_CLIENT));
        self.rounds.try_take(wanted, self.rounds.kilobytes / 2)
    }

    /// Waits for the memory of messages on their way, `bytes` in all.
    pub async fn for_publication(&self, bytes: usize) -> Reserved {
        self.publications.take(bytes.min(LARGEST_PUBLICATION)).await
    }

    /// Waits for the memory of records that are being recorded, `bytes` in all.
    pub async fn for_intake(&self, bytes: usize) -> Reserved {
        self.intakes.take(bytes).await
    }

    /// How much there is in all, in bytes.
    pub fn limit(&self) -> u64 {
        [&self.rounds, &self.publications, &self.intakes].map(|part| u64::from(part.kilobytes)).iter().sum::<u64>()
            * 1024
    }

    /// How much of it is taken, in bytes.
    pub fn reserved(&self) -> u64 {
        self.rounds.reserved() + self.publications.reserved() + self.intakes.reserved()
    }
}

impl Part {
    fn new(kilobytes: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(kilobytes as usize)), kilobytes }
    }

    /// Waits for this many bytes, or for the whole part where they are more than it has.
    async fn take(&self, bytes: usize) -> Reserved {
        let wanted = kilobytes(bytes).min(self.kilobytes);
        // The semaphore is never closed; were it, there would be nothing to bound.
        Reserved { permit: Arc::clone(&self.free).acquire_many_owned(wanted).await.ok() }
    }

    /// Takes this many kilobytes at once, if so many are left beside them.
    fn try_take(&self, wanted: u32, left: u32) -> Option<Reserved> {
        let mut permit = Arc::clone(&self.free).try_acquire_many_owned(wanted.checked_add(left)?).ok()?;
        drop(permit.split(left as usize));
        Some(Reserved { permit: Some(permit) })
    }

    fn reserved(&self) -> u64 {
        u64::from(self.kilobytes).saturating_sub(self.free.available_permits() as u64) * 1024
    }
}

impl Reserved {
    /// Gives back what turned out not to be needed.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.permit {
            let spare = permit.num_permits().saturating_sub(kilobytes(bytes) as usize);
            drop(permit.split(spare));
        }
    }
}

fn kilobytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_a_round_does_not_need_is_there_for_others() {
        let memory = MemoryBudget::new(2 << 20);
        let mut held = memory.for_round(1 << 20, 0).await;
        assert!(memory.for_round(1, 0).now_or_never().is_none(), "one round may take all of its part");
        held.shrink_to(10 << 10);
        assert_eq!(memory.reserved(), 10 << 10);
        assert!(memory.for_round(100, 0).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_is_not_needed_yet_leaves_half_of_the_memory_of_rounds() {
        let memory = MemoryBudget::new(2 << 20);
        let ahead = memory.spare_for_clients(1_000).expect("a quarter of it");
        assert!(memory.spare_for_clients(1_500).is_none());
        assert!(memory.for_round(2_500, 0).now_or_never().is_some(), "what is left is there for rounds");
        drop(ahead);
        assert_eq!(memory.reserved(), 0);
    }

    #[tokio::test]
    async fn publications_and_intakes_go_on_however_many_rounds_wait() {
        let memory = MemoryBudget::new(2 << 20);
        let _rounds = memory.for_round(usize::MAX, 0).await;
        let held = (memory.for_publication(usize::MAX).await, memory.for_intake(usize::MAX).await);
        assert_eq!(memory.reserved(), memory.limit());
        drop(held);
        assert_eq!(memory.reserved(), 1 << 20);
    }
}
