//! A record as it is kept.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers, Message};
use sha2::{Digest as _, Sha256};

use crate::catch_panic::catch_panic;
use dinnerbell_core::model::limits::{LARGEST_RECORD, LARGEST_REST};
use dinnerbell_core::model::number::{Millis, Offset};
use dinnerbell_core::model::record::{Digest, Header, OmittedParts, Record, hash};

/// A record as it is kept: of one that is too large, what it was.
pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    let (key, value) = (message.key(), message.payload());
    let headers = message.headers();
    let headers_size = headers.map_or(0, |headers| (0..headers.count()).map(|index| header_size(headers, index)).sum());
    let omitted = omitted(key, value, headers_size);
    let keeps = |part| omitted.as_ref().is_none_or(|omitted| !omitted.parts.contains(&part));
    let read = |headers| (0..BorrowedHeaders::count(headers)).filter_map(|index| header(headers, index)).collect();
    Record {
        offset: Offset::new(message.offset()),
        timestamp: message.timestamp().to_millis().map_or(Millis::NONE, Millis::new),
        key: key.filter(|_| keeps("key")).map(<[u8]>::to_vec),
        value: value.filter(|_| keeps("value")).map(<[u8]>::to_vec),
        headers: headers.filter(|_| keeps("headers")).map_or_else(Vec::new, read),
        omitted,
    }
}

/// What is left out of a record with these parts, if it is too large.
fn omitted(key: Option<&[u8]>, value: Option<&[u8]>, headers: usize) -> Option<OmittedParts> {
    let (key_size, value_size) = (key.map_or(0, <[u8]>::len), value.map_or(0, <[u8]>::len));
    let size = key_size + value_size + headers;
    if size <= LARGEST_RECORD {
        return None;
    }
    let sizes = [("key", key_size), ("value", value_size), ("headers", headers)];
    let large = |(part, size): &(&'static str, usize)| (*size > LARGEST_REST).then_some(*part);
    Some(OmittedParts {
        parts: sizes.iter().filter_map(large).collect(),
        reason: format!(
            "the record takes {size} bytes unpacked (key {key_size}, value {value_size}, headers {headers}), and at most {LARGEST_RECORD} \
             are allowed; leave out what is no field of a campaign"
        ),
        value: value
            .filter(|_| value_size > LARGEST_REST)
            .map(|value| Digest { size: value_size as i64, sha256: Sha256::digest(value).to_vec() }),
        hash: Some(hash(key, value)),
    })
}

/// What a header takes, by its value where its name cannot be read.
fn header_size(headers: &BorrowedHeaders, index: usize) -> usize {
    let read = catch_panic(|| {
        catch_unwind(AssertUnwindSafe(|| {
            headers.try_get(index).map_or(0, |header| header.key.len() + header.value.map_or(0, <[u8]>::len))
        }))
    });
    read.unwrap_or_default() + 16
}

/// The library panics where a header's name is not UTF-8, and shows its value to nobody then.
fn header(headers: &BorrowedHeaders, index: usize) -> Option<Header> {
    let read = catch_panic(|| {
        catch_unwind(AssertUnwindSafe(|| {
            headers
                .try_get(index)
                .map(|header| Header { name: header.key.to_owned(), value: header.value.map(<[u8]>::to_vec) })
        }))
    });
    read.unwrap_or_else(|_| Some(Header { name: Header::UNREADABLE.into(), value: None }))
}
