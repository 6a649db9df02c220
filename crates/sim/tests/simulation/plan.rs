//! What happens in a life, all of it decided by the seed: what restaurants send, who subscribes, and what harm comes when.

use std::time::Duration;

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::input::encode;
use dinnerbell_core::model::number::{Lane, Seconds};
use dinnerbell_sim::faults::{Harm, Hold, Server};
use dinnerbell_sim::kafka::Letters;
use dinnerbell_sim::random::Random;
use dinnerbell_sim::world::FIRST_SECOND;

use crate::instance::Settings;

/// A life.
#[derive(Debug)]
pub struct Plan {
    pub lanes: i32,
    pub kind: LifeKind,
    pub settings: Settings,
    pub harm: Harm,
    /// Requests that are held up.
    pub holds: Vec<Hold>,
    /// What happens when, in order.
    pub events: Vec<(Duration, Event)>,
    /// When all harm ends.
    pub heals: Duration,
    /// Whether the instances are restarted then; if not, the rescan of every five minutes has to do it.
    pub restarts: bool,
    /// Favourites are committed in the order of their ids and no replica lags: then the tail scan alone finds everyone.
    pub orderly: bool,
    /// Every version of every campaign that is sent, in any lane.
    pub versions: Vec<Campaign>,
    /// Ids that are cancelled by a tombstone.
    pub cancelled: Vec<String>,
}

