//! The pictures of the README: of a real service, taken anew by `make screenshots`.

use std::path::PathBuf;

use crate::client::OPERATOR;
use crate::scene::Scene;
use crate::support::wait::wait_until;
use crate::tab::{SOON, Tab};

/// Names the folder that takes them; without it they are taken and thrown away.
const FOLDER: &str = "DINNERBELL_PICTURES";
/// Most bytes of one.
const LARGEST: u64 = 200_000;

#[test]
fn pictures_of_the_page_are_taken_and_small() {
    let scene = Scene::set();
    let tab = Tab::signed_in(&scene.address, "Olga", OPERATOR);
    let thrown_away = tempfile::tempdir().expect("a temporary folder can be made");
    let folder = std::env::var_os(FOLDER).map_or(thrown_away.path().to_owned(), PathBuf::from);
    let take = |name: &str, page: &str, scheme: &str, (width, height): (u32, u32)| {
        tab.size(width, height);
        tab.prefers(scheme);
        tab.go(page);
        tab.wait("main progress");
        let file = folder.join(format!("{name}.png"));
        tab.picture(&file);
        let bytes = file.metadata().expect("it was kept").len();
        assert!((10_000..LARGEST).contains(&bytes), "{name} has {bytes} bytes");
    };
    tab.go("campaigns/bella-two-for-one");
    wait_until("a good part is told", SOON, || {
        let told = scene
            .stage
            .feedback
            .number("select told from dinnerbell.campaign where adv_campaign_id = 'bella-two-for-one'");
        told > 4_000 && tab.shows("#told-over-time")
    });
    take("page-now", "", "light", (1200, 1000));
    take("page-now-dark", "", "dark", (1200, 1000));
    take("page-campaign", "campaigns/bella-two-for-one", "light", (1200, 1000));
    take("page-telephone", "", "light", (390, 844));
    scene.service.stop();
}
