//! The clock: `dinnerbell_core::ports::clock::Clock`, by which every instance decides whether a window is open.

use dinnerbell_core::model::number::Micros;
use dinnerbell_core::ports::clock::Clock;

/// Gives each case of the clock to a macro, which makes a test of it.
macro_rules! for_each_clock_case {
    ($test:ident) => {
        $test! { clock:
            time_is_the_feedback_databases_and_never_behind_it,
            two_instances_tell_the_same_time,
            a_clock_whose_database_is_away_says_so_and_planning_goes_on,
        }
    };
}
pub(crate) use for_each_clock_case;

/// How far two readings may be apart on a busy machine, in microseconds.
const NEAR: i64 = 2_000_000;

/// A feedback database whose time is told.
pub trait Environment {
    type Clock: Clock;

    async fn fresh() -> Self;
    /// A database that can be taken away: nobody else needs its server.
    async fn alone() -> Self;
    /// A clock as an instance has it.
    async fn clock(&self) -> Self::Clock;
    /// The database's own time.
    async fn time(&self) -> Micros;
    /// The database answers nothing, or answers again.
    async fn take_away(&self, away: bool);
    /// So much time passes.
    async fn pass(&self, micros: u64);
}

pub async fn time_is_the_feedback_databases_and_never_behind_it<E: Environment>(env: &mut E) {
    let clock = env.clock().await;
    for _ in 0..20 {
        let database = env.time().await;
        let (now, fresh) = (clock.now(), clock.fresh().await.unwrap());
        assert!(now >= database && fresh >= database, "{database}, {now}, {fresh}");
        // A reading is ahead by what its question took.
        assert!(now.max(fresh) - database < NEAR, "{database}, {now}, {fresh}");
        env.pass(10_000).await;
    }
    let before = clock.now();
    env.pass(1_100_000).await;
    assert!(clock.now() - before >= 1_000_000, "it runs on by itself");
    assert!(clock.fresh().await.unwrap() - before >= 1_000_000);
}

pub async fn two_instances_tell_the_same_time<E: Environment>(env: &mut E) {
    let (one, other) = (env.clock().await, env.clock().await);
    let (one, other) = (one.fresh().await.unwrap(), other.fresh().await.unwrap());
    assert!((one - other).abs() < NEAR, "{one}, {other}");
}

pub async fn a_clock_whose_database_is_away_says_so_and_planning_goes_on<E: Environment>(_: &mut E) {
    let env = E::alone().await;
    let clock = env.clock().await;
    let before = clock.fresh().await.expect("the database answers");
    env.take_away(true).await;
    env.pass(1_100_000).await;
    assert_eq!(clock.fresh().await, None, "an old reading is not passed off as fresh");
    assert!(clock.now() > before);
    env.take_away(false).await;
    assert!(clock.fresh().await.expect("it answers again") > before);
}
