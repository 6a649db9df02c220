use super::*;

fn campaign(start: i64, end: i64, datetime_created: i64) -> Campaign {
    Campaign {
        restaurant_id: "r".to_owned(),
        adv_campaign_id: "c".to_owned(),
        adv_campaign_content: "soup".to_owned(),
        adv_campaign_owner: "o".to_owned(),
        adv_campaign_owner_contact: "x".to_owned(),
        window: Window { start: Seconds::new(start), end: Seconds::new(end) },
        datetime_created: Seconds::new(datetime_created),
    }
}

fn previewed(campaign: &Campaign, stood: Option<KnownCampaign>) -> Preview {
    let mut preview =
        Preview { will_be_told: Some(1000), pace: Some(10.0), seconds: Some(100.0), ..Preview::default() };
    check_campaign(&mut preview, campaign, stood.as_ref(), Seconds::new(1000));
    preview
}

fn active(known: Campaign) -> Option<KnownCampaign> {
    Some(KnownCampaign { state: "active".to_owned(), known: Known::Campaign(known), cursor: None })
}

#[test]
fn a_window_that_is_too_short_or_over_is_told_before_it_rings() {
    let fits = previewed(&campaign(900, 1100, 5), None);
    assert_eq!((fits.will_be_told, fits.warnings.len(), fits.counts_as), (Some(1000), 0, Some(CountsAs::Campaign)));
    let short = previewed(&campaign(1050, 1100, 5), None);
    assert!(short.warnings[0].contains("50 s are left") && short.warnings[0].contains("about 500"), "{short:?}");
    let over = previewed(&campaign(900, 1000, 5), None);
    assert_eq!(over.will_be_told, Some(0));
    assert!(over.warnings[0].contains("already ended"), "{over:?}");
}

#[test]
fn what_is_known_of_the_id_says_as_what_it_counts() {
    let new = campaign(900, 2000, 5);
    let of = |stood| previewed(&new, stood);
    assert_eq!(of(active(new.clone())).counts_as, Some(CountsAs::Duplicate));
    assert_eq!(of(active(campaign(900, 2000, 4))).counts_as, Some(CountsAs::Update));
    let older = of(active(campaign(900, 950, 6)));
    assert_eq!(
        (older.counts_as, older.will_be_told),
        (Some(CountsAs::OlderUpdate), Some(0)),
        "the known one has ended"
    );
    let conflict = of(active(campaign(900, 2001, 5)));
    assert_eq!((conflict.counts_as, conflict.mistakes.len()), (Some(CountsAs::DeadLetter), 1));
    let cancelled = of(Some(KnownCampaign { state: "cancelled".to_owned(), known: Known::Cancelled, cursor: None }));
    assert_eq!((cancelled.counts_as, cancelled.will_be_told), (Some(CountsAs::OlderUpdate), Some(0)));
}
