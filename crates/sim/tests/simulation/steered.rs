//! Lives steered, by requests that are held up, to the moment that one guard is for: random lives were not seen to meet it.
//!
//! Several guards cover for each other in the service, where its models know one. So each life names those that are taken out together, and
//! breaks a promise without them, and none with them.

use std::time::Duration;

use dinnerbell_core::guard::{Guard, Guards};
use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::input::encode;
use dinnerbell_core::model::number::Lane;
use dinnerbell_sim::faults::{Harm, Hold};
use dinnerbell_sim::world::FIRST_SECOND;

use crate::guards;
use crate::instance::Settings;
use crate::life::live_through;
use crate::plan::{Event, LifeKind, Plan};

/// How many seeds decide what a life leaves open: the time of each request on its way.
const SEEDS: u64 = 8;
/// Ids that a sequence leaves out: more than the tail scan reads again when it begins, and than it goes back for lanes of another instance.
const GAP: i64 = 250_000;
/// The former owner, and the next one.
const OLD: usize = 0;
const NEW: usize = 1;

/// A life, and the guards that it shows.
pub struct Steered {
    /// Taken out together.
    pub without: &'static [Guard],
    /// What the guard is for.
    pub shows: &'static str,
    script: fn(&mut Script),
}

pub const LIVES: &[Steered] = &[
    Steered {
        without: &[Guard::EpochBeforeInit, Guard::OwnershipAtPoll],
        shows: "who acquires the next epoch after it made its producer withdraws what a producer made in between publishes",
        script: |life| {
            life.claims(NEW, 5.0);
            life.holds(NEW, "acquire", 5.0, 4.9);
            // The old owner finds its producer fenced, and makes a new one; then it publishes just before the end.
            life.sends("first", 6.0, -10, 4_000);
            life.sends("c", 7.0, -10, 9);
            life.holds(OLD, "publish", 7.0, 4.0);
            life.holds(NEW, "producer", 9.0, 6.0);
        },
    },
    Steered {
        without: &[Guard::EpochAfterInit, Guard::EpochAtBegin, Guard::OwnershipAtPoll],
        shows: "who made its producer after a later owner had acquired the next epoch publishes what that one withdraws",
        script: |life| {
            life.sends("c", 3.0, -10, 8);
            life.loses(OLD, "publish", 3.0, 0.0);
            life.holds(OLD, "producer", 3.0, 2.5);
            life.claims(NEW, 4.0);
            life.holds(NEW, "committed", 4.0, 4.9);
            life.holds(OLD, "publish", 5.0, 5.5);
            life.holds(NEW, "producer", 8.0, 6.0);
        },
    },
    Steered {
        without: &[Guard::EpochBeforeHalt, Guard::EpochAtBegin, Guard::OwnershipAtPoll],
        shows: "what Kafka holds contradicts only a ledger that was read before another owner went on",
        script: |life| {
            life.claims(NEW, 5.0);
            life.holds(NEW, "committed", 5.0, 4.5);
            life.sends("c", 6.0, -10, 4_000);
        },
    },
    Steered {
        without: &[Guard::EpochAtBegin, Guard::EpochAtSeal, Guard::OwnershipAtPoll],
        shows: "a former owner that may still record goes on, and Kafka is ahead of what the next one read",
        script: |life| {
            life.sends("c", 0.5, 9, 4_000);
            life.claims(NEW, 8.0);
            // It comes after the old owner's round, and before the note that this one is published.
            life.holds(NEW, "producer", 8.0, 1.08);
        },
    },
    Steered {
        without: &[Guard::ServerStartCompared, Guard::OwnershipAtPoll],
        shows: "a fail-over loses the acquisition, and two owners have one epoch",
        script: |life| {
            life.claims(NEW, 5.0);
            // It comes when the next owner has told everybody, and is still waited for.
            life.holds(NEW, "producer", 5.0, 11.6);
            life.at(6.0, Event::FailOver { loses_bump: true });
            life.at(6.1, Event::Kill(OLD));
            life.claims(OLD, 12.8);
            life.sends("c", 14.0, -10, 4_000);
        },
    },
    Steered {
        without: &[Guard::LockHeld],
        shows: "rows that a dead owner copied and nobody ended keep the next one from recording",
        script: |life| {
            life.plan.harm.left_open = 1_000;
            life.plan.heals = Duration::from_secs(12);
            life.sends("c", 5.0, -10, 4_000);
            life.holds(OLD, "seal", 5.0, 100.0);
            life.at(6.0, Event::Kill(OLD));
        },
    },
    Steered {
        without: &[Guard::EpochAtBegin, Guard::PositionAtIntake],
        shows: "an intake that arrives late takes in once more what was taken in meanwhile",
        script: |life| {
            life.holds(OLD, "intake", 5.0, 7.0);
            life.sends("c", 5.0, -10, 4_000);
        },
    },
    Steered {
        without: &[Guard::EpochAtBegin, Guard::EpochAtWithdrawal],
        shows: "a withdrawal that arrives late changes the round that the next owner published",
        script: |life| {
            life.sends("c", 5.0, -10, 7);
            life.loses(OLD, "publish", 5.0, 3.0);
            life.holds(OLD, "withdraw", 8.0, 4.0);
            life.claims(NEW, 9.0);
        },
    },
    Steered {
        without: &[Guard::WindowsThatMoved],
        shows: "what an operator cancelled since its round was sealed, during a pause, is published after it",
        script: cancelled_since_the_seal,
    },
    Steered {
        without: &[Guard::CancelledBeforePublication],
        shows: "what an operator cancelled since its round was sealed, during a pause, is published after it",
        script: cancelled_since_the_seal,
    },
    Steered {
        without: &[Guard::PlannedCursor],
        shows: "a subscribers database that fails over to an older state hides from a page whom the tail scan has found",
        script: |life| {
            life.at(2.0, Event::Pause(true));
            life.sends("c", 6.0, -10, 4_000);
            life.favours("a", "r0", 7.0, 0);
            life.at(9.0, Event::Lag(4_000_000));
            life.at(9.0, Event::Pause(false));
            life.at(12.0, Event::Lag(0));
        },
    },
    Steered {
        without: &[Guard::HighWaterBeforePages],
        shows: "who comes between the first page and the tail scan's high-water mark is on neither",
        script: |life| {
            life.holds(OLD, "newest", 0.0, 4.9);
            life.holds(NEW, "newest", 0.0, 4.9);
            life.sends("c", 1.5, -10, 4_000);
            life.favours("a", "r0", 3.5, 0);
            life.favours("z", "nobody", 4.0, GAP);
        },
    },
    Steered {
        without: &[Guard::TailScanErrorKeepsHighWater],
        shows: "who came while the tail scan could not ask is behind a high-water mark that it takes again",
        script: |life| {
            life.sends("c", 3.0, -10, 4_000);
            life.favours("a", "r0", 6.0, 0);
            life.loses(OLD, "added", 6.0, 2.0);
            life.favours("z", "nobody", 6.5, GAP);
        },
    },
    Steered {
        without: &[Guard::LateForgottenWhenRecorded],
        shows: "whom a round checked that was copied and given up, since all sending was paused, is checked again",
        script: |life| {
            life.sends("c", 3.0, -10, 4_000);
            life.favours("a", "r0", 6.0, 0);
            life.holds(OLD, "copy", 6.0, 4.0);
            life.at(6.5, Event::Pause(true));
            life.at(12.0, Event::Pause(false));
        },
    },
    Steered {
        without: &[Guard::WithdrawnToTheLast],
        shows: "the end of another campaign of the round passes while the first one's drafts are withdrawn",
        script: |life| {
            life.sends("a", 3.0, -10, 9);
            life.sends("b", 3.0, -10, 12);
            life.loses(OLD, "publish", 3.0, 6.4);
            life.holds(OLD, "withdraw", 8.0, 1.0);
            life.holds(OLD, "stored_round", 10.4, 3.0);
        },
    },
    Steered {
        without: &[Guard::ChangesAppliedToTheLast],
        shows: "the last of many cancellations that came while nobody owned the lane is applied before anything is published",
        script: |life| {
            let others = ["a1", "a2", "a3", "a4"];
            others.iter().for_each(|id| life.sends(id, 1.0, 20, 4_000));
            life.sends("c", 3.0, -10, 4_000);
            life.loses(OLD, "publish", 3.0, 4.0);
            life.at(4.0, Event::Kill(OLD));
            for id in others.into_iter().chain(["c"]) {
                life.at(5.0, Event::Cancel { id: id.to_owned() });
            }
            life.claims(NEW, 6.0);
        },
    },
    Steered {
        without: &[Guard::QuietRounds],
        shows: "a campaign that is changed more often than a round is made is told to nobody, and holds up its lane",
        script: |life| {
            life.sends("other", 3.0, -10, 4_000);
            for number in 0..1_000 {
                life.sends_version("c", number, 3.0 + 0.01 * number as f64);
            }
            // A round takes so long that changes come while it is made, however lucky it is.
            for number in 0..40 {
                life.holds(OLD, "copy", 3.0 + 0.2 * f64::from(number), 0.2);
            }
            life.sends("another", 4.0, -10, 4_000);
            life.favours("a", "r0", 6.0, 0);
            for id in ["c", "other", "another"] {
                life.at(11.0, Event::IsTold { id: id.to_owned() });
            }
        },
    },
    Steered {
        without: &[Guard::UndeliveredIsWithdrawn],
        shows: "a round that is larger than what gets through in the time of a transaction is tried for ever",
        script: |life| {
            life.plan.settings.round_rows = 1_000;
            life.plan.harm.link = Some(300_000);
            life.plan.heals = Duration::from_secs(400);
            for number in 0..600 {
                life.favours(&format!("m{number}"), "r0", 0.0, 0);
            }
            life.sends("c", 3.0, -10, 4_000);
            life.sends("another", 200.0, -10, 4_000);
            life.at(399.0, Event::IsTold { id: "c".to_owned() });
        },
    },
    Steered {
        without: &[Guard::OwnershipAtPoll, Guard::HeldUntilCompared],
        shows: "a lane that has nothing to do does not notice that its server lost what it told, and a copy through another lane tells all again",
        script: |life| {
            two_lanes(life);
            life.plan.restarts = true;
            life.at(3.0, Event::FallBehind);
            life.sends("c", 4.0, -10, 4_000);
            life.at(9.0, Event::Promote);
            life.copies("c", 1, 12.0);
        },
    },
    Steered {
        without: &[Guard::HeldUntilCompared],
        shows: "the lane of a copy goes on while the lane that told its campaign is not put back yet",
        script: |life| {
            two_lanes(life);
            life.at(3.0, Event::FallBehind);
            life.sends("c", 4.0, -10, 4_000);
            life.copies("c", 1, 6.0);
            life.at(9.0, Event::Promote);
        },
    },
    Steered {
        without: &[Guard::DraftsTopicCompared],
        shows: "the topic of the drafts is recreated, and a round goes to the new one before an operator decides about those who were told",
        script: |life| {
            life.at(0.0, Event::Notifications("first"));
            life.sends("a", 3.0, -10, 4_000);
            life.at(8.0, Event::Notifications("second"));
            life.sends("c", 9.0, -10, 4_000);
        },
    },
    Steered {
        without: &[Guard::RestoredMarkOnlyWhenCompared],
        shows: "a database that is put back to an older copy while the group is gone knows its last round to be published, and tells again what followed",
        script: |life| {
            life.sends("a", 2.0, -10, 4_000);
            put_back_without_the_group(life);
        },
    },
    Steered {
        without: &[Guard::RescanOfNobody],
        shows: "who is the first to favour a restaurant while nobody looks out is found by the pass after a take-over",
        script: |life| {
            life.plan.events.retain(|(_, event)| !matches!(event, Event::Favour { .. }));
            life.sends("c", 3.0, -10, 4_000);
            life.at(8.0, Event::Kill(OLD));
            life.favours("a", "r0", 8.1, 0);
            life.favours("z", "nobody", 8.2, GAP);
        },
    },
];

