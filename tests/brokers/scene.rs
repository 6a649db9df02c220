//! Several instances and lanes on three brokers, with campaigns that are sent all the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::support::{Campaign, Expected, Service, Setting, Stage, block_on, wait_until};

/// Lanes, which the instances share.
pub const LANES: i32 = 4;
/// How long things may take that nobody disturbs.
pub const LONG: Duration = Duration::from_secs(120);
/// How long it may take until all is told, in every lane, when all brokers are back; on a machine that does nothing else it takes seconds.
pub const RECOVERED_WITHIN: Duration = Duration::from_secs(120);

/// How much there is to do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The clients of a campaign.
    pub clients: u64,
    /// Most drafts of a round.
    pub round_rows: i64,
    /// How long is waited at least between two campaigns of a lane.
    pub pause: Duration,
}

/// What lives on the three brokers.
pub struct Scene {
    /// They end first: their logs are in the stage's folder.
    pub instances: Vec<Service>,
    pub stage: Stage,
    expected: Expected,
    load: Load,
    sender: FutureProducer,
    clients: Vec<String>,
    /// How many campaigns each lane has.
    rung: usize,
    last_rung: Instant,
}

impl Scene {
    /// Two instances that have lanes, both of them.
    pub fn new(load: Load) -> Self {
        let setting = Setting { lanes: LANES, notification_partitions: 6, three_brokers: true, ..Setting::default() };
        let mut stage = Stage::with(setting);
        stage.config.set("fanout", "round_rows", load.round_rows);
        stage.config.set("kafka.client", "session.timeout.ms", 6_000).set(
            "kafka.client",
            "heartbeat.interval.ms",
            1_000,
        );
        stage.migrate();
        stage.subscribers.subscribe("crowd", load.clients);
        let clients = stage.subscribers.clients_of("crowd");
        let mut sender = stage.kafka.client();
        // Whoever sends campaigns asks another broker soon where one stands still.
        sender.set("linger.ms", "0").set("request.timeout.ms", "3000").set("socket.timeout.ms", "5000");
        sender.set("topic.metadata.refresh.interval.ms", "2000");
        let sender = sender.create().expect("the settings are right");
        let (expected, last_rung) = (Expected::default(), Instant::now());
        let mut scene = Self { stage, instances: Vec::new(), expected, load, sender, clients, rung: 0, last_rung };
        for _ in 0..2 {
            scene.instances.push(scene.stage.start());
        }
        scene.ring();
        scene.busy_until("both instances have lanes", LONG, |scene| scene.owners() == 2);
        scene
    }

    /// How many instances have lanes.
    fn owners(&self) -> i64 {
        self.stage.feedback.number("select count(distinct owner) from dinnerbell.lane")
    }

    /// One more campaign for each lane.
    fn ring(&mut self) {
        self.rung += 1;
        self.last_rung = Instant::now();
        for lane in 0..LANES {
            let campaign = Campaign::now(&format!("offer-{lane}-{}", self.rung), "crowd");
            self.expected.add(&campaign, &self.clients);
            let (key, value) = (campaign.adv_campaign_id.clone(), campaign.json());
            let record = FutureRecord::to(&self.stage.campaigns).partition(lane).key(&key).payload(&value);
            block_on(self.sender.send(record, LONG)).expect("the record is delivered");
        }
    }

    /// Rings where all campaigns before are recorded as told, and the pause is over.
    fn keep_busy(&mut self) {
        if self.last_rung.elapsed() >= self.load.pause && self.told() >= self.expected.len() {
            self.ring();
        }
    }

    fn told(&self) -> usize {
        let told = self.stage.feedback.number("select coalesce(sum(told), 0) from dinnerbell.campaign");
        usize::try_from(told).expect("nobody is told less than never")
    }

    /// Waits, with campaigns that are sent meanwhile.
    #[track_caller]
    pub fn busy_until(&mut self, what: &str, within: Duration, mut holds: impl FnMut(&Self) -> bool) {
        wait_until(what, within, || {
            self.keep_busy();
            std::thread::sleep(Duration::from_millis(50));
            holds(self)
        });
    }

    /// Waits with nothing new to tell: what could send it may stand still.
    pub fn wait_for(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Waits so long, with campaigns that are sent meanwhile.
    pub fn busy_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.keep_busy();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until each lane has published two rounds more. Returns how long that took.
    #[track_caller]
    pub fn every_lane_goes_on(&mut self, what: &str, within: Duration) -> Duration {
        let (began, before) = (Instant::now(), self.published());
        self.busy_until(&format!("every lane publishes, {what}"), within, |scene| {
            let now = scene.published();
            before.iter().all(|(lane, seq)| now[lane] > seq + 1)
        });
        eprintln!("{what}: every lane published after {:?}", began.elapsed());
        began.elapsed()
    }

    /// The last round of each lane that Kafka is known to have.
    pub fn published(&self) -> BTreeMap<i64, i64> {
        let rows = self.stage.feedback.query("select lane, coalesce(published_seq, 0) as seq from dinnerbell.lane");
        let number = |row: &serde_json::Value, name: &str| row[name].as_i64().expect("a number");
        rows.iter().map(|row| (number(row, "lane"), number(row, "seq"))).collect()
    }

    /// All brokers are there: both sinks become exact in time, and no lane is halted.
    #[track_caller]
    pub fn assert_recovers(&mut self, after: &str) {
        let began = Instant::now();
        self.stage.await_sinks(&self.expected, RECOVERED_WITHIN);
        eprintln!("{after}: {} drafts are in both sinks {:?} later", self.expected.len(), began.elapsed());
        self.assert_no_halt();
        for instance in &mut self.instances {
            assert!(instance.runs(), "an instance ended, {after}");
        }
    }

    /// No lane is halted.
    #[track_caller]
    pub fn assert_no_halt(&self) {
        let halted = "select lane, halted, halted_found from dinnerbell.lane where halted is not null";
        assert_eq!(self.stage.feedback.query(halted), Vec::<serde_json::Value>::new());
    }

    /// How many drafts are expected.
    pub fn drafts(&self) -> usize {
        self.expected.len()
    }

    /// Ends all instances, as an operator does.
    pub fn end(mut self) {
        for instance in self.instances.drain(..) {
            instance.stop();
        }
        self.stage.assert_sinks(&self.expected);
    }
}
