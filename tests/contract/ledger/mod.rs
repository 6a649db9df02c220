//! The ledger: `dinnerbell_core::ports::ledger::Ledger`.

pub mod adoption;
pub mod changes;
pub mod due;
pub mod environment;
pub mod halts;
pub mod intake;
pub mod letters;
pub mod owner;
pub mod ownership;
pub mod pruning;
pub mod recovery;
pub mod rescan;
pub mod rounds;
pub mod seal;
pub mod withdrawal;

/// The capabilities of a ledger, for its callers.
pub mod capabilities {
    pub use dinnerbell_core::ports::ledger::{
        CampaignLedger as _, InstanceLedger as _, IntakeLedger as _, LaneLedger as _, RoundLedger as _,
        RoundTransaction as _,
    };
}

/// Gives each case of the ledger to a macro, which makes a test of it.
macro_rules! for_each_ledger_case {
    ($test:ident) => {
        $test! { ownership:
            a_new_lane_begins_with_round_zero_where_it_is_told_to,
            a_lane_that_is_entered_again_shows_what_its_last_owner_left,
            a_later_owner_makes_every_call_of_the_former_one_refuse_and_change_nothing,
            another_server_makes_every_call_refuse_and_change_nothing,
            a_round_that_a_former_owner_left_open_is_ended_and_never_sealed,
            ownership_of_one_lane_is_none_of_another,
        }
        $test! { intake:
            what_arrives_is_recorded_with_the_position_and_counted_once,
            of_two_intakes_that_race_one_is_recorded_and_the_other_refuses,
            an_intake_from_another_position_refuses_and_records_nothing,
            a_campaign_is_scheduled_active_or_expired_by_its_window,
            each_record_ends_as_what_the_rules_say,
            whatever_follows_a_cancellation_is_older,
            a_tombstone_for_an_unknown_id_is_kept_as_its_campaign,
            two_versions_in_one_intake_count_as_two,
            an_update_moves_the_campaign_by_its_new_window,
            an_update_of_a_campaign_whose_last_page_is_unpublished_leaves_it_active,
            a_campaign_that_is_gone_before_it_is_applied_costs_the_ownership,
            a_position_moves_over_a_gap_without_any_record,
        }
        $test! { changes:
            an_update_through_another_lane_waits_for_the_owner_who_applies_it,
            the_lane_that_records_a_campaign_first_owns_it,
            a_tombstone_that_comes_first_owns_the_id,
            a_cancellation_through_another_lane_is_applied_by_the_owner,
            an_operators_cancel_is_applied_by_the_owner,
            changes_are_applied_in_the_order_of_their_versions,
            a_change_that_conflicts_is_a_dead_letter_of_the_owner,
            nobody_but_the_owner_applies,
            changes_are_applied_while_all_is_held,
        }
        $test! { rounds:
            a_round_is_read_back_as_it_was_recorded,
            a_recorded_round_whose_reply_was_lost_is_found_by_the_next_owner,
            a_round_that_is_dropped_or_abandoned_never_was,
            a_row_that_is_there_already_refuses_the_copy,
            a_client_who_stands_twice_in_a_round_refuses_the_copy,
            who_has_a_row_is_found_in_each_stretch,
            who_is_late_is_behind_the_planned_cursor_and_has_no_row,
            a_round_shows_campaigns_of_its_lane_that_are_open,
            a_rounds_rows_are_seen_by_nobody_before_it_is_sealed,
        }
        $test! { seal:
            a_sealed_round_moves_cursor_and_counts,
            a_round_is_sealed_once,
            a_round_of_an_updated_campaign_is_stale,
            a_round_of_a_campaign_that_ended_is_stale,
            a_round_of_a_cancelled_campaign_is_stale,
            a_round_that_was_planned_from_another_cursor_is_stale,
            a_round_of_another_lanes_campaign_is_stale,
            one_stale_campaign_keeps_the_whole_round_out,
            a_campaign_is_complete_when_its_last_page_is_published,
            the_next_round_tells_that_the_one_before_was_published,
            a_campaign_that_ended_meanwhile_is_closed_when_its_last_page_is_published,
            another_round_than_the_last_one_cannot_be_noted_as_published,
            a_lane_remembers_how_large_a_round_may_be,
        }
        $test! { withdrawal:
            drafts_of_a_campaign_that_ended_are_taken_back_and_the_others_stay,
            a_row_in_which_somebody_answered_stays,
            rows_of_an_earlier_job_inside_the_page_stay,
            late_drafts_are_taken_back_without_the_cursor,
            a_cancelled_campaign_stays_cancelled_when_its_drafts_are_taken_back,
            a_campaign_whose_start_was_put_off_is_scheduled_again,
            a_whole_round_is_taken_back_and_its_campaigns_go_on,
            nothing_is_taken_back_from_another_round,
            nothing_is_taken_back_where_all_is_open,
            a_row_that_somebody_has_locked_holds_nothing_up_and_goes_when_it_is_free,
            a_locked_row_in_which_somebody_answers_stays_and_is_counted,
            a_locked_row_that_somebody_removes_is_forgotten_and_never_another_one_taken_for_it,
            locked_rows_are_looked_at_a_few_at_a_time,
            a_campaign_with_locked_rows_is_not_pruned_and_goes_with_its_lane,
        }
        $test! { letters:
            a_letter_waits_until_a_round_carries_it,
            a_letter_is_carried_by_one_round_alone,
            letters_that_are_set_aside_wait_for_a_later_round,
            letters_stay_in_a_round_whose_drafts_are_taken_back,
            letters_are_read_in_the_order_of_their_numbers,
            more_letters_wait_than_are_remembered,
        }
        $test! { due:
            a_campaign_starts_and_ends_by_the_clock,
            campaigns_without_a_page_come_first_and_then_those_that_end_first,
            no_more_campaigns_are_due_than_were_asked_for,
            the_next_change_is_the_next_start_or_end,
            a_campaign_whose_last_page_is_unpublished_does_not_end_yet,
            who_was_not_told_is_asked_for_until_it_is_noted,
            who_was_not_told_is_not_noted_while_drafts_are_unpublished,
            who_was_not_told_is_counted_again_after_an_update,
            a_campaign_that_was_cancelled_before_it_came_has_nobody_to_count,
        }
        $test! { rescan:
            a_campaign_is_passed_again_five_minutes_after_its_first_page,
            a_campaign_is_passed_once_more_before_its_end,
            a_pass_of_an_older_version_is_not_done,
            an_update_makes_a_pass_due,
            campaigns_that_had_a_page_are_passed_in_the_order_of_their_ends,
            a_main_pass_that_found_nobody_is_passed_again_too,
            open_campaigns_are_found_by_their_restaurants,
            restaurants_with_an_open_campaign_are_named_once_for_each_lane,
            rows_are_counted_up_to_what_was_told,
            the_tail_scans_mark_is_noted_for_lanes_of_this_instance_alone,
        }
        $test! { halts:
            a_halt_is_kept_until_it_is_resolved,
            a_lane_that_lost_commits_holds_all_until_every_lane_was_compared,
            nothing_is_taken_in_while_all_is_held,
            another_comparison_ends_no_hold,
            a_halt_of_another_kind_holds_nothing,
            a_pause_is_seen_and_ends,
            a_ledger_that_was_never_compared_is_held,
        }
        $test! { adoption:
            what_a_lane_held_is_told_by_the_lane_that_adopts_it,
            what_a_last_round_held_that_was_never_published_is_taken_back,
            a_lane_that_was_entered_meanwhile_is_not_adopted,
        }
        $test! { pruning:
            what_the_last_two_rounds_hold_stays,
            a_campaign_with_a_change_to_apply_stays,
        }
        $test! { recovery:
            rows_that_the_ledger_lost_come_back_and_the_lane_goes_on_behind_kafka,
            drafts_of_the_last_round_without_a_message_are_taken_back,
            a_last_round_that_nobody_was_told_of_is_published_again,
            a_last_round_that_everybody_was_told_of_completes_its_campaigns,
            a_row_becomes_what_its_message_says,
            rows_that_were_removed_come_back_and_count_once,
        }
    };
}
pub(crate) use for_each_ledger_case;
