//! The token at hand: fetched by the first who asks, shared by all, and fetched again when most of its life is over.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dinnerbell_core::backoff::Backoff;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::{Source, Token, TokenError};

/// The pauses after fetches that failed.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
/// A token is fetched at most so often, however short it lives.
const LEAST_LIFE_MS: i64 = 1_000;
/// How long a new token is waited for while the one at hand lives.
const RENEWAL: Duration = Duration::from_millis(500);
/// A token that the brokers refuse is fetched again, unless it came within this time: less than it takes a lane that is refused to halt.
const DISTRUST_AFTER: Duration = Duration::from_secs(3);

/// The tokens of one source. A clone shares them. A thread fetches, and only while something is to be fetched.
#[derive(Clone)]
pub struct Tokens {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("source", &self.shared.source.to_string()).finish_non_exhaustive()
    }
}

struct Shared {
    source: Arc<Source>,
    cache: Arc<TokenCache>,
    /// That of the last fetch.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What who fetches has in common with those who wait.
#[derive(Default)]
struct TokenCache {
    state: Mutex<State>,
    /// A fetch is over: for those who wait on a thread, and for those who wait in a task.
    over: Condvar,
    woken: Notify,
    /// Nobody wants a token any more.
    closed: Notify,
}

struct State {
    kept: Option<Kept>,
    fetching: bool,
    failed: Option<Failed>,
    backoff: Backoff,
}

impl Default for State {
    fn default() -> Self {
        Self { kept: None, fetching: false, failed: None, backoff: BACKOFF }
    }
}

impl State {
    fn living(&self) -> Option<&Token> {
        self.kept.as_ref().map(|kept| &kept.token).filter(|token| now_ms() < token.expires_ms())
    }
}

struct Kept {
    token: Token,
    came: Instant,
    /// When most of its life is over, in milliseconds since 1970.
    renew_ms: i64,
}

/// The last fetch failed, and the next one begins not before this.
struct Failed {
    error: TokenError,
    until: Instant,
}

impl Tokens {
    /// The tokens of a source. Nothing is fetched yet.
    pub fn new(source: Source) -> Self {
        let shared = Shared { source: Arc::new(source), cache: Arc::default(), thread: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The host to which a secret goes without encryption, if one does.
    pub fn in_clear_to(&self) -> Option<&str> {
        self.shared.source.in_clear_to()
    }

    /// The token at hand. Blocks at most this long while one is fetched. Fails where there is none that lives.
    pub fn wait(&self, most: Duration) -> Result<Token, TokenError> {
        if let Some(settled) = self.settled_at_once() {
            return settled;
        }
        let state = self.shared.cache.state();
        let most = if state.living().is_some() { most.min(RENEWAL) } else { most };
        let waited = self.shared.cache.over.wait_timeout_while(state, most, |state| state.fetching);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        self.settled(&state)
    }

    /// The same in a task, until the deadline.
    pub async fn get(&self, deadline: Instant) -> Result<Token, TokenError> {
        if let Some(settled) = self.settled_at_once() {
            return settled;
        }
        let cache = &self.shared.cache;
        let soon = Instant::now() + RENEWAL;
        let deadline = if cache.state().living().is_some() { deadline.min(soon) } else { deadline };
        loop {
            let woken = cache.woken.notified();
            tokio::pin!(woken);
            // Before the look: what ends in between is not missed.
            woken.as_mut().enable();
            if !cache.state().fetching || timeout_at(deadline, woken).await.is_err() {
                return self.settled(&cache.state());
            }
        }
    }

    /// The brokers refuse this token: the next one is fetched, unless this one has only just come.
    pub fn distrust(&self, token: &Token) {
        let mut state = self.shared.cache.state();
        state.kept.take_if(|kept| kept.token == *token && kept.came.elapsed() >= DISTRUST_AFTER);
    }

    /// What there is to say without waiting. None where a fetch is under way: it is begun where it is time.
    fn settled_at_once(&self) -> Option<Result<Token, TokenError>> {
        let mut state = self.shared.cache.state();
        let fresh = state.kept.as_ref().is_some_and(|kept| now_ms() < kept.renew_ms);
        let pausing = state.failed.as_ref().is_some_and(|failed| Instant::now() < failed.until);
        if fresh || pausing && !state.fetching {
            return Some(self.settled(&state));
        }
        if !state.fetching {
            state.fetching = true;
            drop(state);
            self.begin();
        }
        None
    }

    /// The token that lives, or why there is none.
    fn settled(&self, state: &State) -> Result<Token, TokenError> {
        if let Some(token) = state.living() {
            return Ok(token.clone());
        }
        let unanswered =
            || TokenError::Unavailable(format!("fetching a token from {}: no answer yet", self.shared.source));
        Err(state.failed.as_ref().map_or_else(unanswered, |failed| failed.error.clone()))
    }

    fn begin(&self) {
        let mut thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // It told its outcome before: only its last instructions are left.
        if let Some(ended) = thread.take() {
            let _ = ended.join();
        }
        let (source, cache) = (Arc::clone(&self.shared.source), Arc::clone(&self.shared.cache));
        let begun = std::thread::Builder::new().name("kafka-token".into()).spawn(move || fetch(&source, &cache));
        match begun {
            Ok(handle) => *thread = Some(handle),
            Err(error) => self.shared.cache.settle(Err(TokenError::Unavailable(format!(
                "fetching a token from {}: starting a thread: {error}",
                self.shared.source
            )))),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.cache.closed.notify_one();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// Fetches once, on a thread of its own: who asks may be a task, or a callback of the client library on any thread.
fn fetch(source: &Source, cache: &TokenCache) {
    let mut fetching = Fetching { source, cache, outcome: None };
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let fetched = runtime.block_on(async {
                tokio::select! {
                    fetched = source.fetch() => fetched,
                    () = cache.closed.notified() => Err(TokenError::Unavailable("the service stops".into())),
                }
            });
            // A name that is still being resolved holds nobody up.
            runtime.shutdown_background();
            fetched
        }
        Err(error) => Err(TokenError::Unavailable(format!("fetching a token from {source}: {error}"))),
    };
    fetching.outcome = Some(outcome.and_then(|token| living(token, source)));
}

/// A fetch under way. However it ends, all who wait go on.
struct Fetching<'a> {
    source: &'a Source,
    cache: &'a TokenCache,
    outcome: Option<Result<Token, TokenError>>,
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        let panicked = || Err(TokenError::Unavailable(format!("fetching a token from {}: it panicked", self.source)));
        let outcome = self.outcome.take();
        self.cache.settle(outcome.unwrap_or_else(panicked));
    }
}

fn living(token: Token, source: &Source) -> Result<Token, TokenError> {
    let now = now_ms();
    if token.expires_ms() > now {
        return Ok(token);
    }
    Err(TokenError::Refused(format!(
        "fetching a token from {source}: the token ended {} s ago: let a new one be issued, or set this machine's clock",
        now.saturating_sub(token.expires_ms()) / 1000
    )))
}

impl TokenCache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fetch is over: its outcome stands, and all who wait go on.
    fn settle(&self, outcome: Result<Token, TokenError>) {
        let mut state = self.state();
        state.fetching = false;
        match outcome {
            Ok(token) => {
                let now = now_ms();
                let most = token.expires_ms().saturating_sub(now) / 5 * 4;
                let renew_ms = now.saturating_add(most.max(LEAST_LIFE_MS));
                state.kept = Some(Kept { token, came: Instant::now(), renew_ms });
                (state.failed, state.backoff) = (None, BACKOFF);
            }
            Err(error) => {
                let left = state
                    .kept
                    .as_ref()
                    .map_or(0, |kept| kept.token.expires_ms().saturating_sub(now_ms()).max(0) / 1000);
                tracing::warn!(left_s = left, "no new token for kafka, it is tried again: {error}");
                let until = Instant::now() + state.backoff.failed();
                state.failed = Some(Failed { error, until });
            }
        }
        drop(state);
        self.over.notify_all();
        self.woken.notify_waiters();
    }
}

#[expect(clippy::disallowed_methods, reason = "a token ends by the clock of who issued it, which is no database's")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
