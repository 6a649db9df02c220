//! A service that has something to show on every page: campaigns in each state, dead letters, orders, a lane that is halted.

use crate::client::{address, encoded, stage_with};
use crate::support::campaign::epoch_seconds;
use crate::support::wait::{wait_for, wait_until};
use crate::support::{Campaign, Service, Setting, Stage};
use crate::tab::SOON;

/// An id and a text that try everything: markup, text that turns around, control characters, no place to break the line.
pub const HOSTILE_ID: &str = "a/b ?#%<img src=x onerror=\"window.hit=1\">'\u{202e}evil\u{0007}";

/// 16 KiB of it.
pub fn hostile_text() -> String {
    let piece = "<script>window.hit=1</script><img src=x onerror='window.hit=1'>\u{202e}\u{2066}{{ 7*7 }}\u{1}\u{1b}[2J&amp;\"' ";
    let mut text = piece.repeat(16 * 1024 / piece.len() - 40);
    text.push_str(&"W".repeat(16 * 1024 - text.len()));
    text
}

/// A campaign that begins and ends so many seconds from now.
fn campaign(id: &str, restaurant: &str, text: &str, (from, to): (i64, i64)) -> Campaign {
    let now = epoch_seconds();
    let mut campaign = Campaign::now(id, restaurant).lasting(now + from, now + to);
    campaign.adv_campaign_content = text.to_owned();
    campaign.adv_campaign_owner = "Giulia Rossi".to_owned();
    campaign.adv_campaign_owner_contact = "giulia@trattoria-bella.example".to_owned();
    campaign
}

/// The stage and what runs on it.
pub struct Scene {
    pub stage: Stage,
    pub service: Service,
    /// Where it serves.
    pub address: String,
}

impl Scene {
    /// Sets it: campaigns that run for some minutes, and others in every state.
    #[track_caller]
    pub fn set() -> Self {
        let mut stage = stage_with(Setting { lanes: 4, ..Setting::default() });
        stage.config.set("fanout", "rate_limit", 400).set("fanout", "round_rows", 100);
        stage.subscribers.subscribe("trattoria-bella", 60_000);
        stage.subscribers.subscribe("ramen-ya", 6_000);
        stage.subscribers.subscribe_clients("cafe-moulin", &["anna", "boris", "chiara", ""]);
        stage.subscribers.subscribe_clients("taqueria-sol", &["anna"]);
        // How much is left is an estimate, by what is known of the table.
        stage.subscribers.execute("analyze public.subscribers_restaurants");
        stage.migrate();
        let service = stage.start();
        let address = address(&service);
        let scene = Self { stage, service, address };
        scene.send_all();
        scene
    }

    /// Sets it, and adds what is not nice to look at: a campaign of a hostile sender, and a lane that is halted.
    #[track_caller]
    pub fn with_trouble() -> Self {
        let scene = Self::set();
        let mut hostile = campaign(HOSTILE_ID, "taqueria-sol", &hostile_text(), (-60, 7_200));
        hostile.adv_campaign_owner = "<b>Owner</b>\u{202e}".repeat(8);
        scene.stage.send_to(2, &hostile);
        wait_until("it is told", SOON, || scene.count("state = 'complete'") == 3);
        // A halt as the ledger keeps it, on a lane that has nothing to do.
        scene.stage.feedback.execute(
            "update dinnerbell.lane set halted_at = now(), halted = 'round_rows_differ', \
             halted_found = 'round 7 recorded 250 rows, and the feedback table has 249 of them', \
             halted_remedy = 'find out who deleted a row of public.subscribers_feedback; then: dinnerbell lane resolve 3 --accept-rows' \
             where lane = 3",
        );
        scene
    }

    fn send_all(&self) {
        let soup = "Onion soup on the house with every main course. Show this message at the counter.";
        self.stage.send_to(1, &campaign("moulin-soup", "cafe-moulin", soup, (-600, 7_200)));
        self.stage.send_to(2, &campaign("luna-tacos", "taqueria-luna", "Tacos, two for one", (-60, 3_600)));
        self.stage.send_to(1, &campaign("ramen-weekend", "ramen-ya", "Gyoza on the house", (5_400, 90_000)));
        self.stage.send_to(2, &campaign("moulin-tomorrow", "cafe-moulin", "Tomorrow: quiche", (86_400, 172_800)));
        wait_until("the small ones are told", SOON, || self.count("state = 'complete'") == 2);
        let pizza = "Two pizzas for the price of one, every evening this week. Show this message at the counter.";
        self.stage.send_to(0, &campaign("bella-two-for-one", "trattoria-bella", pizza, (-30, 1_800)));
        self.stage.send_to(1, &campaign("ramen-sunday", "ramen-ya", "The second bowl is free, today only", (-30, 4)));
        let bad = b"{\"adv_campaign_id\": \"no end\", \"note\": \"\x07<script>window.hit=1</script>\"}";
        self.stage.kafka.produce(&self.stage.campaigns, Some(0), Some(b"bad"), Some(bad), &[]);
        self.stage.kafka.produce(&self.stage.campaigns, Some(1), Some(b"bad"), Some(&[b'x'; 16 * 1024]), &[]);
        self.stage.dinnerbell_ok(&["campaign", "cancel", "moulin-tomorrow"]);
        wait_until("one ended and was counted", SOON, || self.count("state = 'expired' and unsent > 0") == 1);
        wait_until("the others arrived", SOON, || {
            let letters = self.stage.feedback.number("select count(*) from dinnerbell.dead_letter");
            letters == 2 && self.count("state = 'active' and told > 0") == 1
        });
    }

    fn count(&self, which: &str) -> i64 {
        self.stage.feedback.number(&format!("select count(*) from dinnerbell.campaign where {which}"))
    }

    /// Every page, with something on it.
    pub fn pages(&self) -> Vec<String> {
        let letter = wait_for("there is a dead letter", SOON, || {
            let id = self.stage.feedback.number("select coalesce(min(id), 0) from dinnerbell.dead_letter");
            (id > 0).then_some(id)
        });
        let plain = ["", "campaigns", "clients", "clients/anna", "lanes", "dead-letters", "preview", "check", "audit"];
        let mut pages: Vec<String> = plain.iter().map(|&page| page.to_owned()).collect();
        pages.extend([
            "campaigns/bella-two-for-one?client=anna".to_owned(),
            "campaigns/ramen-sunday?not_told=1".to_owned(),
            format!("campaigns/{}", encoded(HOSTILE_ID)),
            format!("dead-letters/{letter}"),
            "no-such-page".to_owned(),
        ]);
        pages
    }
}
