use std::collections::BTreeMap;
use std::sync::Arc;

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::number::Seconds;
use kafka_protocol::records::{Record, RecordBatchDecoder};
use proptest::prelude::*;

use super::*;
use crate::batch::Sequence;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::GZIP, Compression::Snappy, Compression::Lz4, Compression::ZSTD];

fn template(content: &str) -> DraftTemplate {
    let campaign = Campaign {
        restaurant_id: "restaurant \"1\"".into(),
        adv_campaign_id: "campaign".into(),
        adv_campaign_content: content.into(),
        adv_campaign_owner: "owner".into(),
        adv_campaign_owner_contact: "contact".into(),
        window: Window { start: Seconds::new(1_700_000_000), end: Seconds::new(1_700_003_600) },
        datetime_created: Seconds::new(1_699_999_000),
    };
    DraftTemplate::new(Arc::new(campaign), Seconds::new(1_700_000_100), "group").expect("times of this century")
}

fn read_back(batches: Vec<PartitionBatch>, limit: usize) -> Vec<(u32, Record)> {
    let mut next: BTreeMap<u32, i32> = BTreeMap::new();
    let mut records = Vec::new();
    for PartitionBatch { partition, batch } in batches {
        assert!(batch.size() <= limit, "{} of {limit}", batch.size());
        let first = next.entry(partition).or_default();
        let sequence = Sequence { producer_id: 1, producer_epoch: 0, first: *first };
        *first += batch.count();
        let mut bytes = batch.seal(sequence);
        let decoded = RecordBatchDecoder::decode(&mut bytes).expect("a broker reads it");
        records.extend(decoded.records.into_iter().map(|record| (partition, record)));
    }
    records
}

fn encode(format: RoundFormat, template: &DraftTemplate, clients: &[String]) -> Vec<PartitionBatch> {
    let mut encoder = RoundEncoder::new(format, "promo.in/0/7");
    let mut batches = Vec::new();
    encoder.push(template, clients.iter().map(String::as_str), |batch| batches.push(batch)).expect("drafts fit");
    encoder.finish(|batch| batches.push(batch)).expect("compresses");
    batches
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_read_back_is_what_the_template_says(
        clients in proptest::collection::vec("\\PC{1,60}|[\\x00-\\x7f]{1,256}", 1..200),
        codec in proptest::sample::select(&CODECS[..]),
        partitions in 1_u32..5,
        batch_bytes in 4_000_usize..40_000,
        content in ".{0,200}",
    ) {
        let template = template(&content);
        let format = RoundFormat { partitions, batch_bytes, compression: codec, time: 1_700_000_100_000 };
        let records = read_back(encode(format, &template, &clients), batch_bytes);
        prop_assert_eq!(records.len(), clients.len());
        for partition in 0..partitions {
            let here = clients.iter().filter(|client| partition_of(client.as_bytes(), partitions) == partition);
            let read = records.iter().filter(|(of, _)| *of == partition);
            for (client, (_, record)) in here.zip(read) {
                let mut value = Vec::new();
                template.message_value(client, &mut value);
                prop_assert_eq!(record.key.as_deref(), Some(client.as_bytes()));
                prop_assert_eq!(record.value.as_deref(), Some(&value[..]));
                prop_assert_eq!(record.timestamp, 1_700_000_100_000);
                let id = template.ce_id(client);
                let common = template.headers().iter().map(|(name, value)| (*name, &value[..]));
                let expected: Vec<_> = common.chain([(ROUND_HEADER, &b"promo.in/0/7"[..]), (CE_ID, &id[..])]).collect();
                let found: Vec<_> = record
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_deref().expect("a value")))
                    .collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}

#[test]
fn a_draft_that_the_topic_does_not_take_is_refused_with_its_size() {
    let format = RoundFormat { partitions: 1, batch_bytes: 500, compression: Compression::Lz4, time: 0 };
    let mut encoder = RoundEncoder::new(format, "promo.in/0/7");
    let refused = encoder.push(&template(&"x".repeat(1_000)), ["client"].into_iter(), |_| {});
    assert!(matches!(refused, Err(EncodeError::TooLarge { limit: 500, .. })), "{refused:?}");
}

#[test]
fn a_topic_of_many_partitions_does_not_make_many_batches_wait() {
    let clients: Vec<String> = (0..30_000).map(|n| format!("client-{n}")).collect();
    let format = RoundFormat { partitions: 500, batch_bytes: 1_000_000, compression: Compression::None, time: 0 };
    let mut encoder = RoundEncoder::new(format, "promo.in/0/7");
    let mut handed_over = 0;
    let template = template(&"x".repeat(300));
    encoder
        .push(&template, clients.iter().map(String::as_str), |batch| handed_over += batch.batch.size())
        .expect("fit");
    let mut left = 0;
    encoder.finish(|batch| left += batch.batch.size()).expect("nothing is compressed");
    assert!(handed_over > left && left < OPEN_BYTES + 500 * crate::batch::HEAD, "{handed_over} and {left}");
}
