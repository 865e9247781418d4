//! Wiring, and the order of shutting down: the only file that knows every part.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use leadsman_core::model::SourceName;
use leadsman_registry::{
    Certificates, Registry, ServerTls, SourceEvent, SourceStatus, StatusReader, SuperviseOptions, consul::Consul,
    dns::Dns, etcd::Etcd, eureka::Eureka, file::File, kubernetes::Kubernetes, nacos::Nacos, own::Own, supervise,
    zookeeper::Zookeeper,
};
use rustls::ServerConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, ReloadState};
use crate::config::{Config, Overrides, SourceConfig, Watcher};
use crate::controller::{self, Command};
use crate::metrics::Metrics;
use crate::proxies::Proxies;
use crate::publication::Publication;
use crate::{telemetry, transport};

/// Events between the sources and the controller; a full queue slows the sources.
const EVENTS: usize = 1024;
/// Questions and reloads that may wait for the controller.
const COMMANDS: usize = 64;
/// How long streams and sessions may take to end before the process ends without them. They need milliseconds; what takes
/// longer is a connection that never said anything, and waits for ever.
const GRACE: Duration = Duration::from_secs(3);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    pub config: PathBuf,
    pub overrides: Overrides,
    /// What to log, such as `info` or `leadsman_registry=debug,info`.
    pub log: String,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`Problems`](crate::config::Problems) of the configuration, an address that can't be bound, or a listener that failed.
pub async fn serve(options: ServeOptions) -> anyhow::Result<()> {
    telemetry::init(&options.log)?;
    let (watcher, config) = Watcher::start(&options.config, options.overrides)?;
    let bind = |address| transport::bind(address).with_context(|| format!("{address} can't be listened on"));
    let (xds, admin) = (bind(config.xds.listen)?, bind(config.admin.listen)?);
    let mut app = App::default();
    let tls = match &config.xds.tls {
        Some(files) => Some(app.start_certificates(files).await?),
        None => None,
    };
    let (events, heard) = mpsc::channel(EVENTS);
    let sources = start_sources(&config, &events, &mut app);
    drop(events);
    let commands = app.start_controller(&config, heard);
    let reload = app.start_reload(watcher, config.clone(), commands.clone());
    let admin_state = Admin {
        sources,
        controller: commands,
        proxies: app.proxies.clone(),
        publication: app.publication.clone(),
        metrics: app.metrics.clone(),
        reload,
        asking: Arc::default(),
        shutdown: app.shutdown.clone(),
    };
    app.tasks.spawn(admin::serve(admin, admin_state));
    tracing::info!(
        xds = %config.xds.listen, admin = %config.admin.listen, sources = config.sources.len(),
        node = %config.node.id, version = env!("CARGO_PKG_VERSION"), "serving",
    );
    let shared = app.shared(&config);
    app.tasks.spawn(async move {
        transport::serve(&config.xds, tls, xds, shared).await;
        Ok(())
    });
    run(app.tasks, app.shutdown).await
}

/// What the tasks share, and the tasks.
#[derive(Debug, Default)]
struct App {
    tasks: JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
    publication: Arc<Publication>,
    metrics: Arc<Metrics>,
    proxies: Arc<Proxies>,
}

impl App {
    fn start_controller(&mut self, config: &Config, heard: mpsc::Receiver<SourceEvent>) -> mpsc::Sender<Command> {
        let (commands, commanded) = mpsc::channel(COMMANDS);
        let settings = controller::Settings {
            sources: config.sources.keys().cloned().collect(),
            services: config.services.clone(),
            startup_wait: config.xds.startup_wait,
        };
        let (publication, metrics) = (self.publication.clone(), self.metrics.clone());
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(infallible(controller::run(
            settings,
            publication,
            metrics,
            heard,
            commanded,
            shutdown,
        )));
        commands
    }

    fn start_reload(&mut self, watcher: Watcher, config: Config, commands: mpsc::Sender<Command>) -> ReloadState {
        let (state, reload) = watch::channel(None);
        let (metrics, shutdown) = (self.metrics.clone(), self.shutdown.clone());
        let task = async move {
            shutdown
                .run_until_cancelled(reload_config(watcher, config, commands, metrics, state))
                .await;
            Ok(())
        };
        self.tasks.spawn(task);
        reload
    }

    /// Reads the certificates of the xDS port, and again for as long as it is open.
    async fn start_certificates(&mut self, files: &ServerTls) -> anyhow::Result<watch::Receiver<Arc<ServerConfig>>> {
        let mut certificates = Certificates::load(files, transport::PROTOCOLS)
            .await
            .context("the TLS configuration of `xds.tls` does not work")?;
        let (newest, reader) = watch::channel(certificates.config());
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(infallible(async move {
            while shutdown
                .run_until_cancelled(sleep(Certificates::REFRESH))
                .await
                .is_some()
            {
                if certificates.refresh().await {
                    newest.send_replace(certificates.config());
                }
            }
        }));
        Ok(reader)
    }

