//! Which batches go in one request.
//!
//! A broker adds the new partitions of a request to the transaction at once, and serves the requests of a connection one by one. So a small round, one
//! batch for each partition, costs one such addition in one request, and as many as there are partitions in requests of their own.

use crate::round::PartitionBatch;

/// Most bytes of the batches of one request, unless it has only one.
const MOST_BYTES: usize = 1024 * 1024;

/// Batches for one broker, each of another partition.
#[derive(Debug)]
pub struct BrokerBatches<'a> {
    /// The broker's `host:port`.
    pub leader: &'a str,
    /// The batches.
    pub batches: Vec<PartitionBatch>,
}

impl BrokerBatches<'_> {
    fn takes(&self, next: &PartitionBatch) -> bool {
        let bytes: usize = self.batches.iter().map(|found| found.batch.size()).sum();
        bytes + next.batch.size() <= MOST_BYTES && self.batches.iter().all(|found| found.partition != next.partition)
    }
}

/// Groups batches by the broker that leads their partitions, as few groups as fit. Batches of one partition keep their order.
pub fn by_broker<'a>(batches: impl IntoIterator<Item = (&'a str, PartitionBatch)>) -> Vec<BrokerBatches<'a>> {
    let mut groups: Vec<BrokerBatches<'a>> = Vec::new();
    for (leader, next) in batches {
        // The broker's last group alone: an earlier one may be before a batch of the same partition.
        match groups.iter_mut().rfind(|group| group.leader == leader) {
            Some(group) if group.takes(&next) => group.batches.push(next),
            _ => groups.push(BrokerBatches { leader, batches: vec![next] }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::compression::Compression;
    use crate::record::Record;

    fn batch(partition: u32, bytes: usize) -> PartitionBatch {
        let value = vec![b'x'; bytes];
        let mut builder = BatchBuilder::new(bytes + 1_000);
        assert!(builder.push(&Record { key: None, value: Some(&value), headers: &[] }, &mut Vec::new()));
        PartitionBatch { partition, batch: builder.build(Compression::None, 0).unwrap().unwrap() }
    }

    fn grouped(batches: &[(&'static str, u32, usize)]) -> Vec<(&'static str, Vec<u32>)> {
        let batches = batches.iter().map(|(leader, partition, bytes)| (*leader, batch(*partition, *bytes)));
        let partitions =
            |group: BrokerBatches<'static>| (group.leader, group.batches.iter().map(|found| found.partition).collect());
        by_broker(batches).into_iter().map(partitions).collect()
    }

    #[test]
    fn the_batches_of_a_small_round_go_to_each_broker_in_one_request() {
        assert_eq!(
            grouped(&[("a:1", 0, 10), ("b:1", 1, 10), ("a:1", 2, 10), ("b:1", 3, 10)]),
            [("a:1", vec![0, 2]), ("b:1", vec![1, 3])]
        );
    }

    #[test]
    fn a_request_has_one_batch_of_a_partition_and_they_keep_their_order() {
        assert_eq!(
            grouped(&[("a:1", 0, 10), ("a:1", 1, 10), ("a:1", 0, 10), ("a:1", 2, 10)]),
            [("a:1", vec![0, 1]), ("a:1", vec![0, 2])]
        );
    }

    #[test]
    fn a_request_is_no_larger_than_its_bound_or_than_one_batch() {
        let half = MOST_BYTES / 2 - 1_000;
        assert_eq!(
            grouped(&[("a:1", 0, half), ("a:1", 1, half), ("a:1", 2, half), ("a:1", 3, 2 * MOST_BYTES)]),
            [("a:1", vec![0, 1]), ("a:1", vec![2]), ("a:1", vec![3])]
        );
    }
}