/// What a life is mostly about. Most have a little of everything; the others have much of one thing, as much as some guards need to be missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeKind {
    Any,
    /// Both instances believe again and again that the one lane is theirs, and requests take long.
    Contested,
    /// All sending is paused again and again; meanwhile campaigns change, end and are cancelled, and people answer.
    Paused,
    /// Many subscribers come while slow rounds go through the audience, and little else happens.
    Newcomers,
    /// What is about a campaign comes through any lane, and owners freeze.
    Changes,
    /// The same, and the feedback database fails over to a standby that lost the last commits, of busy lanes and idle ones.
    Loses,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// A record arrives.
    Send {
        lane: Lane,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        gap: i64,
    },
    /// Somebody adds a restaurant to favourites; it is committed this many milliseconds later.
    Favour {
        client: String,
        restaurant: String,
        commits_in: i64,
        gap: i64,
    },
    /// Somebody removes it.
    Leave {
        client: String,
        restaurant: String,
    },
    /// An earlier job has told a client.
    EarlierRow {
        campaign: Campaign,
        client: String,
    },
    /// Somebody answers in a row.
    Answer,
    /// Everybody who favours its restaurant was told of a campaign by now.
    IsTold {
        id: String,
    },
    /// An operator cancels a campaign.
    Cancel {
        id: String,
    },
    Pause(bool),
    Kill(usize),
    DieIn {
        instance: usize,
        polls: u64,
    },
    Freeze {
        instance: usize,
        time: Duration,
    },
    /// The group gives a lane to an instance.
    Assign {
        lane: Lane,
        to: usize,
    },
    /// An instance believes that it holds the lane, whatever the group says.
    Claim {
        lane: Lane,
        instance: usize,
    },
    FailOver {
        loses_bump: bool,
    },
    /// The standby of the feedback database receives nothing any more.
    FallBehind,
    /// The feedback database fails over to it: what was committed since is gone.
    Promote,
    /// Nothing runs, the feedback database is put back as the standby holds it, and the group's offsets are gone, those of all lanes.
    PromoteWithoutMarks,
    /// Nothing runs for longer than Kafka keeps offsets: that of a lane expires.
    Expire(Lane),
    Away(Server),
    Back(Server),
    /// The pages of a restaurant take longer than a page may, or do not any more.
    Overdue(&'static str, bool),
    /// A partition of the campaigns topic has no leader, or has one again.
    Leader(Lane, bool),
    Refuses(Server),
    Lag(i64),
    /// The topic of dead letters.
    Letters(Letters),
    /// The notifications topic is created, or once more: it has this id.
    Notifications(&'static str),
}

pub const INSTANCES: usize = 2;
const CHAOS: Duration = Duration::from_secs(50);

impl LifeKind {
    /// By numbers of its own: the other lives stay as they are.
    fn of(seed: u64) -> Self {
        match Random::new(seed ^ 0x61d).below(10) {
            0 => Self::Contested,
            1 => Self::Paused,
            2 => Self::Newcomers,
            3 => Self::Changes,
            4 => Self::Loses,
            _ => Self::Any,
        }
    }

    fn lanes(self, random: &mut Random) -> i32 {
        match self {
            Self::Contested => 1,
            Self::Changes | Self::Loses => random.between(2, 3) as i32,
            Self::Any | Self::Paused | Self::Newcomers => random.between(1, 3) as i32,
        }
    }

    fn settings(self, random: &mut Random) -> Settings {
        let rate = if random.chance(150) { 50 } else { 0 };
        let round_rows = random.between(2, 12) as usize;
        match self {
            Self::Any | Self::Paused | Self::Changes | Self::Loses => Settings { round_rows, rate },
            Self::Contested => Settings { round_rows: 2 + round_rows % 3, rate: 0 },
            Self::Newcomers => Settings { round_rows: 2 + round_rows % 2, rate: *random.pick(&[0, 20, 50]) },
        }
    }

    fn harm(self, random: &mut Random) -> Harm {
        let any = harm(random);
        match self {
            Self::Any => any,
            Self::Contested => {
                let lost_bumps = *random.pick(&[0, 100]);
                Harm {
                    latency: 10,
                    unsent: 15,
                    unanswered: 15,
                    stalls: 25,
                    left_open: 300,
                    lost_bumps,
                    ..Harm::default()
                }
            }
            Self::Paused | Self::Newcomers | Self::Changes | Self::Loses => {
                Harm { latency: any.latency, ..Harm::default() }
            }
        }
    }

    /// How many campaigns there are besides.
    fn more_campaigns(self) -> i64 {
        match self {
            Self::Any | Self::Newcomers => 0,
            Self::Contested | Self::Paused => 3,
            Self::Changes | Self::Loses => 4,
        }
    }
}

/// How many ids the sequence leaves out before a favourite: none, less than the tail scan reads again when it begins, or more than it goes back for lanes
/// of another instance.
fn ids_left_out(random: &mut Random) -> i64 {
    match random.chance(500) {
        true => match random.between(0, 2_000) {
            few @ 0..=1_000 => few,
            many => many * 200,
        },
        false => 0,
    }
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let kind = LifeKind::of(seed);
        let lanes = kind.lanes(&mut random);
        let settings = kind.settings(&mut random);
        let mut plan = Self {
            lanes: Lane::new(lanes).get(),
            kind,
            settings,
            harm: kind.harm(&mut random),
            holds: Vec::new(),
            events: Vec::new(),
            heals: CHAOS + Duration::from_millis(random.below(10_000)),
            restarts: random.chance(700),
            orderly: random.chance(700),
            versions: Vec::new(),
            cancelled: Vec::new(),
        };
        if matches!(kind, LifeKind::Any | LifeKind::Contested) && plan.harm.unsent > 0 {
            plan.harm.sent_twice = *Random::new(seed ^ 0x2ce).pick(&[0, 0, 150]);
        }
        if kind == LifeKind::Newcomers {
            (plan.restarts, plan.orderly) = (false, true);
        }
        plan.people(&mut random);
        for number in 0..random.between(1, 5) + kind.more_campaigns() {
            plan.campaign(&mut random, number);
        }
        match kind {
            LifeKind::Any => plan.harms(&mut random),
            LifeKind::Contested => plan.contest(&mut random),
            LifeKind::Paused => plan.pauses(&mut random),
            LifeKind::Newcomers => plan.newcomers(&mut random),
            LifeKind::Changes => plan.changes(&mut random),
            LifeKind::Loses => {
                plan.losses(&mut random);
                plan.lose_marks_too(&mut Random::new(seed ^ 0x3a2c));
            }
        }
        plan.letters(&mut Random::new(seed ^ 0xdead));
        plan.events.sort_by_key(|(at, _)| *at);
        plan
    }

    /// The same life with these of its events alone, by their places.
    pub fn with_only(mut self, kept: &[usize]) -> Self {
        let events = std::mem::take(&mut self.events).into_iter().enumerate();
        self.events = events.filter(|(place, _)| kept.contains(place)).map(|(_, event)| event).collect();
        let records = self.events.iter().filter_map(|(_, event)| match event {
            Event::Send { key, value, .. } => Some((key.as_deref(), value.as_deref())),
            _ => None,
        });
        let records: Vec<_> = records.collect();
        self.versions.retain(|version| records.iter().any(|(_, value)| *value == Some(&encode(version))));
        self.cancelled.retain(|id| records.contains(&(Some(id.as_bytes()), None)));
        self
    }

    /// Whether nothing keeps an instance from learning of a pause.
    pub fn is_heard(&self) -> bool {
        let quiet = |event: &Event| {
            use Event::{Away, DieIn, FailOver, Freeze, Kill, Promote, PromoteWithoutMarks, Refuses};
            let dies = matches!(event, Kill(_) | DieIn { .. } | PromoteWithoutMarks);
            !dies && !matches!(event, FailOver { .. } | Promote | Freeze { .. } | Away(_) | Refuses(_))
        };
        self.harm.unsent + self.harm.unanswered + self.harm.stalls == 0
            && self.events.iter().all(|(_, event)| quiet(event))
    }

    /// Plans an event, unless everything is healed by then; says whether it will happen.
    fn at(&mut self, millis: i64, event: Event) -> bool {
        let at = Duration::from_millis(millis.max(0).cast_unsigned());
        let happens = at < self.heals;
        if happens {
            self.events.push((at, event));
        }
        happens
    }

    /// Bad records arrive, and their topic takes none for a while.
    fn letters(&mut self, random: &mut Random) {
        if !random.chance(400) {
            return;
        }
        for _ in 0..random.between(1, 3) {
            let millis = random.between(300, 45_000);
            self.at(millis, Event::Letters(*random.pick(&[Letters::Missing, Letters::Refused])));
            for _ in 0..random.between(1, 4) {
                let lane = self.lane(random);
                // Some are larger than all that an instance has for its rounds.
                let value = Some(if random.chance(100) { vec![b'x'; 600 << 10] } else { b"not JSON".to_vec() });
                self.at(millis + random.between(0, 5_000), Event::Send { lane, key: None, value, gap: 0 });
            }
            self.at(millis + random.between(100, 20_000), Event::Letters(Letters::Accepted));
        }
    }

    fn people(&mut self, random: &mut Random) {
        let clients = random.between(3, 30);
        let coming = random.between(0, 8);
        for client in 0..clients + coming {
            let name = match random.below(30) {
                0 => String::new(),
                1 => "x".repeat(300),
                2 => format!("é{client}"),
                _ => format!("k{client:02}"),
            };
            for restaurant in ["r0", "r1"] {
                if !random.chance(650) {
                    continue;
                }
                let late = client >= clients;
                let millis = if late { random.between(0, 50_000) } else { 0 };
                let commits_in =
                    if late && random.chance(300) && !self.orderly { random.between(0, 20_000) } else { 0 };
                let times = if random.chance(100) { 2 } else { 1 };
                for _ in 0..times {
                    let gap = ids_left_out(random);
                    let (client, restaurant) = (name.clone(), restaurant.to_owned());
                    self.at(millis, Event::Favour { client, restaurant, commits_in, gap });
                }
                if random.chance(100) {
                    let (client, restaurant) = (name.clone(), restaurant.to_owned());
                    self.at(millis + random.between(100, 40_000), Event::Leave { client, restaurant });
                }
            }
        }
    }

    fn campaign(&mut self, random: &mut Random, number: i64) {
        let lane = self.lane(random);
        let mut arrives = random.between(500, 35_000);
        let first = Campaign {
            restaurant_id: (*random.pick(&["r0", "r0", "r0", "r1", "nobody"])).to_owned(),
            adv_campaign_id: format!("c{number}"),
            adv_campaign_content: "first".to_owned(),
            adv_campaign_owner: "owner".to_owned(),
            adv_campaign_owner_contact: "contact".to_owned(),
            window: window(random, FIRST_SECOND + arrives / 1_000),
            datetime_created: FIRST_SECOND,
        };
        if random.chance(250) {
            for _ in 0..random.between(1, 4) {
                let client = format!("k{:02}", random.below(30));
                self.at(0, Event::EarlierRow { campaign: first.clone(), client });
            }
        }
        self.send(random, arrives, lane, &first);
        let mut newest = first;
        for step in 0..random.below(5) {
            let most = *random.pick(&[300, 9_000]);
            arrives += random.between(0, most);
            let stays = if matches!(self.kind, LifeKind::Changes | LifeKind::Loses) { 300 } else { 650 };
            let through = if random.chance(stays) { lane } else { self.lane(random) };
            match random.below(20) {
                0..3 => {
                    let copy = newest.clone();
                    self.send(random, arrives, through, &copy);
                }
                3..13 => {
                    newest.datetime_created = newest.datetime_created + 1;
                    newest.adv_campaign_content = format!("update {step}");
                    newest.window = window(random, FIRST_SECOND + arrives / 1_000);
                    self.send(random, arrives, through, &newest);
                }
                13..15 => {
                    let datetime_created = newest.datetime_created - 1;
                    let older = Campaign { datetime_created, adv_campaign_content: "older".into(), ..newest.clone() };
                    self.send(random, arrives, through, &older);
                }
                15 => {
                    let conflict = Campaign { adv_campaign_content: format!("conflict {step}"), ..newest.clone() };
                    self.send(random, arrives, through, &conflict);
                }
                16 => {
                    let datetime_created = newest.datetime_created + 1;
                    let other = Campaign { restaurant_id: "r9".into(), datetime_created, ..newest.clone() };
                    self.send(random, arrives, through, &other);
                }
                17 => {
                    let (key, gap) = (Some(newest.adv_campaign_id.clone().into_bytes()), 0);
                    if self.at(arrives, Event::Send { lane: through, key, value: None, gap }) {
                        self.cancelled.push(newest.adv_campaign_id.clone());
                    }
                }
                // An order of an operator is in no topic: it is lost with the commits.
                18 if self.kind == LifeKind::Loses => {}
                18 => drop(self.at(arrives, Event::Cancel { id: newest.adv_campaign_id.clone() })),
                _ => {
                    let value = Some(b"{\"restaurant_id\": 7}".to_vec());
                    self.at(arrives, Event::Send { lane: through, key: None, value, gap: 0 });
                }
            }
        }
    }

    fn send(&mut self, random: &mut Random, millis: i64, lane: Lane, campaign: &Campaign) {
        let gap = if random.chance(150) { random.between(1, 3) } else { 0 };
        let (key, value) = (Some(b"first_message".to_vec()), Some(encode(campaign)));
        if self.at(millis, Event::Send { lane, key, value, gap }) {
            self.versions.push(campaign.clone());
        }
    }

    fn assign_all(&mut self, random: &mut Random) {
        for lane in 0..self.lanes {
            self.at(0, Event::Assign { lane: Lane::new(lane), to: random.below(INSTANCES as u64) as usize });
        }
    }

    fn contest(&mut self, random: &mut Random) {
        self.assign_all(random);
        let mut millis = 300;
        while self.at(millis, Event::Claim { lane: Lane::new(0), instance: instance(random) }) {
            millis += random.between(50, 2_500);
            if random.chance(80) {
                let time = Duration::from_millis(random.below(3_000));
                self.at(millis, Event::Freeze { instance: instance(random), time });
            }
            if random.chance(60) {
                self.at(millis, Event::FailOver { loses_bump: random.chance(700) });
            }
        }
        for _ in 0..random.below(3) {
            self.cancel(random);
        }
    }

    fn pauses(&mut self, random: &mut Random) {
        self.assign_all(random);
        let mut millis = random.between(500, 3_000);
        while self.at(millis, Event::Pause(true)) {
            millis += random.between(1_000, 8_000);
            self.at(millis, Event::Pause(false));
            millis += random.between(100, 3_000);
        }
        for _ in 0..random.between(0, 40) {
            self.at(random.between(2_000, 50_000), Event::Answer);
        }
        for _ in 0..random.between(0, 3) {
            self.cancel(random);
        }
        if random.chance(600) {
            for _ in 0..random.between(1, 3) {
                let lane = self.lane(random);
                self.at(random.between(2_000, 50_000), Event::Assign { lane, to: instance(random) });
            }
        }
    }

    fn losses(&mut self, random: &mut Random) {
        self.assign_all(random);
        let behind = random.between(1_000, 35_000);
        self.at(behind, Event::FallBehind);
        self.at(behind + random.between(200, 8_000), Event::Promote);
        for _ in 0..random.below(4) {
            let lane = self.lane(random);
            self.at(random.between(2_000, 50_000), Event::Assign { lane, to: instance(random) });
        }
        for _ in 0..random.below(3) {
            let time = Duration::from_millis(random.below(5_000));
            self.at(random.between(2_000, 50_000), Event::Freeze { instance: instance(random), time });
        }
        if random.chance(300) {
            self.at(random.between(2_000, 50_000), Event::Kill(instance(random)));
        }
    }

    /// In some lives of losses nothing runs meanwhile, the copy may be older, and Kafka's marks are lost at the same time.
    fn lose_marks_too(&mut self, random: &mut Random) {
        if !random.chance(400) {
            return;
        }
        for (at, event) in &mut self.events {
            match event {
                Event::Promote => *event = Event::PromoteWithoutMarks,
                // At once, or as late as it was: then what was committed in the last seconds is missing.
                Event::FallBehind if random.chance(500) => *at = (*at).min(Duration::from_millis(random.below(9_000))),
                _ => {}
            }
        }
    }

    fn newcomers(&mut self, random: &mut Random) {
        self.assign_all(random);
        for number in 0..random.between(10, 30) {
            let client = format!("k{:02}n{number}", random.below(35));
            let restaurant = (*random.pick(&["r0", "r0", "r1", "nobody"])).to_owned();
            let gap = ids_left_out(random);
            self.at(random.between(500, 45_000), Event::Favour { client, restaurant, commits_in: 0, gap });
        }
        let kind = random.below(5);
        for _ in 0..random.between(1, 10) {
            let millis = random.between(500, 45_000);
            let lane = self.lane(random);
            match kind {
                0 => {
                    self.at(millis, Event::Pause(true));
                    self.at(millis + random.between(500, 4_000), Event::Pause(false));
                }
                1 => {
                    self.at(millis, Event::Away(Server::Subscribers));
                    self.at(millis + random.between(100, 2_500), Event::Back(Server::Subscribers));
                }
                2 => drop(self.at(millis, Event::Assign { lane, to: instance(random) })),
                3 => drop(self.at(millis, Event::Kill(instance(random)))),
                _ => {}
            }
        }
    }

    fn changes(&mut self, random: &mut Random) {
        self.assign_all(random);
        for _ in 0..random.below(5) {
            let time = Duration::from_millis(random.below(4_000));
            self.at(random.between(300, 40_000), Event::Freeze { instance: instance(random), time });
        }
        for _ in 0..random.below(3) {
            let (lane, id) = (self.lane(random), campaign_id(random));
            let key = Some(id.clone().into_bytes());
            if self.at(random.between(300, 40_000), Event::Send { lane, key, value: None, gap: 0 }) {
                self.cancelled.push(id);
            }
        }
        if random.chance(300) {
            self.cancel(random);
        }
    }

    fn cancel(&mut self, random: &mut Random) {
        let id = campaign_id(random);
        self.at(random.between(1_000, 45_000), Event::Cancel { id });
    }

    fn lane(&self, random: &mut Random) -> Lane {
        Lane::new(random.below(self.lanes.unsigned_abs().into()) as i32)
    }

    fn harms(&mut self, random: &mut Random) {
        self.assign_all(random);
        if random.chance(100) {
            return;
        }
        for _ in 0..random.below(12) {
            let millis = random.between(300, 55_000);
            let instance = random.below(INSTANCES as u64) as usize;
            let lane = self.lane(random);
            let server = *random.pick(&[Server::Feedback, Server::Kafka, Server::Subscribers]);
            match random.below(20) {
                0..2 => drop(self.at(millis, Event::Kill(instance))),
                2..7 => drop(self.at(millis, Event::DieIn { instance, polls: 1 + random.below(120) })),
                7..10 => {
                    let most = *random.pick(&[3_000, 25_000]);
                    let time = Duration::from_millis(random.below(most));
                    self.at(millis, Event::Freeze { instance, time });
                    if random.chance(700) {
                        self.at(millis + random.between(0, 3_000), Event::Assign { lane, to: 1 - instance });
                    }
                }
                10..13 => drop(self.at(millis, Event::Assign { lane, to: instance })),
                13 => drop(self.at(millis, Event::FailOver { loses_bump: random.chance(700) })),
                14 => drop(self.at(millis, Event::Expire(lane))),
                15 => {
                    self.at(millis, Event::Away(server));
                    self.at(millis + random.between(200, 12_000), Event::Back(server));
                }
                16 => {
                    self.at(millis, Event::Refuses(server));
                    self.at(millis + random.between(100, 3_000), Event::Back(server));
                }
                17 => {
                    self.at(millis, Event::Pause(true));
                    self.at(millis + random.between(500, 12_000), Event::Pause(false));
                }
                18 if !self.orderly => drop(self.at(millis, Event::Lag(random.between(0, 8_000_000)))),
                _ => drop(self.at(millis, Event::Answer)),
            }
        }
    }
}

fn instance(random: &mut Random) -> usize {
    random.below(INSTANCES as u64) as usize
}

fn campaign_id(random: &mut Random) -> String {
    format!("c{}", random.below(6))
}

fn harm(random: &mut Random) -> Harm {
    let calm = random.chance(300);
    let mut up_to = |most: u64| if calm { 0 } else { random.below(most) };
    let (unsent, unanswered, stalls, left_open) = (up_to(25), up_to(20), up_to(6), up_to(400));
    let latency = *random.pick(&[2, 10, 60]);
    Harm { latency, unsent, unanswered, stalls, left_open, ..Harm::default() }
}

/// A window, as seen at a moment: ended, now, short, soon, long.
fn window(random: &mut Random, now: Seconds) -> Window {
    let (start, end) = match random.below(10) {
        0 => (now - 100, now - random.between(0, 5)),
        1..3 => (now - 10, now + random.between(1, 3)),
        3..6 => (now - 10, now + random.between(3, 40)),
        6 => (now + random.between(1, 8), now + random.between(9, 30)),
        7 => (now + random.between(1, 100), now + 4_000),
        _ => (now - random.between(0, 10), now + 4_000),
    };
    Window { start, end }
}