    fn shared(&self, config: &Config) -> transport::Shared {
        transport::Shared {
            publication: self.publication.clone(),
            proxies: self.proxies.clone(),
            metrics: self.metrics.clone(),
            identifier: config.node.id.as_str().into(),
            shutdown: self.shutdown.clone(),
        }
    }
}

/// Waits for a signal or a failure, tells everything to end, and waits for it.
async fn run(mut tasks: JoinSet<anyhow::Result<()>>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be received")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be received")?;
    let mut outcome = Ok(());
    tokio::select! {
        _ = terminate.recv() => tracing::info!("shutting down on SIGTERM"),
        _ = interrupt.recv() => tracing::info!("shutting down on SIGINT"),
        Some(ended) = tasks.join_next() => outcome = ended.context("a task panicked").and_then(|ended| ended),
    }
    shutdown.cancel();
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended.context("a task panicked").and_then(|ended| ended) {
                tracing::warn!(%error, "a task did not end well");
            }
        }
    };
    tokio::select! {
        () = rest => {}
        () = sleep(GRACE) => tracing::warn!("not everything ended in time"),
        _ = terminate.recv() => tracing::warn!("second SIGTERM: ending at once"),
    }
    outcome
}

fn start_sources(config: &Config, events: &mpsc::Sender<SourceEvent>, app: &mut App) -> Vec<StatusReader> {
    let mut readers = Vec::new();
    for (name, source) in &config.sources {
        let reader = match source {
            SourceConfig::File(config) => start(File::new(config.clone()), name, events, app),
            SourceConfig::Etcd(config) => start(Etcd::new(config.clone()), name, events, app),
            SourceConfig::Eureka(config) => start(Eureka::new(config.clone()), name, events, app),
            SourceConfig::Consul(config) => start(Consul::new(config.clone()), name, events, app),
            SourceConfig::Kubernetes(config) => start(Kubernetes::new(config.clone()), name, events, app),
            SourceConfig::Dns(config) => start(Dns::new(config.clone()), name, events, app),
            SourceConfig::Zookeeper(config) => start(Zookeeper::new(config.clone()), name, events, app),
            SourceConfig::Registry(config) => start(Own::new(config.clone()), name, events, app),
            SourceConfig::Nacos(config) => start(Nacos::new(config.clone()), name, events, app),
        };
        readers.push(reader);
    }
    readers
}

fn start(
    registry: impl Registry,
    name: &SourceName,
    events: &mpsc::Sender<SourceEvent>,
    app: &mut App,
) -> StatusReader {
    let (status, reader) = watch::channel(SourceStatus::new(name.clone(), registry.kind()));
    let (name, events, shutdown) = (name.clone(), events.clone(), app.shutdown.clone());
    app.tasks.spawn(async move {
        let sessions = supervise(registry, name, events, Arc::new(status), SuperviseOptions::default());
        shutdown.run_until_cancelled(sessions).await;
        Ok(())
    });
    reader
}

/// Takes over the live part of every good new file, and says what is wrong with a bad one.
async fn reload_config(
    mut watcher: Watcher,
    started_with: Config,
    commands: mpsc::Sender<Command>,
    metrics: Arc<Metrics>,
    state: watch::Sender<Option<String>>,
) {
    loop {
        let read = watcher.next().await;
        match read {
            Ok(config) if !config.services_beyond(&started_with).is_empty() => {
                // A service that is asked for at a source that nobody watches would lose its endpoints.
                let keys = config.services_beyond(&started_with).join(", ");
                refuse(
                    &format!("{keys}: a source named here is new and is watched after a restart only"),
                    &state,
                );
                metrics.reloaded(false);
            }
            Ok(config) => {
                metrics.reloaded(true);
                let restart = started_with.restart_keys(&config);
                if !restart.is_empty() {
                    tracing::warn!(keys = ?restart, "these changes take effect at the next start");
                }
                tracing::info!("configuration reloaded");
                state.send_replace(None);
                if commands.send(Command::Reload(config.services)).await.is_err() {
                    return;
                }
            }
            Err(problems) => {
                refuse(&problems.to_string(), &state);
                metrics.reloaded(false);
            }
        }
    }
}

fn refuse(problems: &str, state: &watch::Sender<Option<String>>) {
    tracing::warn!(
        problems,
        "the new configuration has mistakes; the old one stays in force"
    );
    state.send_replace(Some(problems.to_owned()));
}

async fn infallible(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
}
