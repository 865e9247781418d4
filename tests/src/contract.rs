//! What every registry must do as a source, whatever its protocol: one suite, run by each adapter on its real registry.
//!
//! A registry joins by implementing [`Subject`] and naming itself in `contract!`.

pub mod network;

use std::time::Duration;

use leadsman_core::model::{Evidence, Health};
use leadsman_registry::{Registry, SourceState};

use crate::instance::Instance;
use crate::observed::{Note, Observed, Shown, State};

/// A registry that a test may change and break.
pub trait Subject {
    type Registry: Registry;

    /// The adapter, with every option such that a test need not wait for it.
    fn registry(&self) -> Self::Registry;

    /// Registers an instance, or changes it.
    fn put(&mut self, service: &str, instance: Instance) -> impl Future<Output = ()>;

    /// Removes an instance; with its last one the service is gone.
    fn remove(&mut self, service: &str, port: u16) -> impl Future<Output = ()>;

    /// Registers something under a service that is no instance.
    fn spoil(&mut self, service: &str) -> impl Future<Output = ()>;

    /// Takes the registry away from the adapter. Changes can still be made.
    fn lose(&mut self) -> impl Future<Output = ()>;

    /// Gives it back.
    fn heal(&mut self) -> impl Future<Output = ()>;

    /// What of an instance this registry can say: one that knows no weights shows every instance with the same.
    fn express(&self, instance: Instance) -> Instance {
        instance
    }

    /// The state in which each service has exactly these instances, as far as this registry can say it.
    fn state(&self, services: &[(&str, &[Instance])]) -> State {
        let express = |(name, instances): &(&str, &[Instance])| {
            let expressed = instances.iter().map(|instance| self.express(*instance));
            ((*name).to_owned(), expressed.collect())
        };
        let expressed: Vec<(String, Vec<Instance>)> = services.iter().map(express).collect();
        let borrowed: Vec<_> = expressed
            .iter()
            .map(|(name, all)| (name.as_str(), all.as_slice()))
            .collect();
        state(&borrowed)
    }
}

/// The state in which each service has exactly these instances.
pub fn state(services: &[(&str, &[Instance])]) -> State {
    let endpoint = |instance: &Instance| {
        let Instance { port, weight, health } = *instance;
        (format!("127.0.0.1:{port}"), Shown { weight, health })
    };
    let named = services
        .iter()
        .map(|(name, instances)| ((*name).to_owned(), instances.iter().map(endpoint).collect()));
    named.collect()
}

/// Makes one test of each behaviour, for each subject: `contract! { name => expression that starts it; … }`.
#[macro_export]
macro_rules! contract {
    ($($name:ident => $start:expr;)+) => {$(
        mod $name {
            use super::*;
            use $crate::contract as suite;

            $crate::contract! { @each $start;
                the_first_event_is_the_whole_content,
                an_empty_registry_is_listed_as_empty,
                changes_arrive_one_service_at_a_time,
                the_last_instance_takes_the_service_with_it,
                a_record_written_again_is_silence,
                a_bad_record_rejects_itself_and_nobody_else,
                names_that_begin_alike_do_not_mix,
                a_lost_registry_says_nothing_and_is_caught_up_with,
            }
        }
    )+};
    (@each $start:expr; $($behaviour:ident,)+) => {$(
        #[tokio::test]
        async fn $behaviour() {
            suite::$behaviour($start.await).await;
        }
    )+};
}

/// Long enough for a registry to say what it should not.
const QUIET: Duration = Duration::from_millis(500);

pub async fn the_first_event_is_the_whole_content(mut subject: impl Subject) {
    let (one, two, three) = (
        Instance::new(9001),
        Instance::new(9002).weighing(3.0),
        Instance::new(9003),
    );
    let two = two.being(Health::Unhealthy);
    subject.put("orders", one).await;
    subject.put("orders", two).await;
    subject.put("users", three).await;
    let observed = Observed::start(subject.registry());
    observed
        .becomes(&subject.state(&[("orders", &[one, two]), ("users", &[three])]))
        .await;
    observed.enters(&[SourceState::Live]).await;
    let notes = observed.heard().notes;
    let first = notes.first();
    let whole = |note: &Note| {
        matches!(
            note,
            Note::Resync {
                services: 2,
                evidence: Evidence::Complete,
                ..
            }
        )
    };
    assert!(first.is_some_and(whole) && notes.len() == 1, "{notes:?}");
}

pub async fn an_empty_registry_is_listed_as_empty(subject: impl Subject) {
    let observed = Observed::start(subject.registry());
    observed.enters(&[SourceState::Live]).await;
    observed.is_silent_for(QUIET).await;
    let heard = observed.heard();
    let empty = |note: &Note| {
        matches!(
            note,
            Note::Resync {
                services: 0,
                evidence: Evidence::Complete,
                ..
            }
        )
    };
    assert!(
        heard.notes.len() == 1 && heard.notes.iter().all(empty),
        "{:?}",
        heard.notes
    );
    assert!(observed.status().synced);
}