/// A round is sealed as a pause begins, and its campaign is cancelled before the pause is over.
fn cancelled_since_the_seal(life: &mut Script) {
    life.sends("c", 3.0, -10, 4_000);
    life.holds(OLD, "seal", 3.0, 2.0);
    life.at(4.0, Event::Pause(true));
    life.at(6.0, Event::Cancel { id: "c".to_owned() });
    life.at(8.0, Event::Pause(false));
}

/// A campaign is told, and then the database knows nothing of it, and Kafka no mark.
fn put_back_without_the_group(life: &mut Script) {
    two_lanes(life);
    life.at(5.0, Event::FallBehind);
    life.sends("c", 6.0, -10, 4_000);
    life.at(12.0, Event::PromoteWithoutMarks);
}

/// Lives in two lanes.
fn two_lanes(life: &mut Script) {
    life.plan.lanes = Lane::new(2).get();
    life.at(0.0, Event::Assign { lane: Lane::new(1), to: NEW });
}

/// What a life is written with. One lane, the old owner's; some clients favour one restaurant from the beginning.
struct Script {
    plan: Plan,
}

impl Script {
    fn new() -> Self {
        let plan = Plan {
            lanes: Lane::new(1).get(),
            kind: LifeKind::Any,
            settings: Settings { round_rows: 10, rate: 0 },
            harm: Harm { latency: 5, ..Harm::default() },
            holds: Vec::new(),
            events: Vec::new(),
            heals: Duration::from_secs(30),
            restarts: false,
            orderly: true,
            versions: Vec::new(),
            cancelled: Vec::new(),
        };
        let mut script = Self { plan };
        for client in ["k1", "k2", "k3"] {
            script.favours(client, "r0", 0.0, 0);
        }
        script.at(0.0, Event::Assign { lane: Lane::new(0), to: OLD });
        script
    }

