//! What happens in a life, all of it decided by the seed: what restaurants send, who subscribes, and what harm comes when.

use std::time::Duration;

use dinnerbell::broker::Lane;
use dinnerbell::campaign::{Campaign, Window};
use dinnerbell::simulation::random::Random;
use dinnerbell::simulation::world::{FIRST_SECOND, Harm, Server};

use crate::instance::Settings;

/// A life.
#[derive(Debug)]
pub struct Plan {
    pub lanes: Lane,
    pub settings: Settings,
    pub harm: Harm,
    /// What happens when, in order.
    pub events: Vec<(Duration, Event)>,
    /// When all harm ends.
    pub heals: Duration,
    /// Whether the instances are started anew then; if not, the re-pass of every five minutes has to do it.
    pub restarts: bool,
    /// Favourites are committed in the order of their ids and no replica lags: then the sweep alone finds everyone.
    pub orderly: bool,
    /// Every version of every campaign that is sent, in any lane.
    pub versions: Vec<Campaign>,
    /// Ids that are cancelled by a tombstone.
    pub cancelled: Vec<String>,
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
    /// Somebody adds a restaurant to favourites; it is committed so many milliseconds later.
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
    FailOver {
        loses_bump: bool,
    },
    /// Nothing runs for longer than Kafka keeps offsets: that of a lane expires.
    Expire(Lane),
    Away(Server),
    Back(Server),
    Refuses(Server),
    Lag(i64),
}

pub const INSTANCES: usize = 2;
const CHAOS: Duration = Duration::from_secs(50);

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let lanes = random.between(1, 3) as Lane;
        let rate = if random.chance(150) { 50 } else { 0 };
        let settings = Settings { round_rows: random.between(2, 12) as usize, rate };
        let mut plan = Self {
            lanes,
            settings,
            harm: harm(&mut random),
            events: Vec::new(),
            heals: CHAOS + Duration::from_millis(random.below(10_000)),
            restarts: random.chance(700),
            orderly: random.chance(700),
            versions: Vec::new(),
            cancelled: Vec::new(),
        };
        plan.people(&mut random);
        for number in 0..random.between(1, 5) {
            plan.campaign(&mut random, number);
        }
        plan.harms(&mut random);
        plan.events.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Whether nothing keeps an instance from hearing of a pause.
    pub fn is_heard(&self) -> bool {
        let quiet = |event: &Event| {
            use Event::{Away, DieIn, FailOver, Freeze, Kill, Refuses};
            !matches!(event, Kill(_) | DieIn { .. } | FailOver { .. } | Freeze { .. } | Away(_) | Refuses(_))
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
                    let gap = if random.chance(500) { random.between(0, 2_000) } else { 0 };
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
        let lane = random.below(self.lanes.unsigned_abs().into()) as Lane;
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
            let through =
                if random.chance(650) { lane } else { random.below(self.lanes.unsigned_abs().into()) as Lane };
            match random.below(20) {
                0..3 => {
                    let copy = newest.clone();
                    self.send(random, arrives, through, &copy);
                }
                3..13 => {
                    newest.datetime_created += 1;
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
        let (key, value) = (Some(b"first_message".to_vec()), Some(json(campaign)));
        if self.at(millis, Event::Send { lane, key, value, gap }) {
            self.versions.push(campaign.clone());
        }
    }

    fn harms(&mut self, random: &mut Random) {
        for lane in 0..self.lanes {
            self.at(0, Event::Assign { lane, to: random.below(INSTANCES as u64) as usize });
        }
        if random.chance(100) {
            return;
        }
        for _ in 0..random.below(12) {
            let millis = random.between(300, 55_000);
            let instance = random.below(INSTANCES as u64) as usize;
            let lane = random.below(self.lanes.unsigned_abs().into()) as Lane;
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

fn harm(random: &mut Random) -> Harm {
    let calm = random.chance(300);
    let mut up_to = |most: u64| if calm { 0 } else { random.below(most) };
    let (unsent, unanswered, stalls, left_open) = (up_to(25), up_to(20), up_to(6), up_to(400));
    let latency = *random.pick(&[2, 10, 60]);
    Harm { latency, unsent, unanswered, stalls, left_open, ..Harm::default() }
}

/// A window, as seen at a moment: ended, now, short, soon, long.
fn window(random: &mut Random, now: i64) -> Window {
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

/// A campaign as its restaurant sends it.
pub fn json(campaign: &Campaign) -> Vec<u8> {
    let value = serde_json::json!({
        "restaurant_id": campaign.restaurant_id,
        "adv_campaign_id": campaign.adv_campaign_id,
        "adv_campaign_content": campaign.adv_campaign_content,
        "adv_campaign_owner": campaign.adv_campaign_owner,
        "adv_campaign_owner_contact": campaign.adv_campaign_owner_contact,
        "adv_campaign_datetime_start": campaign.window.start,
        "adv_campaign_datetime_end": campaign.window.end,
        "datetime_created": campaign.datetime_created,
    });
    value.to_string().into_bytes()
}
