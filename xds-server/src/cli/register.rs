//! `leadsman register`: keeps one instance registered for as long as this process runs.
//!
//! Once registered it never gives up: a server that is away is waited for, a lease that ran out is taken anew. It ends when
//! it is told to, or when somebody else registers under the same id: fighting over it would help nobody.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::time::Duration;

use leadsman_core::model::Health;
use leadsman_proto::registry as pb;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use self::client::{Client, Trouble};
use super::{Failure, output};

mod client;

/// Between two tries to register or to renew.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

#[derive(Debug, clap::Args)]
pub(super) struct Register {
    /// The service, as Envoy shall know it.
    service: String,
    /// Where the instance listens.
    #[arg(long, value_name = "IP:PORT")]
    address: SocketAddr,
    /// The same for as long as the instance is the same one, also over its restarts. Without it, the address.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Its share of the requests; 0 takes none.
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    weight: f64,
    /// unknown, healthy, degraded, draining or unhealthy.
    #[arg(long, value_name = "HEALTH", default_value = "healthy", value_parser = Health::from_str)]
    health: Health,
    /// Where it runs.
    #[arg(long, value_name = "NAME", default_value = "")]
    region: String,
    /// Where in the region.
    #[arg(long, value_name = "NAME", default_value = "")]
    zone: String,
    /// Where in the zone.
    #[arg(long, value_name = "NAME", default_value = "")]
    sub_zone: String,
    /// Something about it; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// How long it stays when this process dies without a word: 1s to 24h.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = seconds)]
    ttl: u32,
    /// How long the first registration may take.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// How long the instance is drained before it is deregistered, when this process is told to end.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    drain: Duration,
    #[command(flatten)]
    server: Server,
}

/// Where to register, and as whom.
#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// The registry of a Leadsman, or those of several that share an etcd: when one is away, the next one is asked.
    #[arg(
        long,
        value_name = "URL,…",
        env = "LEADSMAN_REGISTRY",
        default_value = "http://127.0.0.1:18002",
        value_delimiter = ','
    )]
    server: Vec<String>,
    /// A file with the token to show; read again each time.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authorities that the server's certificate comes from (PEM), for https://. Without it, the system's.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate to show to the server (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// SIGTERM or SIGINT.
struct Told {
    terminate: Signal,
    interrupt: Signal,
}

/// What this process holds.
struct Session<'a> {
    client: Client,
    wish: &'a pb::RegisterRequest,
    receipt: pb::Receipt,
    /// Whether the last call failed: said once.
    troubled: bool,
}

impl Register {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let mut told = Told::new()?;
        let client = Client::new(&self.server).await?;
        let wish = self.wish();
        let Some(first) = self.first(&client, &wish, pin!(told.next())).await? else {
            return Ok(());
        };
        let mut session = Session {
            client,
            wish: &wish,
            receipt: first,
            troubled: false,
        };
        session.say("registered")?;
        session.hold(pin!(told.next())).await?;
        session.drain().await?;
        let ended = async {
            tokio::select! {
                () = sleep(self.drain) => {}
                () = told.next() => {}
            }
        };
        session.hold(pin!(ended)).await?;
        session.leave().await
    }

    fn wish(&self) -> pb::RegisterRequest {
        let health = match self.health {
            Health::Unknown => pb::Health::Unknown,
            Health::Healthy => pb::Health::Healthy,
            Health::Degraded => pb::Health::Degraded,
            Health::Draining => pb::Health::Draining,
            Health::Unhealthy => pb::Health::Unhealthy,
        };
        pb::RegisterRequest {
            service: self.service.clone(),
            id: self.id.clone().unwrap_or_else(|| self.address.to_string()),
            endpoint: Some(pb::Endpoint {
                address: self.address.ip().to_string(),
                port: self.address.port().into(),
                weight: Some(self.weight),
                health: health.into(),
                locality: Some(pb::Locality {
                    region: self.region.clone(),
                    zone: self.zone.clone(),
                    sub_zone: self.sub_zone.clone(),
                }),
                metadata: self.metadata.iter().cloned().collect(),
            }),
            ttl_seconds: self.ttl,
            holder: holder(),
            expected_version: None,
        }
    }

    /// Tries until it is registered, or the time is over; `None` when it is to end before that.
    async fn first(
        &self,
        client: &Client,
        wish: &pb::RegisterRequest,
        mut end: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<pb::Receipt>, Failure> {
        let until = Instant::now() + self.wait;
        loop {
            // Not broken off: the instance could be registered, and nobody left to take it out.
            match client.register(wish).await {
                Ok(receipt) => return Ok(Some(receipt)),
                Err(Trouble::Away(_)) if Instant::now() + RETRY.0 < until => {}
                Err(trouble) => return Err(trouble.into_failure(client)),
            }
            tokio::select! {
                () = &mut end => return Ok(None),
                () = sleep(RETRY.0) => {}
            }
        }
    }
}

