//! The supervisor against a scripted registry, in paused time.

use std::collections::VecDeque;

use leadsman_core::model::{Evidence, Service, ServiceName};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::contract::{Breaker, Counters, Event, StatusReader};

/// Long past every delay in paused time, where waiting is free.
const DEADLINE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
enum Step {
    Page,
    List,
    NewEpoch,
    Last(Duration),
    Fail(Error),
}

/// Plays one list of steps a session, and hangs without a word when there are none left.
struct Script(VecDeque<Vec<Step>>);

impl Registry for Script {
    fn kind(&self) -> &'static str {
        "script"
    }

    async fn run(&mut self, events: &EventSender) -> Result<Infallible, Error> {
        for step in self.0.pop_front().unwrap_or_default() {
            match step {
                Step::Page => events.syncing(),
                Step::List => events.send(listing(Evidence::Complete)).await?,
                Step::NewEpoch => {
                    let why = "another cluster".to_owned();
                    events.send(listing(Evidence::NewEpoch { why })).await?;
                }
                Step::Last(time) => sleep(time).await,
                Step::Fail(error) => return Err(error),
            }
        }
        std::future::pending().await
    }
}

struct Harness {
    task: JoinHandle<()>,
    events: mpsc::Receiver<SourceEvent>,
    status: StatusReader,
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_keeps_the_last_state_and_says_nothing_to_the_controller() {
    let mut harness = start(vec![vec![
        Step::List,
        Step::Last(Duration::from_secs(10)),
        Step::Fail(unavailable("reset")),
    ]]);
    assert!(matches!(harness.event().await, Event::Resync { .. }));
    assert_eq!(harness.state().await, SourceState::Live);

    let status = harness.until(|s| s.state == SourceState::Degraded).await;
    assert!(status.synced);
    assert_eq!(status.last_error.as_deref(), Some("reset"));
    assert_eq!(status.breaker, Breaker::Closed);
    let status = harness.until(|s| s.counters.sessions > 1).await;
    assert_eq!(
        status.counters,
        Counters {
            sessions: 2,
            session_errors: 1,
            resyncs: 1,
            ..Counters::default()
        }
    );
    assert!(harness.events.try_recv().is_err(), "a loss is no event");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_synced_is_connecting_and_a_refusal_is_counted() {
    let refused = || vec![Step::Fail(Error::Denied("no such user".to_owned()))];
    let mut harness = start(vec![refused(), refused()]);
    let status = harness.until(|s| s.counters.sessions == 3).await;
    assert_eq!(status.state, SourceState::Connecting);
    assert!(!status.synced);
    assert_eq!(status.counters.auth_failures, 2);
    assert_eq!(status.last_error.as_deref(), Some("credentials refused: no such user"));
    assert!(harness.events.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn the_breaker_opens_then_probes_then_closes() {
    let mut script: Vec<_> = (0..5).map(|_| vec![Step::Fail(unavailable("refused"))]).collect();
    script.push(vec![Step::Last(Duration::from_secs(1)), Step::List]);
    let mut harness = start(script);
    let open = harness.until(|s| s.breaker == Breaker::Open).await;
    assert_eq!(open.counters.session_errors, 5);
    let probing = harness.until(|s| s.breaker == Breaker::HalfOpen).await;
    assert_eq!(probing.counters.sessions, 6);
    let live = harness.until(|s| s.state == SourceState::Live).await;
    assert_eq!(live.breaker, Breaker::Closed);
    assert_eq!(live.last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_listing_is_dropped_at_the_deadline() {
    let mut harness = start(vec![vec![], vec![Step::List]]);
    let began = Instant::now();
    let status = harness.until(|s| s.counters.session_errors == 1).await;
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    assert_eq!(status.last_error.as_deref(), Some("no listing: no progress for 30s"));
    assert_eq!(status.state, SourceState::Connecting);
    harness.until(|s| s.state == SourceState::Live).await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_of_many_pages_may_take_minutes() {
    let pages = (0..10).flat_map(|_| [Step::Last(Duration::from_secs(20)), Step::Page]);
    let mut harness = start(vec![pages.chain([Step::List]).collect()]);
    let began = Instant::now();
    let status = harness.until(|s| s.state == SourceState::Live).await;
    assert_eq!(began.elapsed(), Duration::from_secs(200));
    assert_eq!((status.counters.sessions, status.counters.session_errors), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_hangs_after_a_page_is_dropped() {
    let mut harness = start(vec![
        vec![Step::Last(Duration::from_secs(20)), Step::Page],
        vec![Step::List],
    ]);
    let began = Instant::now();
    let status = harness.until(|s| s.counters.session_errors == 1).await;
    assert_eq!(began.elapsed(), Duration::from_secs(50));
    assert_eq!(status.last_error.as_deref(), Some("no listing: no progress for 30s"));
    harness.until(|s| s.state == SourceState::Live).await;
}

#[tokio::test(start_paused = true)]
async fn a_listed_session_has_no_deadline() {
    let mut harness = start(vec![vec![Step::List]]);
    harness.until(|s| s.state == SourceState::Live).await;
    sleep(Duration::from_secs(86_400)).await;
    let status = harness.status.borrow().clone();
    assert_eq!((status.state, status.counters.sessions), (SourceState::Live, 1));
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_is_listed_again_at_once_but_not_for_ever() {
    let broken = || vec![Step::List, Step::Fail(Error::Resync("compacted".to_owned()))];
    let mut harness = start((0..8).map(|_| broken()).collect());
    let began = Instant::now();
    harness.until(|s| s.counters.sessions == 4).await;
    assert!(began.elapsed() < Duration::from_millis(5), "{:?}", began.elapsed());
    let status = harness.until(|s| s.breaker == Breaker::Open).await;
    assert_eq!(status.counters.session_errors, 8);
}

#[tokio::test(start_paused = true)]
async fn a_source_with_a_new_epoch_is_live_and_whether_it_is_suspect_is_left_to_the_catalog() {
    let mut harness = start(vec![vec![Step::NewEpoch]]);
    let status = harness.until(|s| s.counters.resyncs == 1).await;
    assert_eq!(status.state, SourceState::Live);
    assert!(matches!(
        harness.event().await,
        Event::Resync {
            evidence: Evidence::NewEpoch { .. },
            ..
        }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_long_error_text_is_cut() {
    let mut harness = start(vec![vec![Step::Fail(unavailable(&"é".repeat(1000)))]]);
    let status = harness.until(|s| s.last_error.is_some()).await;
    let text = status.last_error.unwrap();
    assert!(text.len() <= crate::MAX_ERROR_BYTES, "{}", text.len());
    assert!(text.ends_with('…'));
}

#[tokio::test(start_paused = true)]
async fn the_supervisor_ends_when_the_controller_is_gone() {
    // Once while a session is silent, once while a delay runs.
    for script in [
        vec![vec![Step::List]],
        vec![vec![Step::List, Step::Fail(Error::Denied("no".to_owned()))]],
    ] {
        let mut harness = start(script);
        harness.until(|s| s.synced).await;
        drop(harness.events);
        timeout(DEADLINE, harness.task).await.unwrap().unwrap();
    }
}

impl Harness {
    async fn until(&mut self, condition: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
        let found = timeout(DEADLINE, self.status.wait_for(|s| condition(s))).await;
        found.expect("the condition holds in time").unwrap().clone()
    }

    async fn event(&mut self) -> Event {
        timeout(DEADLINE, self.events.recv()).await.unwrap().unwrap().event
    }

    async fn state(&mut self) -> SourceState {
        self.until(|_| true).await.state
    }
}

fn start(script: Vec<Vec<Step>>) -> Harness {
    let source = SourceName::new("test").unwrap();
    // Room for every event of a script: these tests look at the status first.
    let (events, receiver) = mpsc::channel(64);
    let (status, reader) = watch::channel(SourceStatus::new(source.clone(), "script"));
    let task = tokio::spawn(supervise(
        Script(script.into()),
        source,
        events,
        Arc::new(status),
        SuperviseOptions::default(),
    ));
    Harness {
        task,
        events: receiver,
        status: reader,
    }
}

fn listing(evidence: Evidence) -> Event {
    Event::Resync {
        services: vec![Service::new(ServiceName::new("orders").unwrap(), Vec::new())],
        unattributed: Vec::new(),
        evidence,
        revision: 1,
    }
}

fn unavailable(why: &str) -> Error {
    Error::Unavailable(why.to_owned())
}
