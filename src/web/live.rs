//! Keeps open pages up to date. A page is read and rendered once a second, for all who have it open together. If nobody has it open, nothing is
//! read.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::refusal::Refusal;
use dinnerbell_core::shutdown::stopped;

/// How often what is looked at is read.
const EVERY: Duration = Duration::from_secs(1);
/// How long an event stream lasts: then the browser asks again, maybe another instance.
const LASTS: Duration = Duration::from_secs(300);
/// After this long without news, a sign of life is sent.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Most different things that are looked at at once.
const MAX_TOPICS: usize = 64;

/// What can be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The first page.
    Now,
    /// The lanes.
    Lanes,
    /// One campaign.
    Campaign(String),
}

/// What a browser is told: the new text of the page's live part, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct News {
    /// The version of style and script that the text is made for.
    pub version: &'static str,
    /// The text.
    pub html: Option<String>,
    /// Why there is none.
    pub problem: Option<String>,
}

type Latest = watch::Sender<Option<Arc<News>>>;

/// Who looks at what.
#[derive(Debug, Default)]
pub struct Live {
    topics: Mutex<BTreeMap<Topic, Latest>>,
    somebody: Notify,
    stopping: std::sync::OnceLock<watch::Receiver<bool>>,
}

impl Live {
    /// Somebody looks, from now on until the receiver is dropped; none where too many different things are looked at.
    fn look(&self, topic: Topic) -> Option<watch::Receiver<Option<Arc<News>>>> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, latest| latest.receiver_count() > 0);
        if topics.len() >= MAX_TOPICS && !topics.contains_key(&topic) {
            return None;
        }
        let latest = topics.entry(topic).or_insert_with(|| {
            self.somebody.notify_one();
            watch::channel(None).0
        });
        Some(latest.subscribe())
    }

    /// What somebody looks at now.
    fn looked_at(&self) -> Vec<Topic> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, latest| latest.receiver_count() > 0);
        topics.keys().cloned().collect()
    }

    fn tell(&self, topic: &Topic, news: News) {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(latest) = topics.get(topic) else { return };
        latest.send_if_modified(|known| {
            let is_new = known.as_deref() != Some(&news);
            if is_new {
                *known = Some(Arc::new(news));
            }
            is_new
        });
    }

    /// Reads what is looked at, once a second while somebody looks, until it is dropped.
    pub async fn keep(&self, stop: watch::Receiver<bool>, read: impl AsyncFn(&Topic) -> News) -> Infallible {
        // It is kept once, by the instance that serves it.
        let _ = self.stopping.set(stop);
        loop {
            let next = Instant::now() + EVERY;
            let topics = self.looked_at();
            if topics.is_empty() {
                self.somebody.notified().await;
                continue;
            }
            for topic in topics {
                let news = read(&topic).await;
                self.tell(&topic, news);
            }
            // Anyone who comes meanwhile waits for their first news no longer than that.
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.somebody.notified() => {}
            }
        }
    }

    /// An event stream of a topic. It ends after some minutes, and at the stop.
    pub fn stream(&self, topic: Topic) -> Response {
        let Some(mut news) = self.look(topic) else {
            let text = "too many different things are looked at: this page stays as it is";
            return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response();
        };
        news.mark_changed();
        let stopping = self.stopping.get().cloned();
        let until = Instant::now() + LASTS;
        let beginning = Bytes::from_static(b"retry: 1000\n\n");
        let following = stream::unfold((news, stopping), move |(mut news, mut stopping)| async move {
            let event = next(&mut news, stopping.as_mut(), until).await?;
            Some((Ok::<_, Infallible>(event), (news, stopping)))
        });
        let body = Body::from_stream(futures_util::StreamExt::chain(stream::iter([Ok(beginning)]), following));
        let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store"), (CONNECTION, "close")];
        // A proxy that keeps the events back would make the page stand still.
        (headers, [("x-accel-buffering", "no")], body).into_response()
    }
}

/// The next event; none when the stream is over.
async fn next(
    news: &mut watch::Receiver<Option<Arc<News>>>,
    stopping: Option<&mut watch::Receiver<bool>>,
    until: Instant,
) -> Option<Bytes> {
    let stop = async {
        match stopping {
            Some(stopping) => stopped(stopping).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = stop => None,
        () = sleep_until(until) => None,
        event = told(news) => event,
    }
}

async fn told(news: &mut watch::Receiver<Option<Arc<News>>>) -> Option<Bytes> {
    let by = Instant::now() + SIGN_OF_LIFE;
    loop {
        match timeout_at(by, news.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
        }
        let latest = news.borrow_and_update().clone();
        if let Some(latest) = latest {
            // JSON has no line break outside of its strings, and escapes those within.
            let text = serde_json::to_string(&*latest).unwrap_or_default();
            return Some(Bytes::from(format!("data: {text}\n\n")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn news(text: &str) -> News {
        News { version: "1", html: Some(text.to_owned()), problem: None }
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_look_cost_one_reading_a_second_and_nobody_costs_none() {
        let (live, read) = (Live::default(), AtomicUsize::new(0));
        let (_stop, stopping) = watch::channel(false);
        let keeping = live.keep(stopping, async |_: &Topic| {
            read.fetch_add(1, Ordering::Relaxed);
            news(&read.load(Ordering::Relaxed).to_string())
        });
        let looking = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(read.load(Ordering::Relaxed), 0, "nobody looks");
            let mut many: Vec<_> = (0..200).map(|_| live.look(Topic::Now).unwrap()).collect();
            tokio::time::sleep(Duration::from_millis(10_500)).await;
            let readings = read.load(Ordering::Relaxed);
            assert!((11..=13).contains(&readings), "{readings}");
            assert!(many.iter_mut().all(|one| one.borrow_and_update().is_some()));
            drop(many);
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(read.load(Ordering::Relaxed) <= readings + 1, "they have gone");
        };
        tokio::select! {
            never = keeping => match never {},
            () = looking => {}
        }
    }

    #[test]
    fn what_is_looked_at_is_bounded_and_what_nobody_looks_at_makes_room() {
        let live = Live::default();
        let topic = |number: usize| Topic::Campaign(number.to_string());
        let all: Vec<_> = (0..MAX_TOPICS).map(|number| live.look(topic(number)).unwrap()).collect();
        assert!(live.look(Topic::Now).is_none() && live.look(topic(0)).is_some());
        drop(all);
        assert!(live.look(Topic::Now).is_some());
    }
}