    fn at(&mut self, second: f64, event: Event) {
        self.plan.events.push((Duration::from_secs_f64(second), event));
    }

    fn favours(&mut self, client: &str, restaurant: &str, second: f64, gap: i64) {
        let (client, restaurant) = (client.to_owned(), restaurant.to_owned());
        self.at(second, Event::Favour { client, restaurant, commits_in: 0, gap });
    }

    /// A campaign arrives; its window as seconds since the world began.
    fn sends(&mut self, id: &str, second: f64, start: i64, end: i64) {
        self.send(second, Self::campaign(id, start, end));
    }

    /// A version of a campaign that runs arrives.
    fn sends_version(&mut self, id: &str, number: i64, second: f64) {
        let campaign = Self::campaign(id, -10, 4_000);
        let content = format!("version {number}");
        let datetime_created = campaign.datetime_created + number;
        self.send(second, Campaign { adv_campaign_content: content, datetime_created, ..campaign });
    }

    fn campaign(id: &str, start: i64, end: i64) -> Campaign {
        Campaign {
            restaurant_id: "r0".to_owned(),
            adv_campaign_id: id.to_owned(),
            adv_campaign_content: "content".to_owned(),
            adv_campaign_owner: "owner".to_owned(),
            adv_campaign_owner_contact: "contact".to_owned(),
            window: Window { start: FIRST_SECOND + start, end: FIRST_SECOND + end },
            datetime_created: FIRST_SECOND,
        }
    }

