//! What a draft costs on its way into a record batch: time, and bytes that go to the broker.

use std::sync::Arc;

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::draft::DraftTemplate;
use dinnerbell_core::model::number::Seconds;
use dinnerbell_wire::compression::Compression;
use dinnerbell_wire::round::{RoundEncoder, RoundFormat};
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    for codec in CODECS {
        let mut bytes = 0;
        encode(codec, &mut |size| bytes += size);
        println!("{codec:?}: {:.1} bytes a draft", bytes as f64 / f64::from(DRAFTS));
    }
    divan::main();
}

const DRAFTS: u32 = 20_000;
const CODECS: [Compression; 5] =
    [Compression::None, Compression::GZIP, Compression::Snappy, Compression::Lz4, Compression::ZSTD];

fn encode(compression: Compression, sent: &mut dyn FnMut(usize)) {
    let campaign = Campaign {
        restaurant_id: "123e4567-e89b-12d3-a456-426614174000".into(),
        adv_campaign_id: "123e4567-e89b-12d3-a456-426614174003".into(),
        adv_campaign_content: "First dish for free, and a glass of wine with it".into(),
        adv_campaign_owner: "Ivanov Ivan Ivanovich".into(),
        adv_campaign_owner_contact: "iiivanov@restaurant.example".into(),
        window: Window { start: Seconds::new(1_700_000_000), end: Seconds::new(1_700_003_600) },
        datetime_created: Seconds::new(1_699_999_000),
    };
    let template = DraftTemplate::new(Arc::new(campaign), Seconds::new(1_700_000_100), "dinnerbell")
        .expect("times of this century");
    let format = RoundFormat { partitions: 3, batch_bytes: 1_000_000, compression, time: 1_700_000_100_000 };
    let mut encoder = RoundEncoder::new(format, "promo.in/0/7");
    let clients: Vec<String> =
        (0..DRAFTS).map(|n| format!("client-{n:08}-{:08x}", n.wrapping_mul(2_654_435_761))).collect();
    encoder.push(&template, clients.iter().map(String::as_str), |batch| sent(batch.batch.size())).expect("drafts fit");
    encoder.finish(|batch| sent(batch.batch.size())).expect("compresses");
}

#[divan::bench(args = CODECS)]
fn twenty_thousand_drafts(bencher: Bencher<'_, '_>, compression: Compression) {
    bencher.counter(ItemsCount::new(DRAFTS)).bench(|| encode(compression, &mut |_| {}));
}
