use super::*;

const OURS: u64 = 1;
const UNKNOWN: u64 = 2;
const NEVER_TOLD: u64 = 3;

fn entry(kind: DraftSource) -> Entry {
    Entry { key: 5, kind, fingerprint: 8, campaign: OURS, partition: 0, place: 0, flag: false }
}

fn compared(entries: &[Entry]) -> Comparison {
    let mut comparison = Comparison::default();
    comparison.campaigns.insert(OURS, Facts { told: 10, kept: 1, unknown_late: 0 });
    comparison.campaigns.insert(NEVER_TOLD, Facts::default());
    let mut entries = entries.to_vec();
    entries.sort_unstable();
    comparison.take(&entries).expect("temporary files");
    comparison
}

/// Rows that wait for a round, and rows that should have a message, where this is the last published round of lane 0.
fn left(comparison: &Comparison, published: i64) -> (u64, u64) {
    let published = BTreeMap::from([(Lane::new(0), Seq::new(published))]);
    (comparison.unsettled.pending(&published), comparison.unsettled.overdue(&published))
}

fn differences(entries: &[Entry]) -> Differences {
    compared(entries).differences
}

#[test]
fn one_row_and_one_message_that_agree_are_equal() {
    for message in [DraftSource::Message, DraftSource::LaterMessage] {
        let compared = compared(&[entry(message), entry(DraftSource::Row)]);
        assert_eq!((compared.equal, compared.differences.total()), (1, 0));
    }
}

#[test]
fn a_message_without_a_row_differs_unless_it_came_after_the_snapshot() {
    assert_eq!(differences(&[entry(DraftSource::Message)]).messages_without_row, 1);
    assert_eq!(differences(&[entry(DraftSource::LaterMessage)]).total(), 0);
}

#[test]
fn repeats_on_either_side_and_other_fields_differ() {
    let again = Entry { place: 1, ..entry(DraftSource::Message) };
    assert_eq!(differences(&[entry(DraftSource::Message), again, entry(DraftSource::Row)]).messages_repeated, 1);
    let later = entry(DraftSource::LaterMessage);
    assert_eq!(differences(&[entry(DraftSource::Message), later, entry(DraftSource::Row)]).messages_repeated, 1);
    let again = Entry { place: 1, ..entry(DraftSource::Row) };
    assert_eq!(differences(&[entry(DraftSource::Message), entry(DraftSource::Row), again]).rows_repeated, 1);
    let other = Entry { fingerprint: 9, ..entry(DraftSource::Row) };
    assert_eq!(differences(&[entry(DraftSource::Message), other]).fields_differ, 1);
}

#[test]
fn a_row_without_a_message_waits_for_its_round_until_that_is_published() {
    let recorded = Entry { place: 4, ..entry(DraftSource::Recorded) };
    let compared = compared(&[entry(DraftSource::Row), recorded]);
    assert_eq!(compared.differences.total(), 0);
    assert_eq!((left(&compared, 3), left(&compared, 4)), ((1, 0), (0, 1)));
    let published = BTreeMap::from([(Lane::new(0), Seq::new(4))]);
    let overdue = compared.unsettled.into_overdue(&published);
    assert_eq!(overdue.flat_map(Result::unwrap).collect::<Vec<_>>(), [entry(DraftSource::Row)]);
}

#[test]
fn any_number_of_rows_may_wait_for_their_rounds() {
    let mut comparison = compared(&[]);
    for key in 0..300_000 {
        let draft = |kind| Entry { key: key << 64, partition: 0, place: 4, ..entry(kind) };
        comparison.take(&[draft(DraftSource::Row), draft(DraftSource::Recorded)]).unwrap();
    }
    assert_eq!((left(&comparison, 3), comparison.differences.total()), ((300_000, 0), 0));
    for key in 0..100_000 {
        comparison.unsettled.message(&Entry { key: key << 64, ..entry(DraftSource::LaterMessage) }).unwrap();
    }
    comparison.settle().unwrap();
    assert_eq!((comparison.equal, left(&comparison, 4)), (100_000, (0, 200_000)));
}

