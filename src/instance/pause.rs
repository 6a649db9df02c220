//! What stops all sending of every instance: the operators' brake (`dinnerbell pause` and `dinnerbell resume`), and the hold.
//!
//! The hold is the ledger's own. On a server to which it failed over, or was restored, commits may be missing, of any lane: a campaign that one lane
//! took in and told may be new to another one. So nothing is sent, and nothing is taken in, until every lane was compared with Kafka behind
//! all its former owners (its way in does that), and each in which commits were missing is resolved.
//!
//! An order of the ledger, looked at every 400 ms. A publication is begun only on a look that is younger than a second and found no pause: so
//! whatever keeps an instance from looking (a database that does not answer, a process that was frozen), nothing is begun later than a second
//! after the order was committed. One that is under way when the instance sees the order may finish within [`GRACE`], and is given up
//! then: the lane is entered again, and what was not committed waits there, recorded.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::model::ownership::Brakes;
use crate::model::time::EpochMicros;
use crate::ports::clock::Clock;
use crate::ports::ledger::{Ledger, LedgerError};

/// How old a look may be on which a publication is begun, in microseconds.
pub const BINDING: EpochMicros = 1_000_000;
/// How long a publication that is under way may go on once a pause was seen.
pub const GRACE: Duration = Duration::from_millis(400);

/// How often an instance looks.
const LOOK: Duration = Duration::from_millis(400);

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// When it was asked for.
    pub asked: EpochMicros,
    /// What stops all sending.
    pub brakes: Brakes,
}

impl Look {
    /// Before the first one: nobody sends before the ledger says that it is allowed.
    pub const NONE: Self = Self { asked: EpochMicros::MIN, brakes: Brakes { paused: true, held: true } };

    /// Whether nothing is to be sent.
    fn is_on(self) -> bool {
        self.brakes.paused || self.brakes.held
    }

    /// Whether a publication may be begun on it.
    fn allows(self, now: EpochMicros) -> bool {
        !self.is_on() && now.saturating_sub(self.asked) < BINDING
    }
}

/// Looks once.
pub async fn look<L: Ledger, C: Clock>(ledger: &L, clock: &C) -> Result<Look, LedgerError> {
    // From before the question: an order that was committed later is not in the answer.
    let asked = clock.now();
    Ok(Look { asked, brakes: ledger.brakes().await? })
}

/// Looks again and again; `changed` hears of each change. A ledger that does not answer says nothing new, and soon nothing is begun.
pub async fn watch<L: Ledger, C: Clock>(
    ledger: &L,
    clock: &C,
    looks: &watch::Sender<Look>,
    changed: impl Fn(Brakes),
) -> Infallible {
    loop {
        if let Ok(look) = look(ledger, clock).await {
            let before = looks.send_replace(look);
            if before.brakes != look.brakes {
                changed(look.brakes);
            }
        }
        sleep(LOOK).await;
    }
}

/// What an instance knows of the brake.
#[derive(Debug, Clone)]
pub struct Brake {
    looks: watch::Receiver<Look>,
}

impl Brake {
    /// The brake as it is looked at by whoever holds the other end.
    pub fn new(looks: watch::Receiver<Look>) -> Self {
        Self { looks }
    }

    /// A brake that nobody ever pulls.
    pub fn never() -> Self {
        Self { looks: watch::channel(Look { asked: EpochMicros::MAX, brakes: Brakes::default() }).1 }
    }

    /// Whether the last look found that nothing is to be sent.
    pub fn is_on(&self) -> bool {
        self.looks.borrow().is_on()
    }

    /// Whether the last look found a hold.
    pub fn is_held(&self) -> bool {
        self.looks.borrow().brakes.held
    }

    /// Waits until the last look found a hold.
    pub async fn held(&self) {
        self.until(|look| look.brakes.held).await;
    }

    /// Waits until the last look found that nothing is to be sent.
    pub async fn on(&self) {
        self.until(|look| look.is_on()).await;
    }

    /// Waits until the last look found nothing in the way.
    pub async fn off(&self) {
        self.until(|look| !look.is_on()).await;
    }

    /// Waits until the last look found no hold: what arrives may be taken in, paused or not.
    pub async fn not_held(&self) {
        self.until(|look| !look.brakes.held).await;
    }

    /// Waits for the next look.
    pub async fn looked(&self) {
        let mut looks = self.looks.clone();
        // A clone has seen what the first one has seen, which is nothing.
        looks.mark_unchanged();
        if looks.changed().await.is_err() {
            // Nobody looks any more: the service is ending.
            pending::<()>().await;
        }
    }

    /// Waits until a publication may be begun, and returns the time at which it may; none when the clock cannot be read.
    pub async fn released<C: Clock>(&self, clock: &C) -> Option<EpochMicros> {
        let mut looks = self.looks.clone();
        loop {
            // Read first: a machine that slept learns by it how old its last look is.
            let now = clock.fresh().await?;
            if looks.borrow_and_update().allows(now) {
                return Some(now);
            }
            if looks.changed().await.is_err() {
                // Nobody looks any more: the service is ending.
                pending::<()>().await;
            }
        }
    }

    async fn until(&self, mut found: impl FnMut(&Look) -> bool) {
        if self.looks.clone().wait_for(|look| found(look)).await.is_err() {
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use tokio::time::timeout;

    use super::*;

    const FREE: Brakes = Brakes { paused: false, held: false };
    const PAUSED: Brakes = Brakes { paused: true, held: false };

    #[derive(Clone, Default)]
    struct Told(Arc<AtomicI64>);

    impl Clock for Told {
        fn now(&self) -> EpochMicros {
            self.0.load(Ordering::Relaxed)
        }

        async fn fresh(&self) -> Option<EpochMicros> {
            Some(self.now())
        }
    }

    async fn is_released(brake: &Brake, clock: &Told) -> bool {
        timeout(Duration::from_secs(60), brake.released(clock)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_publication_is_begun_only_on_a_young_look_that_found_no_pause() {
        let (looks, seen) = watch::channel(Look::NONE);
        let (brake, clock) = (Brake::new(seen), Told::default());
        clock.0.store(10_000_000, Ordering::Relaxed);
        assert!(!is_released(&brake, &clock).await, "nobody has looked yet");
        looks.send_replace(Look { asked: 9_500_000, brakes: FREE });
        assert!(is_released(&brake, &clock).await);
        clock.0.store(10_500_000, Ordering::Relaxed);
        assert!(!is_released(&brake, &clock).await, "an instance that cannot look any more begins nothing");
        looks.send_replace(Look { asked: 10_400_000, brakes: PAUSED });
        assert!(!is_released(&brake, &clock).await);
        assert!(brake.is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_at_the_brake_goes_on_with_the_look_that_finds_it_released() {
        let (looks, seen) = watch::channel(Look { asked: 0, brakes: PAUSED });
        let (brake, clock) = (Brake::new(seen), Told::default());
        let waiting = async { (brake.released(&clock).await, brake.off().await) };
        let releasing = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            clock.0.store(5_000_000, Ordering::Relaxed);
            looks.send_replace(Look { asked: 5_000_000, brakes: FREE });
        };
        let (released, ()) = timeout(Duration::from_secs(6), async { tokio::join!(waiting, releasing) }).await.unwrap();
        assert_eq!(released.0, Some(5_000_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_brake_that_nobody_pulls_holds_nothing_up() {
        assert!(is_released(&Brake::never(), &Told::default()).await);
    }
}
