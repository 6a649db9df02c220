//! Tests on real servers that are red without a guard.

use dinnerbell_core::guard::Guard;

/// Each guard with its test.
pub const RED: &[(Guard, &str)] = &[
    (
        Guard::ChangesAppliedAtTakeover,
        "operate::cancel::without_an_instance_a_cancel_is_recorded_and_comes_before_anybody_is_told",
    ),
    (Guard::ChecksumReadBack, "operate::remedies::a_round_whose_rows_were_removed_and_are_restored"),
    (Guard::PauseBeforeARound, "life::pause::while_sending_is_paused_campaigns_start_and_end_by_the_clock"),
    (
        Guard::PauseBeforePublication,
        "life::pause::a_lane_entered_while_sending_is_paused_takes_in_though_its_last_round_waits_to_be_published",
    ),
];