impl Session<'_> {
    /// Keeps the instance registered until `end`.
    async fn hold(&mut self, mut end: Pin<&mut impl Future<Output = ()>>) -> Result<(), Failure> {
        let mut next = Instant::now() + self.pace();
        loop {
            tokio::select! {
                () = &mut end => return Ok(()),
                () = sleep_until(next) => {}
            }
            // A call is not broken off: what became of it would not be known.
            let pause = self.renew().await?;
            next = Instant::now() + pause;
        }
    }

    /// Three times in the life of a lease, so that two of them may fail.
    fn pace(&self) -> Duration {
        Duration::from_secs(self.receipt.ttl_seconds.into()) / 3
    }

    /// Renews, and returns how long to wait for the next time.
    async fn renew(&mut self) -> Result<Duration, Failure> {
        match self.client.renew(self.wish, &self.receipt.lease).await {
            Ok(receipt) => {
                let lost = receipt.version != self.receipt.version && !receipt.draining;
                let drained = receipt.draining != self.receipt.draining;
                self.receipt = receipt;
                self.well()?;
                if drained {
                    self.say(if self.receipt.draining {
                        "drained"
                    } else {
                        "back in service"
                    })?;
                }
                if lost {
                    // Somebody changed it, or a damaged store forgot what was said last.
                    self.again().await?;
                }
                Ok(self.pace())
            }
            Err(Trouble::Unknown(_)) => self.again().await,
            Err(trouble) => self.ill(trouble),
        }
    }

    async fn again(&mut self) -> Result<Duration, Failure> {
        match self.client.register(self.wish).await {
            Ok(receipt) => {
                let changed = receipt.changed;
                self.receipt = receipt;
                self.well()?;
                if changed {
                    self.say("registered again")?;
                }
                Ok(self.pace())
            }
            Err(trouble) => self.ill(trouble),
        }
    }

    fn well(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.troubled) {
            return self.say("renewed again");
        }
        Ok(())
    }

    /// Says what is wrong, once, and goes on; unless going on makes no sense.
    fn ill(&mut self, trouble: Trouble) -> Result<Duration, Failure> {
        if let Trouble::Replaced(_) = trouble {
            return Err(trouble.into_failure(&self.client));
        }
        if !std::mem::replace(&mut self.troubled, true) {
            warn(&format!("{}: {trouble}; trying again", self.client.url()));
        }
        Ok((self.pace() / 2).clamp(RETRY.0, RETRY.1))
    }

    /// Takes the instance out of service, so that what is under way can end.
    async fn drain(&mut self) -> Result<(), Failure> {
        match self.client.drain(self.wish, &self.receipt.lease).await {
            Ok(receipt) => {
                self.receipt = receipt;
                self.say("drained")
            }
            // What can't be drained can still be deregistered.
            Err(trouble) => {
                self.troubled = true;
                warn(&format!("{}: {trouble}", self.client.url()));
                Ok(())
            }
        }
    }

    async fn leave(&self) -> Result<(), Failure> {
        match self.client.deregister(self.wish, &self.receipt.lease).await {
            Ok(()) => self.say("deregistered"),
            Err(Trouble::Replaced(said)) => {
                warn(&format!("left as it is: {said}"));
                Ok(())
            }
            Err(trouble) => Err(trouble.into_failure(&self.client)),
        }
    }

    fn say(&self, what: &str) -> Result<(), Failure> {
        let pb::RegisterRequest { service, id, .. } = self.wish;
        let pb::Receipt {
            version, ttl_seconds, ..
        } = self.receipt;
        let line = format!("{what} {service}/{id} version={version} ttl={ttl_seconds}s");
        match output::print(&format!("{}\n", output::visible(&line))) {
            // Who started this may have stopped reading; the instance stays registered.
            Err(Failure::NobodyReads) => Ok(()),
            outcome => outcome,
        }
    }
}

impl Told {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(Failure::from_error)?,
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::from_error)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Goes to standard error, if there is one.
fn warn(text: &str) {
    let _ = writeln!(io::stderr().lock(), "leadsman: {}", output::visible(text));
}

/// Tells this process apart from any other; nothing depends on its being hard to guess.
fn holder() -> String {
    let half = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", half(), half())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or("is not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn seconds(text: &str) -> Result<u32, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let whole = u32::try_from(duration.as_secs())
        .ok()
        .filter(|_| duration.subsec_nanos() == 0);
    whole.ok_or_else(|| "is not a whole number of seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_flag_can_not_mean_is_said() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("a").is_err() && pair("=a").is_err());
        assert_eq!(seconds("1m 30s"), Ok(90));
        assert!(seconds("1500ms").is_err() && seconds("soon").is_err());
    }

    #[test]
    fn every_process_is_a_holder_of_its_own() {
        assert_ne!(holder(), holder());
        assert_eq!(holder().len(), 32);
    }
}
