//! What a campaign and a draft cost before any server sees them: decoding, planning, rows and messages. `cargo bench --bench encode`; one iteration is one item.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use bytes::BytesMut;
use dinnerbell_core::lane::round::plan::{PlannableCampaign, plan};
use dinnerbell_core::model::campaign::Window;
use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::draft::{CE_ID, DraftBatch, DraftTemplate, ROUND_HEADER, TriggerType};
use dinnerbell_core::model::input::{DecodedRecord, decode};
use dinnerbell_core::model::number::Seconds;
use dinnerbell_core::model::round_capacity::RoundCapacity;
use dinnerbell_kafka::message;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use rdkafka::message::Header;

const SAMPLE: &[u8] = include_bytes!("../samples/campaign.json");
/// As many as a full round holds.
const DRAFTS: usize = 20_000;

fn main() {
    divan::main();
}

fn round() -> DraftBatch {
    let DecodedRecord::Campaign(campaign) = decode(None, Some(SAMPLE)) else { panic!("the sample is a campaign") };
    let template =
        DraftTemplate::new(Arc::new(campaign), Seconds::new(1_700_000_000), "dinnerbell").expect("the year is 2023");
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
    bencher.bench(|| DraftTemplate::new(black_box(Arc::clone(&campaign)), Seconds::new(1_700_000_000), "dinnerbell"));
}

/// A full round among so many campaigns, all of them begun but the last.
#[divan::bench(args = [1, 10, 1_000])]
fn plan_a_round(bencher: Bencher<'_, '_>, campaigns: i64) {
    let candidate = |number: i64| PlannableCampaign {
        window: Window { start: Seconds::new(0), end: Seconds::new(10_000 + number % 97) },
        begun: number + 1 < campaigns,
        remaining: (number % 2 == 0).then_some(50_000),
        size: 1_000,
    };
    let candidates: Vec<PlannableCampaign> = (0..campaigns).map(candidate).collect();
    bencher.bench(|| plan(Seconds::new(5_000), RoundCapacity::rows_only(DRAFTS), None, black_box(&candidates)));
}

#[divan::bench]
fn rows_of_a_round(bencher: Bencher<'_, '_>) {
    let round = round();
    let mut frame = BytesMut::with_capacity(256 * 1024);
    bencher.counter(ItemsCount::new(DRAFTS)).bench_local(|| {
        let rows = round.template.rows(TriggerType::Int4).expect("the year is 2023");
        for client in round.clients.iter() {
            if frame.len() > 128 * 1024 {
                black_box(&frame);
                frame.clear();
            }
            rows.append(client, &mut frame);
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

/// With its headers, as it is handed to librdkafka.
#[divan::bench]
fn headers_of_a_round(bencher: Bencher<'_, '_>) {
    let round = round();
    let headers = round.template.headers().iter().map(|(name, value)| (*name, Some(&**value)));
    let common = message::headers(headers.chain([(ROUND_HEADER, Some(b"promo.in/0/1".as_slice()))]));
    bencher.counter(ItemsCount::new(DRAFTS)).bench_local(|| {
        for client in round.clients.iter() {
            let id = round.template.ce_id(client);
            black_box(common.clone().insert(Header { key: CE_ID, value: Some(&id) }));
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
