//! What one draft costs before any server sees it. `cargo bench --bench encode`; one iteration is one item.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use bytes::BytesMut;
use dinnerbell::draft::{Clients, DraftBatch, DraftTemplate};
use dinnerbell::way::decode::{Arrival, decode};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

const SAMPLE: &[u8] = include_bytes!("../samples/campaign.json");
/// As many as a full round holds.
const DRAFTS: usize = 20_000;

fn main() {
    divan::main();
}

fn round() -> DraftBatch {
    let Arrival::Campaign(campaign) = decode(None, Some(SAMPLE)) else { panic!("the sample is a campaign") };
    let template = DraftTemplate::new(Arc::new(campaign), 1_700_000_000, "dinnerbell").expect("the year is 2023");
    let ids: Vec<String> = (0..DRAFTS).map(|number| format!("{number:08x}-e89b-12d3-a456-426614174000")).collect();
    let clients: Clients = ids.iter().map(String::as_str).collect();
    DraftBatch { template: Arc::new(template), clients }
}

#[divan::bench]
fn decode_sample(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::new(SAMPLE.len())).bench(|| decode(None, Some(black_box(SAMPLE))));
}

#[divan::bench]
fn template(bencher: Bencher<'_, '_>) {
    let campaign = Arc::clone(round().template.campaign());
    bencher.bench(|| DraftTemplate::new(black_box(Arc::clone(&campaign)), 1_700_000_000, "dinnerbell"));
}

#[divan::bench]
fn rows_of_a_round(bencher: Bencher<'_, '_>) {
    let round = round();
    let mut frame = BytesMut::with_capacity(256 * 1024);
    bencher.counter(ItemsCount::new(DRAFTS)).bench_local(|| {
        for client in round.clients.iter() {
            if frame.len() > 128 * 1024 {
                black_box(&frame);
                frame.clear();
            }
            round.template.row(client, &mut frame);
        }
    });
}

#[divan::bench]
fn messages_of_a_round(bencher: Bencher<'_, '_>) {
    let round = round();
    let mut value = Vec::new();
    bencher.counter(ItemsCount::new(DRAFTS)).bench_local(|| {
        for client in round.clients.iter() {
            value.clear();
            round.template.message_value(client, &mut value);
            black_box(&value);
        }
    });
}

#[divan::bench]
fn ids_of_a_round(bencher: Bencher<'_, '_>) {
    let round = round();
    bencher.counter(ItemsCount::new(DRAFTS)).bench_local(|| {
        for client in round.clients.iter() {
            black_box(round.template.ce_id(client));
        }
    });
}

#[divan::bench]
fn checksum_of_a_round(bencher: Bencher<'_, '_>) {
    let round = round();
    bencher.counter(ItemsCount::new(DRAFTS)).bench_local(|| black_box(&round).checksum());
}
