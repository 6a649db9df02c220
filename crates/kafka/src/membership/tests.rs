use super::*;

#[test]
fn what_is_reported_again_and_again_is_said_when_it_begins_once_a_minute_and_when_it_is_over() {
    let (mut reports, began) = (Reports::default(), Instant::now());
    let at = |tenths: u32| began + Duration::from_millis(100) * tenths;
    let said: Vec<_> =
        (0..1300).filter_map(|tenths| Some((tenths, reports.note(at(tenths), "all are down")?))).collect();
    assert_eq!(said, [(0, 0), (600, 599), (1200, 599)]);
    assert_eq!(reports.note(at(1300), "login refused"), Some(99), "what is new is said at once");
    assert_eq!(reports.over(at(1899)), None);
    assert_eq!(reports.over(at(1900)), Some(Duration::from_secs(130)));
    assert_eq!(reports.over(at(9999)), None, "once");
    assert_eq!(reports.note(at(9999), "all are down"), Some(0));
}
