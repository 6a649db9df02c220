//! One record of a batch, in bytes: length, attributes, time, offset, key, value, headers.

use crate::varint;

/// A record as any producer would write it: a dead letter, or a message of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in their order.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

impl Record<'_> {
    /// What follows the offset, appended.
    pub(crate) fn put_body(&self, out: &mut Vec<u8>) {
        put_bytes(self.key, out);
        put_bytes(self.value, out);
        varint::put_length(self.headers.len(), out);
        for (name, value) in self.headers {
            put_bytes(Some(name), out);
            put_bytes(*value, out);
        }
    }
}

/// Appends a field that may be null: its length, -1 for none, and its bytes.
pub(crate) fn put_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => varint::put(-1, out),
        Some(bytes) => {
            varint::put_length(bytes.len(), out);
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends what precedes a record's key: its length and attributes, and its distances from the batch's first time and offset. `body` is what
/// follows, in bytes. All records of a batch have its time.
pub(crate) fn put_head(index: i32, body: usize, out: &mut Vec<u8>) {
    let index = i64::from(index);
    varint::put_length(2 + varint::size(index) + body, out);
    out.extend_from_slice(&[0, 0]);
    varint::put(index, out);
}
