use kafka_protocol::records::RecordBatchDecoder;

use super::*;

const SEQUENCE: Sequence = Sequence { producer_id: 4_711, producer_epoch: 3, first: 12 };
const CODECS: [Compression; 5] =
    [Compression::None, Compression::GZIP, Compression::Snappy, Compression::Lz4, Compression::ZSTD];

#[test]
fn a_batch_of_every_codec_is_read_back_field_by_field() {
    let headers: [(&[u8], Option<&[u8]>); 2] = [(b"one", Some(b"1")), (b"none", None)];
    let records = [
        Record { key: Some(b"key"), value: Some(&[b'v'; 3_000]), headers: &headers },
        Record { key: None, value: None, headers: &[] },
        Record { key: Some(b""), value: Some(b""), headers: &headers },
    ];
    for codec in CODECS {
        let mut builder = BatchBuilder::new(1_000_000);
        let mut scratch = Vec::new();
        assert!(records.iter().all(|record| builder.push(record, &mut scratch)));
        let batch = builder.build(codec, 1_700_000_000_000).expect("compresses").expect("holds records");
        assert_eq!(batch.count(), 3);
        let mut bytes = batch.seal(SEQUENCE);
        let decoded = RecordBatchDecoder::decode(&mut bytes).expect("a broker reads it").records;
        assert_eq!(decoded.len(), 3, "{codec:?}");
        for (index, (decoded, record)) in decoded.iter().zip(&records).enumerate() {
            assert_eq!(decoded.key.as_deref(), record.key);
            assert_eq!(decoded.value.as_deref(), record.value);
            let headers: Vec<_> =
                decoded.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref())).collect();
            assert_eq!(headers, record.headers);
            assert_eq!((decoded.offset, decoded.timestamp), (index as i64, 1_700_000_000_000));
            assert_eq!((decoded.producer_id, decoded.producer_epoch), (4_711, 3));
            assert_eq!(decoded.sequence, 12 + index as i32);
            assert!(decoded.transactional && !decoded.control);
        }
    }
}

#[test]
fn a_batch_is_never_larger_than_its_limit_whatever_its_records_are() {
    // Bytes that no codec makes smaller.
    let noise: Vec<u8> = (0..400_u32).flat_map(|n| crc32c::crc32c(&n.to_le_bytes()).to_le_bytes()).collect();
    for codec in CODECS {
        for limit in [100, 1_000, 1_700, 20_000] {
            let mut builder = BatchBuilder::new(limit);
            let mut scratch = Vec::new();
            let record = Record { key: None, value: Some(&noise), headers: &[] };
            while builder.push(&record, &mut scratch) {}
            if let Some(batch) = builder.build(codec, 0).expect("compresses") {
                assert!(batch.size() <= limit, "{codec:?}: {} of {limit}", batch.size());
            }
            assert_eq!(limit > 1_650, limit > 1_650 && builder.push(&record, &mut scratch));
        }
    }
}

#[test]
fn a_record_that_fits_but_for_its_head_is_refused() {
    let record = Record { key: None, value: Some(&[b'v'; 100]), headers: &[] };
    let fits = |limit: usize| {
        let mut builder = BatchBuilder::new(limit);
        let fits = builder.push(&record, &mut Vec::new());
        if let Some(batch) = builder.build(Compression::None, 0).expect("nothing is compressed") {
            assert!(batch.size() <= limit, "{} of {limit}", batch.size());
        }
        fits
    };
    // A head of 61, and 104 beside what a record begins with, 12 at most.
    assert_eq!((160..190).find(|limit| fits(*limit)), Some(177));
}