    fn send(&mut self, second: f64, campaign: Campaign) {
        let value = Some(encode(&campaign));
        self.at(second, Event::Send { lane: Lane::new(0), key: None, value, gap: 0 });
        self.plan.versions.push(campaign);
    }

    /// The same campaign arrives in another lane.
    fn copies(&mut self, id: &str, lane: i32, second: f64) {
        let campaign = self.plan.versions.iter().find(|version| version.adv_campaign_id == id).cloned();
        let value = Some(encode(&campaign.expect("it is sent first")));
        self.at(second, Event::Send { lane: Lane::new(lane), key: None, value, gap: 0 });
    }

    fn claims(&mut self, instance: usize, second: f64) {
        self.at(second, Event::Claim { lane: Lane::new(0), instance });
    }

    /// The first such request from that second on takes this many seconds longer to arrive.
    fn holds(&mut self, instance: usize, request: &'static str, from: f64, time: f64) {
        self.hold(instance, request, from, time, false);
    }

    /// It does not arrive, and its sender knows that after this many seconds.
    fn loses(&mut self, instance: usize, request: &'static str, from: f64, time: f64) {
        self.hold(instance, request, from, time, true);
    }

    fn hold(&mut self, instance: usize, request: &'static str, from: f64, time: f64, is_lost: bool) {
        let (from, time) = (Duration::from_secs_f64(from), Duration::from_secs_f64(time));
        self.plan.holds.push(Hold { instance, request, from, time, is_lost });
    }
}

impl Steered {
    /// The first promise that it breaks, by the seeds.
    fn first_broken(&self, guards: Guards) -> Option<String> {
        (0..SEEDS).find_map(|seed| {
            let mut script = Script::new();
            (self.script)(&mut script);
            script.plan.events.sort_by_key(|(at, _)| *at);
            let broken = live_through(script.plan, seed, guards).into_iter().next()?;
            Some(format!("seed {seed}: {broken}"))
        })
    }
}

