//! A request on its way to a server and back. The server works on what arrived whether or not anybody still waits for the answer.
//! Requests have the names of the traits' functions, so that a life can hold one up.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::world::{Became, Fate, Instance};
use crate::faults::Server;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Nothing is known: it did not arrive, or the reply did not, or took too long.
    Lost,
    /// The server refuses, and will refuse again.
    Refused,
}

/// Tells the server whether somebody still waits.
pub(super) struct Caller(Weak<()>);

impl Caller {
    pub(super) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Instance {
    /// Sends a request. `served` is what the server does once it arrives.
    pub(super) async fn ask<T, F>(
        &self,
        request: &'static str,
        server: Server,
        time_limit: Duration,
        served: impl FnOnce(Caller) -> F,
    ) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (fate, there, back) = self.draw(request, server);
        self.world.state().became(self.number, request, Became::Sent(fate, there, back));
        match fate {
            Fate::Unsent | Fate::Refused => {
                sleep(there + back).await;
                let refused = matches!(fate, Fate::Refused);
                return Err(if refused { Unanswered::Refused } else { Unanswered::Lost });
            }
            Fate::Answered | Fate::Unanswered => {}
        }
        let waiting = Arc::new(());
        let served = served(Caller(Arc::downgrade(&waiting)));
        let (reply, answer) = oneshot::channel();
        let (world, instance) = (self.world.clone(), self.number);
        #[expect(clippy::disallowed_methods, reason = "a request that is on its way outlives its sender")]
        tokio::spawn(async move {
            sleep(there).await;
            let served = served.await;
            // The caller may be gone.
            let heard = reply.send(served).is_ok();
            world.state().became(instance, request, Became::Served { heard });
        });
        let Ok(Ok(answer)) = timeout(time_limit, answer).await else { return Err(Unanswered::Lost) };
        sleep(back).await;
        drop(waiting);
        if matches!(fate, Fate::Unanswered) { Err(Unanswered::Lost) } else { Ok(answer) }
    }

    fn draw(&self, request: &'static str, server: Server) -> (Fate, Duration, Duration) {
        let mut state = self.world.state();
        let (mut there, back) = (state.way(), state.way());
        let held = state.held_up(self.number, request);
        there += held.as_ref().map_or(Duration::ZERO, |hold| hold.time);
        let harm = state.harm.clone();
        let fate = if harm.refuses.contains(&server) {
            Fate::Refused
        } else if held.is_some_and(|hold| hold.is_lost)
            || harm.away.contains(&server)
            || state.random.chance(harm.unsent)
        {
            Fate::Unsent
        } else if state.random.chance(harm.unanswered) {
            Fate::Unanswered
        } else {
            Fate::Answered
        };
        (fate, there, back)
    }
}