pub async fn changes_arrive_one_service_at_a_time(mut subject: impl Subject) {
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    subject.put("orders", one).await;
    subject.put("users", one).await;
    let observed = Observed::start(subject.registry());
    observed
        .becomes(&subject.state(&[("orders", &[one]), ("users", &[one])]))
        .await;
    let before = observed.heard().notes.len();

    subject.put("orders", two).await;
    observed
        .becomes(&subject.state(&[("orders", &[one, two]), ("users", &[one])]))
        .await;
    let heavy = two.weighing(77.0);
    subject.put("orders", heavy).await;
    observed
        .becomes(&subject.state(&[("orders", &[one, heavy]), ("users", &[one])]))
        .await;
    let ill = heavy.being(Health::Unhealthy);
    subject.put("orders", ill).await;
    observed
        .becomes(&subject.state(&[("orders", &[one, ill]), ("users", &[one])]))
        .await;
    subject.remove("orders", ill.port).await;
    observed
        .becomes(&subject.state(&[("orders", &[one]), ("users", &[one])]))
        .await;

    let versions = [two, heavy, ill].map(|instance| subject.express(instance));
    // A change that this registry can't express is silence.
    let changed = versions.windows(2).filter(|pair| pair.first() != pair.last()).count();
    observed.heard_only(before, &vec![Note::Apply("orders".into()); changed + 2]);
}

pub async fn the_last_instance_takes_the_service_with_it(mut subject: impl Subject) {
    let one = Instance::new(9001);
    subject.put("orders", one).await;
    subject.put("users", one).await;
    let observed = Observed::start(subject.registry());
    observed
        .becomes(&subject.state(&[("orders", &[one]), ("users", &[one])]))
        .await;
    let before = observed.heard().notes.len();
    subject.remove("orders", one.port).await;
    observed.becomes(&subject.state(&[("users", &[one])])).await;
    observed.heard_only(before, &[Note::Delete("orders".into())]);
}

pub async fn a_record_written_again_is_silence(mut subject: impl Subject) {
    let one = Instance::new(9001);
    subject.put("orders", one).await;
    let observed = Observed::start(subject.registry());
    observed.becomes(&subject.state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    for _ in 0..10 {
        subject.put("orders", one).await;
    }
    // Whatever the ten had to say would have come before this.
    subject.put("users", one).await;
    observed
        .becomes(&subject.state(&[("orders", &[one]), ("users", &[one])]))
        .await;
    observed.heard_only(before, &[Note::Apply("users".into())]);
}

pub async fn a_bad_record_rejects_itself_and_nobody_else(mut subject: impl Subject) {
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    subject.put("orders", one).await;
    subject.spoil("orders").await;
    let observed = Observed::start(subject.registry());
    observed.becomes(&subject.state(&[("orders", &[one])])).await;
    let rejected = || {
        let heard = observed.heard();
        let attributed = heard.services.values().map(|service| service.rejections.len());
        attributed.sum::<usize>() + heard.unattributed
    };
    assert_eq!(rejected(), 1);
    subject.put("orders", two).await;
    observed.becomes(&subject.state(&[("orders", &[one, two])])).await;
    assert_eq!(rejected(), 1);
}

pub async fn names_that_begin_alike_do_not_mix(mut subject: impl Subject) {
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    subject.put("foo", one).await;
    subject.put("foobar", two).await;
    let observed = Observed::start(subject.registry());
    observed
        .becomes(&subject.state(&[("foo", &[one]), ("foobar", &[two])]))
        .await;
    subject.remove("foo", one.port).await;
    observed.becomes(&subject.state(&[("foobar", &[two])])).await;
    subject.put("foo", two).await;
    observed
        .becomes(&subject.state(&[("foo", &[two]), ("foobar", &[two])]))
        .await;
}

pub async fn a_lost_registry_says_nothing_and_is_caught_up_with(mut subject: impl Subject) {
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    subject.put("orders", one).await;
    subject.put("orders", two).await;
    subject.put("users", one).await;
    let observed = Observed::start(subject.registry());
    observed
        .becomes(&subject.state(&[("orders", &[one, two]), ("users", &[one])]))
        .await;

    subject.lose().await;
    observed.enters(&[SourceState::Degraded]).await;
    let kept = observed.state();
    subject.remove("orders", one.port).await;
    subject.put("orders", three.weighing(5.0)).await;
    subject.remove("users", one.port).await;
    observed.is_silent_for(QUIET * 4).await;
    assert_eq!(observed.state(), kept);
    assert!(observed.status().last_error.is_some());

    subject.heal().await;
    observed
        .becomes(&subject.state(&[("orders", &[two, three.weighing(5.0)])]))
        .await;
    observed.enters(&[SourceState::Live]).await;
    assert_eq!(observed.status().counters.reconcile_drift, 0);
}
