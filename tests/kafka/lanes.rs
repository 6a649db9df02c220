//! How lanes are read.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rdkafka::producer::Producer as _;
use tokio::time::timeout;

use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::model::record::{Header, InputEvent};
use dinnerbell_core::ports::broker::{Broker, Input};

use super::{SOON, Scene, is_transient, produce, take, values};
use crate::support::Security;

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_is_read_in_order_and_its_end_lies_behind_the_gaps() {
    let scene = Scene::new(1);
    let sender = scene.sender();
    sender.begin_transaction().unwrap();
    produce(&sender, scene.campaigns(), Lane::new(0), [b"one".to_vec(), b"two".to_vec()]);
    sender.commit_transaction(SOON).unwrap();
    sender.begin_transaction().unwrap();
    produce(&sender, scene.campaigns(), Lane::new(0), [b"never".to_vec()]);
    sender.flush(SOON).unwrap();
    sender.abort_transaction(SOON).unwrap();

    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    // two records, a marker, an aborted record, its marker
    assert_eq!(values(&take(&mut input, 3).await), ["one", "two", "end 5"]);
    assert_eq!(broker.watermarks(Lane::new(0)).await.unwrap(), (Offset::FIRST, Offset::new(5)));
    assert!(timeout(Duration::from_secs(2), input.next(10)).await.is_err(), "a lane at rest says nothing");

    scene.send(Lane::new(0), [b"three".to_vec()]);
    assert_eq!(values(&take(&mut input, 1).await), ["three"]);
    assert!(timeout(Duration::from_secs(2), input.next(10)).await.is_err(), "there is no gap behind the last record");
    sender.begin_transaction().unwrap();
    produce(&sender, scene.campaigns(), Lane::new(0), [b"never".to_vec()]);
    sender.flush(SOON).unwrap();
    assert!(timeout(Duration::from_secs(2), input.next(10)).await.is_err(), "an open transaction is not the end");
    sender.abort_transaction(SOON).unwrap();
    assert_eq!(values(&take(&mut input, 1).await), ["end 8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_holds_nothing_but_a_gap_ends_behind_it() {
    let scene = Scene::new(1);
    let sender = scene.sender();
    sender.begin_transaction().unwrap();
    produce(&sender, scene.campaigns(), Lane::new(0), (0..100).map(|_| b"never".to_vec()));
    sender.flush(SOON).unwrap();
    sender.abort_transaction(SOON).unwrap();
    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    assert_eq!(values(&take(&mut input, 1).await), ["end 101"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lane_holds_up_no_other_and_loses_nothing() {
    let scene = Scene::new(2);
    scene.send(Lane::new(0), (0..20_000).map(|n| format!("{n:0>400}").into_bytes()));
    let broker = scene.broker().await;
    let mut full = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    let mut other = broker.open(Lane::new(1), Offset::new(0), None).await.unwrap();
    for n in 0..5 {
        scene.send(Lane::new(1), [format!("small {n}").into_bytes()]);
        assert_eq!(values(&take(&mut other, 1).await), [format!("small {n}")]);
    }
    let drained = take(&mut full, 20_000).await;
    let expected: Vec<_> = (0..20_000).map(|n| format!("{n:0>400}")).collect();
    assert!(values(&drained) == expected, "the lane is read whole and in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_every_bound_still_passes_as_what_it_was() {
    let scene = Scene::new(1);
    let large = vec![b'x'; 6_000_000];
    scene.send(Lane::new(0), [large.clone(), b"next".to_vec()]);
    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    let arrived = take(&mut input, 2).await;
    let [InputEvent::Record(first), InputEvent::Record(next)] = &arrived[..] else { panic!("{arrived:?}") };
    drop(input);
    let omitted = first.omitted.as_ref().unwrap();
    let size = omitted.value.as_ref().map(|value| value.size);
    assert_eq!((&first.value, &omitted.parts, size), (&None, &vec!["value"], Some(6_000_000)));
    assert_eq!((next.value.as_deref(), &next.omitted), (Some(&b"next"[..]), &None));
    assert_eq!(
        broker.fingerprint_at(Lane::new(0), Offset::new(0)).await.unwrap(),
        first.fingerprint(),
        "it is known again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_is_opened_again_at_any_position_and_its_former_reader_is_told() {
    let scene = Scene::new(1);
    scene.send(Lane::new(0), (0..3_000).map(|n| n.to_string().into_bytes()));
    let broker = scene.broker().await;
    let mut former = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    assert_eq!(values(&take(&mut former, 1).await)[0], "0");
    for position in [5, 2_999, 0, 1_500] {
        let mut input = broker.open(Lane::new(0), Offset::new(position), None).await.unwrap();
        assert_eq!(values(&take(&mut input, 1).await)[0], position.to_string());
    }
    let told = former.next(10).await;
    assert!(is_transient(&told), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_at_an_offset_is_that_of_the_record_there_or_none() {
    let scene = Scene::new(1);
    scene.send(Lane::new(0), [b"zero".to_vec(), b"one".to_vec()]);
    let sender = scene.sender();
    sender.begin_transaction().unwrap();
    produce(&sender, scene.campaigns(), Lane::new(0), [b"two".to_vec()]);
    sender.commit_transaction(SOON).unwrap();
    scene.send(Lane::new(0), [b"four".to_vec()]);

    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    let InputEvent::Record(one) = take(&mut input, 4).await.remove(1) else { panic!("a record stands there") };
    drop(input);
    assert_eq!(broker.fingerprint_at(Lane::new(0), Offset::new(1)).await.unwrap(), one.fingerprint());
    assert_eq!(
        broker.fingerprint_at(Lane::new(0), Offset::new(3)).await.unwrap(),
        None,
        "a transaction's marker is no record"
    );
    assert_eq!(broker.fingerprint_at(Lane::new(0), Offset::new(5)).await.unwrap(), None, "nothing is there yet");
    assert_eq!(broker.fingerprint_at(Lane::new(0), Offset::new(500)).await.unwrap(), None, "nothing was ever there");
    scene.server.delete_records(scene.campaigns(), 0, 2);
    assert_eq!(broker.fingerprint_at(Lane::new(0), Offset::new(1)).await.unwrap(), None, "it was deleted");
    assert_eq!(broker.watermarks(Lane::new(0)).await.unwrap(), (Offset::new(2), Offset::new(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn input_trimmed_below_the_position_is_an_error_not_a_jump() {
    let scene = Scene::new(1);
    scene.send(Lane::new(0), (0..10).map(|n| n.to_string().into_bytes()));
    scene.server.delete_records(scene.campaigns(), 0, 5);
    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(2), None).await.unwrap();
    let told = timeout(SOON, input.next(10)).await.unwrap();
    assert!(is_transient(&told), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn header_names_that_are_not_text_are_kept_as_unreadable() {
    let scene = Scene::new(1);
    let mut kcat = scene.server.kcat(Security::Plaintext);
    kcat.args(["-P", "-t", scene.campaigns(), "-p", "0", "-H", "good=1", "-H"]);
    kcat.arg(std::ffi::OsStr::from_bytes(b"b\xffd=2")).stdin(std::process::Stdio::piped());
    let mut kcat = kcat.spawn().unwrap();
    kcat.stdin.take().unwrap().write_all(b"value\n").unwrap();
    assert!(kcat.wait().unwrap().success());
    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    let InputEvent::Record(record) = take(&mut input, 1).await.remove(0) else { panic!("a record was sent") };
    assert_eq!(
        record.headers,
        [
            Header { name: "good".into(), value: Some(b"1".to_vec()) },
            Header { name: Header::UNREADABLE.into(), value: None }
        ]
    );
}