/// `DINNERBELL_STEERED` names one by its guards: it is lived with its log, without those that `DINNERBELL_WITHOUT` names.
#[test]
fn steered_lives_keep_every_promise() {
    let (guards, named) = (guards::of_process(), std::env::var("DINNERBELL_STEERED").ok());
    let named = named.map(|names| Guards::parse(&names).expect("DINNERBELL_STEERED names guards"));
    if named.is_some() {
        crate::show_log();
    }
    let is_named = |life: &&Steered| named.is_none_or(|named| Guards::without(life.without) == named);
    let said = |life: &Steered| Some(format!("{}: {}", life.shows, life.first_broken(guards)?));
    let broken: Vec<String> = LIVES.iter().filter(is_named).filter_map(said).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn each_steered_life_breaks_a_promise_without_its_guards() {
    let mut kept = Vec::new();
    for life in LIVES {
        let broken = life.first_broken(Guards::without(life.without));
        println!("without {:?}: {}: {broken:?}", life.without, life.shows);
        if broken.is_none() {
            kept.push(life.without);
        }
    }
    assert!(kept.is_empty(), "every promise is kept without {kept:?}");
}

/// By the seeds, whatever breaks a promise in a life that no guard is taken out of.
fn broken_in(script: fn(&mut Script)) -> Option<String> {
    Steered { without: &[], shows: "", script }.first_broken(guards::of_process())
}

#[test]
fn a_lane_whose_partition_has_no_leader_holds_up_no_other_after_a_fail_over() {
    let broken = broken_in(|life| {
        two_lanes(life);
        life.at(3.0, Event::Leader(Lane::new(1), false));
        life.at(4.0, Event::FailOver { loses_bump: false });
        life.sends("c", 6.0, -10, 4_000);
        life.at(16.0, Event::IsTold { id: "c".to_owned() });
        life.at(17.0, Event::Leader(Lane::new(1), true));
    });
    assert_eq!(broken, None);
}

#[test]
fn a_campaign_whose_pages_do_not_come_in_time_holds_up_no_other_and_is_told_when_they_do() {
    let broken = broken_in(|life| {
        life.favours("a", "slow", 0.0, 0);
        life.at(2.0, Event::Overdue("slow", true));
        let slow = Campaign { restaurant_id: "slow".to_owned(), ..Script::campaign("slow", -10, 4_000) };
        life.send(3.0, slow);
        for (number, id) in ["c", "d", "e", "f"].into_iter().enumerate() {
            let second = 3.1 + 5.0 * number as f64;
            life.sends(id, second, -10, 4_000);
            // The first one may have been asked for in the same question.
            let by = if number == 0 { 5.5 } else { 2.0 };
            life.at(second + by, Event::IsTold { id: id.to_owned() });
        }
        life.at(22.0, Event::Overdue("slow", false));
        life.at(22.0 + 30.0, Event::IsTold { id: "slow".to_owned() });
        life.plan.heals = Duration::from_secs(60);
    });
    assert_eq!(broken, None);
}

/// Many favour the restaurant, and are told ten at a time: now and then a page is read ahead.
fn giant(life: &mut Script) {
    for number in 0..400 {
        life.favours(&format!("m{number:03}"), "r0", 0.0, 0);
    }
    life.sends("c", 3.0, -10, 4_000);
}

#[test]
fn dead_letters_that_need_all_memory_of_rounds_do_not_wait_for_a_page_that_was_read_ahead() {
    let broken = broken_in(|life| {
        giant(life);
        for number in 0..8 {
            let value = Some(vec![b'x'; 600 << 10]);
            let event = Event::Send { lane: Lane::new(0), key: None, value, gap: 0 };
            life.at(3.2 + 0.1 * f64::from(number), event);
        }
        life.at(10.0, Event::IsTold { id: "c".to_owned() });
    });
    assert_eq!(broken, None);
}

#[test]
fn a_note_that_waits_for_the_ledger_holds_up_no_round() {
    let broken = broken_in(|life| {
        life.sends("c", 3.0, -10, 4_000);
        life.holds(OLD, "note_published", 3.0, 4.5);
        life.sends("d", 5.0, -10, 4_000);
        life.at(7.0, Event::IsTold { id: "d".to_owned() });
    });
    assert_eq!(broken, None);
}

#[test]
fn a_lane_that_had_told_nobody_when_its_database_was_copied_tells_nobody_twice_though_the_group_is_gone_too() {
    assert_eq!(broken_in(put_back_without_the_group), None);
}

#[test]
fn commits_that_a_lane_without_a_leader_lost_are_found_and_hold_all() {
    let broken = broken_in(|life| {
        two_lanes(life);
        life.plan.restarts = true;
        life.at(3.0, Event::FallBehind);
        life.sends("c", 4.0, -10, 4_000);
        life.at(8.0, Event::Leader(Lane::new(0), false));
        life.at(9.0, Event::Promote);
        life.copies("c", 1, 12.0);
    });
    assert_eq!(broken, None);
}
