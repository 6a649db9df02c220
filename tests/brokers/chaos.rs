//! Faults at random, of brokers and of instances, one after the other and some of them together, for as long as one likes.

use std::time::{Duration, Instant};

use super::scene::{Load, Scene};
use super::{broker, topics};
use crate::support::Service;

/// Few drafts, and rounds under way at each moment: an hour of it is compared at the end.
const LOAD: Load = Load { clients: 60, round_rows: 10, pause: Duration::from_secs(3) };
/// How long it goes on unless `DINNERBELL_SECONDS` says otherwise.
const SECONDS: u64 = 60;
/// How soon every lane publishes when nothing is away any more.
const GOES_ON_WITHIN: Duration = Duration::from_secs(120);
/// The longest that something is away.
const LONGEST_AWAY: u64 = 20;

/// Numbers that a seed decides (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn moment(&mut self, longest: u64) -> Duration {
        Duration::from_millis(self.below(longest * 1_000))
    }
}

/// A number that somebody set in the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("it is a number"))
}

/// A life of a scene.
struct Life {
    scene: Scene,
    random: Random,
    began: Instant,
    faults: usize,
    slowest: Duration,
    /// How often an instance ended itself because it had stood still, as it may.
    ended_themselves: usize,
}

impl Life {
    fn say(&mut self, what: &str) {
        self.faults += 1;
        eprintln!("{:4} s: {what}", self.began.elapsed().as_secs());
    }

    /// Something happens to brokers, to instances, or to both; in the end all is there again.
    fn fault(&mut self) {
        let before = self.random.moment(4);
        self.scene.busy_for(before);
        match self.random.below(4) {
            0 => self.move_leaders(),
            1 => self.instance(),
            _ => self.brokers(),
        }
        self.revive();
        let took = self.scene.every_lane_goes_on("all is there again", GOES_ON_WITHIN);
        self.slowest = self.slowest.max(took);
        self.scene.assert_no_halt();
    }

    fn move_leaders(&mut self) {
        let topics = topics(&self.scene);
        let topic = &topics[usize::try_from(self.random.below(4)).expect("it is small")];
        let moved = self.scene.stage.kafka.move_leaders(topic);
        self.say(&format!("{moved} leaders of {topic} moved"));
    }

    /// One broker goes away, seldom two. Meanwhile leaders move, or an instance has a fault of its own.
    fn brokers(&mut self) {
        let kafka = self.scene.stage.kafka.clone();
        let first = i32::try_from(self.random.below(3)).expect("it is small");
        let count = if self.random.one_in(6) { 2 } else { 1 };
        let (mut ended, mut frozen) = (false, Vec::new());
        for id in (0..count).map(|place| (first + place) % 3 + 1) {
            let how = self.random.below(3);
            self.say(&format!(
                "broker {id} is {}",
                ["ended", "killed", "frozen"][usize::try_from(how).expect("it is small")]
            ));
            match how {
                0 => broker(&kafka, id).stop(),
                1 => broker(&kafka, id).kill(),
                _ => broker(&kafka, id).freeze(),
            }
            ended |= how < 2;
            frozen.extend((how == 2).then_some(id));
        }
        let away = self.random.moment(LONGEST_AWAY);
        if self.random.one_in(3) && count == 1 {
            self.scene.wait_for(away / 2);
            if self.random.one_in(2) { self.instance() } else { self.move_leaders() }
        }
        self.scene.wait_for(away);
        frozen.iter().for_each(|id| broker(&kafka, *id).thaw());
        if ended {
            kafka.start();
        }
    }

    /// An instance is killed, frozen or ended, or another one comes.
    fn instance(&mut self) {
        let place = usize::try_from(self.random.below(self.scene.instances.len() as u64)).expect("it is small");
        match self.random.below(5) {
            0 | 1 => {
                self.say("an instance is killed");
                self.scene.instances.swap_remove(place).kill();
            }
            2 | 3 => {
                self.say("an instance is frozen");
                self.scene.instances[place].freeze();
                let away = self.random.moment(LONGEST_AWAY);
                self.scene.wait_for(away);
                self.scene.instances[place].thaw();
            }
            _ if self.scene.instances.len() < 3 => {
                self.say("an instance comes");
                self.scene.instances.push(self.scene.stage.start());
            }
            _ => {
                self.say("an instance is ended");
                self.scene.instances.swap_remove(place).stop();
            }
        }
    }

    /// What a supervisor does: whoever stood still and ended itself is started again, and there are two at least.
    fn revive(&mut self) {
        let all = self.scene.instances.len();
        self.scene.instances.retain_mut(|instance| instance.runs() || !stood_still(instance));
        self.ended_themselves += all - self.scene.instances.len();
        while self.scene.instances.len() < 2 {
            self.scene.instances.push(self.scene.stage.start());
        }
    }
}

fn stood_still(instance: &mut Service) -> bool {
    let status = instance.wait(Duration::from_secs(1));
    assert_eq!(status.code(), Some(70), "{}", instance.log());
    true
}

#[test]
#[ignore = "takes as long as one likes: make prove"]
fn whatever_happens_to_brokers_and_instances_at_random_everybody_is_told_once() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seed = number("DINNERBELL_SEED").unwrap_or(clock);
    let time = Duration::from_secs(number("DINNERBELL_SECONDS").unwrap_or(SECONDS));
    eprintln!("DINNERBELL_SEED={seed}, for {time:?}");
    let scene = Scene::new(LOAD);
    let began = Instant::now();
    let mut life = Life { scene, random: Random(seed), began, faults: 0, slowest: Duration::ZERO, ended_themselves: 0 };
    while began.elapsed() < time {
        life.fault();
    }
    let Life { mut scene, faults, slowest, ended_themselves, .. } = life;
    scene.assert_recovers("the whole of it");
    let drafts = scene.drafts();
    scene.end();
    eprintln!(
        "DINNERBELL_SEED={seed}: {faults} faults in {:?}, {drafts} drafts, each once in both sinks; every lane published {slowest:?} after a fault at the latest; \
         {ended_themselves} instances ended themselves",
        began.elapsed()
    );
}