#[test]
fn a_message_that_came_later_settles_its_row_and_no_other() {
    let mut comparison = compared(&[entry(DraftSource::Row)]);
    let other = Entry { key: 6, ..entry(DraftSource::LaterMessage) };
    comparison.unsettled.message(&other).unwrap();
    comparison.settle().unwrap();
    assert_eq!((comparison.equal, left(&comparison, 0)), (0, (0, 1)));
    for message in
        [entry(DraftSource::LaterMessage), Entry { place: 9, fingerprint: 1, ..entry(DraftSource::LaterMessage) }]
    {
        comparison.unsettled.message(&message).unwrap();
    }
    comparison.settle().unwrap();
    assert_eq!((left(&comparison, 0), comparison.equal), ((0, 0), 0));
    let Differences { fields_differ, messages_repeated, .. } = comparison.differences;
    assert_eq!((fields_differ, messages_repeated), (1, 1));
}

#[test]
fn rows_of_an_earlier_job_are_foreign_and_not_different() {
    for rows in [
        vec![entry(DraftSource::Row), entry(DraftSource::Before)],
        vec![Entry { campaign: UNKNOWN, ..entry(DraftSource::Row) }],
        vec![Entry { campaign: NEVER_TOLD, ..entry(DraftSource::Row) }],
    ] {
        let compared = compared(&rows);
        assert_eq!((compared.foreign_rows, left(&compared, 0), compared.differences.total()), (1, (0, 0), 0));
    }
}

#[test]
fn a_row_behind_the_cursor_is_foreign_unless_somebody_was_told_late_who_may_be_its_client() {
    let row = [entry(DraftSource::Row), entry(DraftSource::BehindCursor)];
    let late = [row[0], row[1], entry(DraftSource::Late)];
    assert_eq!((compared(&row).foreign_rows, compared(&late).foreign_rows), (1, 0));
    let recorded = [entry(DraftSource::Row), entry(DraftSource::Recorded), entry(DraftSource::BehindCursor)];
    assert_eq!(left(&compared(&recorded), 0), (0, 1), "a round holds it");
    let mut unknown = Comparison::default();
    unknown.campaigns.insert(OURS, Facts { told: 10, kept: 0, unknown_late: 1 });
    unknown.take(&row).unwrap();
    assert_eq!((unknown.foreign_rows, left(&unknown, 0)), (0, (0, 1)));
}

#[test]
fn a_message_of_an_unknown_campaign_is_foreign_unless_it_names_our_round() {
    let foreign = Entry { campaign: UNKNOWN, ..entry(DraftSource::Message) };
    assert_eq!(compared(&[foreign]).foreign_messages, 1);
    assert_eq!(differences(&[Entry { flag: true, ..foreign }]).messages_without_row, 1);
}

#[test]
fn a_row_of_a_withdrawn_draft_that_somebody_has_locked_is_no_difference() {
    let row = entry(DraftSource::Row);
    let comparison = compared(&[row, entry(DraftSource::Locked)]);
    assert_eq!((comparison.locked, left(&comparison, 0)), (1, (0, 0)));
    let message = entry(DraftSource::Message);
    let comparison = compared(&[message, row, entry(DraftSource::Locked)]);
    assert_eq!((comparison.locked, comparison.equal), (0, 1), "told since, though the lock is remembered");
}

#[test]
fn a_row_that_somebody_answered_in_is_kept_as_often_as_the_ledger_says() {
    let mut comparison = compared(&[]);
    let answered = |key| Entry { key, flag: true, ..entry(DraftSource::Row) };
    comparison.take(&[answered(5)]).unwrap();
    comparison.take(&[answered(6)]).unwrap();
    assert_eq!((comparison.kept, left(&comparison, 0)), (1, (0, 1)));
}
