//! What stops all sending of every instance: the operators' pause (`dinnerbell pause` and `dinnerbell resume`), and the hold.
//!
//! The hold is the ledger's own. After a fail-over or a restore, commits of any lane may be missing. A campaign that one lane took in and told may
//! then be new to another one. So nothing is sent or taken in until the takeover of every lane has compared it with Kafka, and each lane that lost
//! commits is resolved.
//!
//! Each instance reads `dinnerbell.service` every 400 ms. A publication begins only on a reading that is younger than a second and found no pause. A
//! database that does not answer, or a frozen process, may keep an instance from reading. Even so, nothing begins later than a second after the order
//! was committed. A publication that is under way when the instance sees the order may finish within [`IN_FLIGHT_GRACE`]. Then it is given up: the
//! lane is taken over again, and the recorded round waits there.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;

use crate::model::number::Micros;
use crate::model::ownership::Suspension;
use crate::periodic::Periodic;
use crate::ports::clock::Clock;
use crate::ports::ledger::{Ledger, LedgerError};

/// How old a reading may be on which a publication is begun, in microseconds.
pub const MAX_READING_AGE: i64 = 1_000_000;
/// How long a publication that is under way may go on once a pause was seen.
pub const IN_FLIGHT_GRACE: Duration = Duration::from_millis(400);

/// How often an instance reads the pause.
const CHECK_INTERVAL: Duration = Duration::from_millis(400);

/// What a reading found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseReading {
    /// When it was asked for.
    pub asked: Micros,
    /// What stops all sending.
    pub suspension: Suspension,
}

impl PauseReading {
    /// Before the first one: nobody sends before the ledger says that it is allowed.
    pub const NONE: Self = Self { asked: Micros::MIN, suspension: Suspension { paused: true, held: true } };

    /// Whether nothing is to be sent.
    fn is_suspended(self) -> bool {
        self.suspension.paused || self.suspension.held
    }

    /// Whether a publication may be begun on it.
    fn allows(self, now: Micros) -> bool {
        !self.is_suspended() && now - self.asked < MAX_READING_AGE
    }
}

/// Reads the pause once. Fails where the ledger does not answer.
pub async fn read<L: Ledger, C: Clock>(ledger: &L, clock: &C) -> Result<PauseReading, LedgerError> {
    // From before the question: an order that was committed later is not in the answer.
    let asked = clock.now();
    Ok(PauseReading { asked, suspension: ledger.suspension().await? })
}

/// Reads the pause every 0.4 s until it is dropped, and calls `changed` with each new suspension. It cannot fail: while the ledger does not answer, the
/// last reading grows old, and nothing is begun any more.
pub async fn watch<L: Ledger, C: Clock>(
    ledger: &L,
    clock: &C,
    readings: &watch::Sender<PauseReading>,
    changed: impl Fn(Suspension),
) -> Infallible {
    let mut checks = Periodic::at_once(CHECK_INTERVAL);
    loop {
        checks.due().await;
        if let Ok(reading) = read(ledger, clock).await {
            let before = readings.send_replace(reading);
            if before.suspension != reading.suspension {
                changed(reading.suspension);
            }
        }
    }
}

/// What an instance knows of the pause and the hold, by its last reading.
///
/// - *paused*: an operator ordered that nobody sends. Intake goes on.
/// - *held*: commits may be missing until every lane was compared. Nobody sends or takes in.
/// - *suspended*: paused or held. No round is begun.
/// - *publication allowed*: not suspended, by a reading that is young enough to begin a publication on.
#[derive(Debug, Clone)]
pub struct PauseWatch {
    readings: watch::Receiver<PauseReading>,
}

impl PauseWatch {
    /// Watches the pause by the readings of this channel.
    pub fn new(readings: watch::Receiver<PauseReading>) -> Self {
        Self { readings }
    }

    /// A pause that is never ordered: everything is allowed.
    pub fn never() -> Self {
        Self { readings: watch::channel(PauseReading { asked: Micros::MAX, suspension: Suspension::default() }).1 }
    }

