//! The backlog's part for restaurants whose pages do not come in time: rounds leave them out, and they are asked for alone.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::lane::backlog::LaneBacklog;

impl LaneBacklog {
    /// No page of this restaurant came in time: its campaigns are left out of rounds, for so long at least.
    pub fn overdue(&self, restaurant_id: &str) -> Duration {
        let pause = self.state().running.overdue.note(restaurant_id, Instant::now());
        self.wakeups.left_out.call();
        pause
    }

    /// Waits until a restaurant that is left out is to be asked for by itself. It, and behind whom a page of one of its campaigns begins.
    pub async fn left_out(&self) -> (String, Option<String>) {
        loop {
            let next = self.state().running.overdue.next().map(|(at, restaurant)| (at, restaurant.to_owned()));
            let Some((at, restaurant)) = next else {
                self.wakeups.left_out.called().await;
                continue;
            };
            // Another one may be due before it.
            if timeout_at(at, self.wakeups.left_out.called()).await.is_ok() {
                continue;
            }
            let mut state = self.state();
            match state.running.of_restaurant(&restaurant) {
                Some(running) => return (restaurant, running.cursor.clone()),
                None => state.running.overdue.forget(&restaurant),
            }
        }
    }

    /// A page of this restaurant came that was asked for by itself: rounds may ask again.
    pub fn came_alone(&self, restaurant_id: &str) {
        self.state().running.overdue.came_alone(restaurant_id);
        self.wakeups.changed.call();
    }

    /// A round read a page of this restaurant.
    pub fn came(&self, restaurant_id: &str) {
        self.state().running.overdue.forget(restaurant_id);
    }
}
