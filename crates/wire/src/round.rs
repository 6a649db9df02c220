//! The drafts of a round as record batches, one sequence of them for each partition of the notifications topic.

use std::io;

use dinnerbell_core::model::draft::{CE_ID, DraftTemplate, ROUND_HEADER, size_in_json};

use crate::batch::{Batch, BatchBuilder};
use crate::compression::Compression;
use crate::murmur2::partition_of;
use crate::record::put_bytes;
use crate::varint;

/// Most bytes that wait in open batches, those of all partitions together: a topic may have many.
const OPEN_BYTES: usize = 4 * 1024 * 1024;

/// How long a `ce_id` is.
const ID: usize = 36;

/// What is the same for all batches of a round.
#[derive(Debug, Clone, Copy)]
pub struct RoundFormat {
    /// How many partitions the topic has: one at least.
    pub partitions: u32,
    /// Most bytes of a batch: what the topic takes.
    pub batch_bytes: usize,
    /// The codec.
    pub compression: Compression,
    /// The time of its messages, in epoch milliseconds.
    pub time: i64,
}

/// A batch, and where it belongs.
#[derive(Debug)]
pub struct PartitionBatch {
    /// The partition of the notifications topic.
    pub partition: u32,
    /// The batch.
    pub batch: Batch,
}

/// Why a draft cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The topic takes no message of this size.
    #[error("a draft of {bytes} bytes does not fit into a batch of {limit}, which is what the topic takes")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What a batch may hold.
        limit: usize,
    },
    /// The codec failed.
    #[error("compressing a batch: {0}")]
    Codec(#[from] io::Error),
}

/// Gathers the drafts of a round, partition by partition.
#[derive(Debug)]
pub struct RoundEncoder {
    format: RoundFormat,
    round: Box<[u8]>,
    open: Vec<BatchBuilder>,
    /// What is in them, in bytes.
    waiting: usize,
}

impl RoundEncoder {
    /// For a round of this name (`topic/partition/seq`).
    pub fn new(format: RoundFormat, round: &str) -> Self {
        let open = (0..format.partitions).map(|_| BatchBuilder::new(format.batch_bytes)).collect();
        Self { format, round: round.as_bytes().into(), open, waiting: 0 }
    }

    /// Appends the drafts of one campaign. Each batch that is full is handed to `full`, in the order of its partition.
    pub fn push<'a>(
        &mut self,
        template: &DraftTemplate,
        clients: impl Iterator<Item = &'a str>,
        mut full: impl FnMut(PartitionBatch),
    ) -> Result<(), EncodeError> {
        let draft = DraftBody::new(template, &self.round);
        for client in clients {
            let body = draft.size(client);
            let partition = partition_of(client.as_bytes(), self.format.partitions) as usize;
            if !self.open[partition].has_room(body) {
                self.close(partition, &mut full)?;
            }
            let open = &mut self.open[partition];
            if !open.has_room(body) {
                return Err(EncodeError::TooLarge { bytes: body, limit: self.format.batch_bytes });
            }
            let before = open.size();
            open.push_with(body, |out| draft.put(client, out));
            self.waiting += open.size() - before;
            if self.waiting > OPEN_BYTES {
                let largest = (0..self.open.len()).max_by_key(|place| self.open[*place].size());
                self.close(largest.unwrap_or(partition), &mut full)?;
            }
        }
        Ok(())
    }

    /// Hands over what is open of a partition.
    fn close(&mut self, partition: usize, full: &mut impl FnMut(PartitionBatch)) -> Result<(), EncodeError> {
        let open = &mut self.open[partition];
        self.waiting -= open.size();
        if let Some(batch) = open.build(self.format.compression, self.format.time)? {
            full(PartitionBatch { partition: u32::try_from(partition).expect("it is one of a u32 of them"), batch });
        }
        Ok(())
    }

    /// Hands over what is left: at most one batch for each partition.
    pub fn finish(mut self, mut last: impl FnMut(PartitionBatch)) -> Result<(), EncodeError> {
        for (partition, open) in (0..).zip(&mut self.open) {
            if let Some(batch) = open.build(self.format.compression, self.format.time)? {
                last(PartitionBatch { partition, batch });
            }
        }
        Ok(())
    }
}

/// What follows a record's offset, for the drafts of one campaign: constant bytes around the client and its id.
struct DraftBody<'a> {
    template: &'a DraftTemplate,
    value: (&'a [u8], &'a [u8]),
    /// From the count of the headers up to the value of `ce_id`.
    headers: Vec<u8>,
}

impl<'a> DraftBody<'a> {
    fn new(template: &'a DraftTemplate, round: &[u8]) -> Self {
        let mut headers = Vec::new();
        varint::put_length(template.headers().len() + 2, &mut headers);
        for (name, value) in template.headers() {
            put_header(name, value, &mut headers);
        }
        put_header(ROUND_HEADER, round, &mut headers);
        put_bytes(Some(CE_ID.as_bytes()), &mut headers);
        varint::put_length(ID, &mut headers);
        Self { template, value: template.value_around_client(), headers }
    }

    /// How many bytes the client's record has after its offset.
    fn size(&self, client: &str) -> usize {
        let key = varint::size_of_length(client.len()) + client.len();
        let value = self.value_size(client);
        key + varint::size_of_length(value) + value + self.headers.len() + ID
    }

    fn value_size(&self, client: &str) -> usize {
        self.value.0.len() + json_size(client) + self.value.1.len()
    }

    fn put(&self, client: &str, out: &mut Vec<u8>) {
        put_bytes(Some(client.as_bytes()), out);
        varint::put_length(self.value_size(client), out);
        out.extend_from_slice(self.value.0);
        put_json(client, out);
        out.extend_from_slice(self.value.1);
        out.extend_from_slice(&self.headers);
        out.extend_from_slice(&self.template.ce_id(client));
    }
}

fn put_header(name: &str, value: &[u8], out: &mut Vec<u8>) {
    put_bytes(Some(name.as_bytes()), out);
    put_bytes(Some(value), out);
}

/// How long a text is in JSON, its quotes included.
fn json_size(text: &str) -> usize {
    text.bytes().map(size_in_json).sum::<usize>() + 2
}

fn put_json(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|byte| size_in_json(byte) == 1) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("a string can be written to memory");
    }
}

#[cfg(test)]
mod tests;