    /// Returns whether the last reading found a pause or a hold.
    pub fn is_suspended(&self) -> bool {
        self.readings.borrow().is_suspended()
    }

    /// Returns whether the last reading found a hold.
    pub fn is_held(&self) -> bool {
        self.readings.borrow().suspension.held
    }

    /// Waits until the last reading found a hold.
    pub async fn until_held(&self) {
        self.wait_for(|reading| reading.suspension.held).await;
    }

    /// Waits until the last reading found a pause or a hold.
    pub async fn until_suspended(&self) {
        self.wait_for(|reading| reading.is_suspended()).await;
    }

    /// Waits until the last reading found neither a pause nor a hold.
    pub async fn until_not_suspended(&self) {
        self.wait_for(|reading| !reading.is_suspended()).await;
    }

    /// Waits until the last reading found no hold: what arrives may be taken in, paused or not.
    pub async fn until_not_held(&self) {
        self.wait_for(|reading| !reading.suspension.held).await;
    }

    /// Waits for the next reading.
    pub async fn next_reading(&self) {
        let mut readings = self.readings.clone();
        // A clone has seen what the first one has seen, which is nothing.
        readings.mark_unchanged();
        if readings.changed().await.is_err() {
            // Nobody reads it any more: the service is ending.
            pending::<()>().await;
        }
    }

    /// Waits until a reading allows a publication. Returns the time at which it may begin, or none when the clock cannot be read.
    pub async fn until_publication_allowed<C: Clock>(&self, clock: &C) -> Option<Micros> {
        let mut readings = self.readings.clone();
        loop {
            // The clock is read first. After a sleep of the machine it shows how old the last reading is.
            let now = clock.fresh().await?;
            if readings.borrow_and_update().allows(now) {
                return Some(now);
            }
            if readings.changed().await.is_err() {
                // Nobody reads it any more: the service is ending.
                pending::<()>().await;
            }
        }
    }

    async fn wait_for(&self, mut found: impl FnMut(&PauseReading) -> bool) {
        if self.readings.clone().wait_for(|reading| found(reading)).await.is_err() {
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::ports::clock::tests::TestClock;

    const FREE: Suspension = Suspension { paused: false, held: false };
    const PAUSED: Suspension = Suspension { paused: true, held: false };

    async fn is_allowed(pause: &PauseWatch, clock: &TestClock) -> bool {
        timeout(Duration::from_secs(60), pause.until_publication_allowed(clock)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_publication_is_begun_only_on_a_young_reading_that_found_no_pause() {
        let (readings, seen) = watch::channel(PauseReading::NONE);
        let (pause, clock) = (PauseWatch::new(seen), TestClock::default());
        clock.set(10_000_000);
        assert!(!is_allowed(&pause, &clock).await, "nothing was read yet");
        readings.send_replace(PauseReading { asked: Micros::new(9_500_000), suspension: FREE });
        assert!(is_allowed(&pause, &clock).await);
        clock.set(10_500_000);
        assert!(!is_allowed(&pause, &clock).await, "an instance that cannot read any more begins nothing");
        readings.send_replace(PauseReading { asked: Micros::new(10_400_000), suspension: PAUSED });
        assert!(!is_allowed(&pause, &clock).await);
        assert!(pause.is_suspended());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_at_the_pause_goes_on_with_the_reading_that_finds_it_over() {
        let (readings, seen) = watch::channel(PauseReading { asked: Micros::default(), suspension: PAUSED });
        let (pause, clock) = (PauseWatch::new(seen), TestClock::default());
        let waiting = async { (pause.until_publication_allowed(&clock).await, pause.until_not_suspended().await) };
        let releasing = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            clock.set(5_000_000);
            readings.send_replace(PauseReading { asked: Micros::new(5_000_000), suspension: FREE });
        };
        let (allowed, ()) = timeout(Duration::from_secs(6), async { tokio::join!(waiting, releasing) }).await.unwrap();
        assert_eq!(allowed.0, Some(Micros::new(5_000_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pause_nothing_waits() {
        assert!(is_allowed(&PauseWatch::never(), &TestClock::default()).await);
    }
}
