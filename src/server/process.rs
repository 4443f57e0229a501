//! The running process: reload, upgrade, stop. The main thread handles signals and control requests.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use crate::per_worker::Spread;
use crate::runtime::agents::Running;
use crate::runtime::listen::Listen;
use crate::runtime::service::Service;
use crate::server::accept::AcceptLoops;
use crate::server::admin::AdminListener;
use crate::server::control::{self, Control, Orders, ReloadRequest};
use crate::server::front::FAREWELL;
use crate::server::gateway::{Active, Shared};
use crate::server::listeners::Listeners;
use crate::server::memory;
use crate::server::new_process::{NewProcess, Successor};
use crate::server::own_listeners;
use crate::server::service_manager::{notify, watchdog};
use crate::server::signals::{SignalAction, Signals};
use crate::server::socket_transfer::ReceivedSockets;
use crate::server::tls::{Certificates, TlsError};
use crate::server::upgrade_report::Starter;
use crate::server::watch::WatchList;
use crate::server::websocket;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::revocations;
use crate::telemetry::stats::Stats;
use crate::upstream::budget::{self, Budget, Memory};

/// How often a draining process checks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// How long accept loops may take to start.
const BEGIN: Duration = Duration::from_secs(10);
/// How long they may take to end: each only has to notice the stop.
const END: Duration = Duration::from_secs(2);

/// A configuration that was loaded, checked and compiled.
pub(crate) struct Loaded {
    pub service: Arc<Service>,
    pub listen: Listen,
    /// The admin listeners. They are fixed for the life of the process; only what their handlers show changes.
    pub admin_listeners: Vec<AdminListener>,
    pub access_log: Arc<AccessLog>,
    pub stats: Option<Arc<Stats>>,
    /// Background tasks that refresh new state of this configuration: key sets, addresses, tokens.
    pub tasks: Vec<BoxFuture<'static, ()>>,
}

/// Applies the parts of a configuration that only the loader knows: its ports and logs, and the state for the next
/// one. It is not called for a rejected configuration, which therefore has no effect.
pub(crate) type Adopt = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// Loads the configuration again. The loader decides what survives a reload.
pub(crate) trait Loader: Send + Sync {
    /// Loads without any effect, which only the [`Adopt`] has.
    ///
    /// # Errors
    /// The file cannot be served. The text is the whole report, ready for the log.
    fn load(&self) -> Result<(Loaded, Adopt), String>;

    /// The report of a rejected configuration for the log: one line for each error.
    fn rejection_lines(&self, report: &str) -> Vec<String>;

    /// Called when the gateway listens.
    fn ready(&self);

    /// The path of the configuration, for clients of the control socket.
    fn source(&self) -> String;

    /// Reopens log files, for log rotation.
    fn reopen_logs(&self);

    /// Sends the remaining data to collectors before the process ends. Takes a few seconds at most.
    fn send_rest(&self) -> BoxFuture<'static, ()>;

    /// Writes all logged lines, and removes what only this process needs, before it ends.
    fn leave(&self);
}

/// The options of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunOptions {
    /// Takes over the listening sockets of the running process.
    pub upgrade: bool,
    /// The process that has started this one for that.
    pub starter: Option<Starter>,
    /// The files whose changes, like those of certificates, trigger a reload.
    pub watch: Option<Arc<WatchList>>,
    /// The program to start on `SIGUSR2`, which takes the sockets over.
    pub new_process: Option<NewProcess>,
}

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("listen tcp {address}: bind: {source} (the address of {key:?}){}", privileged(*address, source))]
    Bind {
        address: SocketAddr,
        source: io::Error,
        /// The key or the block of the configuration that asks for the address.
        key: &'static str,
    },
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Start(String),
}

/// What helps if the system reserves the port.
fn privileged(address: SocketAddr, error: &io::Error) -> &'static str {
    if address.port() < 1024 && error.kind() == io::ErrorKind::PermissionDenied {
        ". Ports below 1024 need root, CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start"
    } else {
        ""
    }
}

/// Loads a configuration. The temporary memory is freed: the text, its tree, and everything that was only checked.
///
/// # Errors
/// See [`Loader::load`].
pub(crate) fn load(loader: &dyn Loader) -> Result<(Loaded, Adopt), String> {
    memory::apart(|| loader.load())?
}

/// Sets the memory limit of bodies as configured.
pub(super) fn allow(service: &Service) {
    let bytes = service.options.buffered_bytes;
    Budget::set_limits(bytes.unwrap_or_else(budget::half_of_memory));
}

/// The running process: the state of its main thread.
pub(super) struct Process {
    pub(super) took_over: bool,
    pub(super) new_process: Option<NewProcess>,
    /// The process that has taken over.
    pub(super) successor: Option<Successor>,
    /// By a signal.
    pub(super) is_told_to_stop: bool,
    /// The folder of the control sockets, or why there is none.
    pub(super) folder: Result<PathBuf, String>,
    pub(super) control: Option<Control>,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) loader: Arc<dyn Loader>,
    pub(super) certificates: Option<Arc<Certificates>>,
    /// Those of the admin listeners.
    pub(super) admin_certificates: Vec<Arc<Certificates>>,
    pub(super) listen: Listen,
    pub(super) admin_listeners: Vec<AdminListener>,
    pub(super) tasks: mpsc::UnboundedSender<Vec<BoxFuture<'static, ()>>>,
    pub(super) listeners: Listeners,
    /// True once HTTP/2 clients should move to another gateway.
    pub(super) leaving: watch::Sender<bool>,
    pub(super) accept_loops: Arc<AcceptLoops>,
    pub(super) stop: watch::Sender<bool>,
}

/// An event for the main thread.
enum Event {
    Signal(SignalAction),
    Reload(ReloadRequest),
}

impl Process {
    /// Serves until a signal ends the process. `open` is the number of accept loops that must start.
    ///
    /// # Errors
    /// They do not start.
    pub(super) async fn main(
        mut self,
        open: usize,
        mut taken: ReceivedSockets,
        orders: Orders,
        mut asked: mpsc::Receiver<ReloadRequest>,
        mut signals: Signals,
    ) -> Result<std::convert::Infallible, RunError> {
        if !self.accept_loops.open(open, BEGIN).await {
            return Err(RunError::Start(format!(
                "listen tcp {}: no listener has started",
                self.listen.address
            )));
        }
        self.begun(orders).await;
        taken.ready().await;
        tokio::spawn(watchdog());
        tokio::spawn(memory::give_back());
        loop {
            let event = tokio::select! {
                told = signals.next() => Event::Signal(told),
                Some(ask) = asked.recv() => Event::Reload(ask),
            };
            match event {
                Event::Signal(SignalAction::Stop(why)) => self.drain(why, true, &mut signals).await,
                Event::Signal(SignalAction::HandOver) => {
                    let ended = self.hand_over(&mut signals).await;
                    self.go(ended, "The transfer of the sockets", &mut signals)
                        .await;
                }
                Event::Signal(SignalAction::Upgrade) => {
                    let ended = self.upgrade(&mut signals).await;
                    self.go(ended, "Upgrade", &mut signals).await;
                }
                Event::Signal(SignalAction::Reload) => {
                    self.reload(ReloadRequest::default(), &mut signals).await
                }
                Event::Signal(SignalAction::ReopenLogs) => self.loader.reopen_logs(),
                Event::Reload(ask) => self.reload(ask, &mut signals).await,
            }
        }
    }

    /// Announces that this process serves.
    async fn begun(&mut self, orders: Orders) {
        self.metrics.started(now());
        log::info!(
            "[SERVICE: Gateway] Listening on port: {}",
            self.listen.address.port()
        );
        if self.took_over {
            // Sent before the old process ends: otherwise its end would end the unit, including this process.
            notify(&[sd_notify::NotifyState::MainPid(std::process::id())]);
        }
        notify(&[sd_notify::NotifyState::Ready]);
        self.loader.ready();
        let port = self.listen.address.port();
        let control = self
            .folder
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|folder| {
                control::serve(folder, port, orders)
                    .map_err(|error| format!("{}: {error}", folder.display()))
            });
        match control {
            Ok(control) => self.control = Some(control),
            Err(reason) => log::warn!(
                "[SERVICE: Gateway] no control socket, so `portcullis reload` and upgrades do not work (SIGHUP does): {reason}"
            ),
        }
    }

    /// Loads everything again. A signal that ends the process does not wait until it is loaded.
    async fn reload(&mut self, ask: ReloadRequest, signals: &mut Signals) {
        notify(&[sd_notify::NotifyState::Reloading]);
        let loader = Arc::clone(&self.loader);
        let loading = tokio::task::spawn_blocking(move || load(&*loader));
        tokio::select! {
            loaded = loading => {
                let loaded = loaded.unwrap_or_else(|error| Err(format!("loading ended: {error}")));
                ask.response(self.reloaded(loaded));
            }
            why = signals.end() => self.drain(why, true, signals).await,
        }
    }

    /// Uses what was loaded. An invalid configuration, or one that cannot be applied at run time, changes nothing.
    fn reloaded(&self, loaded: Result<(Loaded, Adopt), String>) -> Result<(), String> {
        let result = loaded.and_then(|(loaded, adopt)| self.put_to_use(loaded, adopt));
        match &result {
            Ok(()) => log::info!("[SERVICE: Gateway] Configuration reloaded"),
            Err(report) => {
                for reason in self.loader.rejection_lines(report) {
                    log::error!(
                        "[SERVICE: Gateway] Reload rejected, the old configuration stays in use: {reason}"
                    );
                }
            }
        }
        self.metrics.reloaded(result.is_ok(), now());
        notify(&[sd_notify::NotifyState::Ready]);
        result
    }

    fn put_to_use(&self, loaded: Loaded, adopt: Adopt) -> Result<(), String> {
        if loaded.listen != self.listen {
            return Err("the listener (address, port, `tls`, timeouts, limits, threads) cannot change while running; restart to apply it".to_owned());
        }
        let fixed = |side: &AdminListener| (side.address, side.tls.clone());
        let (new, old) = (&loaded.admin_listeners, &self.admin_listeners);
        if !new.iter().map(fixed).eq(old.iter().map(fixed)) {
            return Err("the addresses and the `tls` of metrics listeners cannot change while running; restart to apply them".to_owned());
        }
        let mut renewed = Vec::new();
        for certificates in self.certificates.iter().chain(&self.admin_certificates) {
            let new = certificates.renewed();
            renewed.push((certificates, new.map_err(|error| format!("tls: {error}"))?));
        }
        own_listeners::add(&loaded.service)?;
        adopt()?;
        // From here on nothing can fail: either the old or the new configuration is in use as a whole.
        for (certificates, new) in renewed {
            certificates.put_to_use(new);
        }
        let endpoints = loaded.service.endpoints.iter();
        let pairs = endpoints.map(|endpoint| (&*endpoint.pattern, endpoint.method.as_str()));
        self.metrics.make_room(&pairs.collect());
        let active = Active::new(
            loaded.service,
            &self.metrics,
            loaded.access_log,
            loaded.stats,
            Arc::clone(&self.shared.draining),
        );
        allow(&active.service);
        let endpoints = active.service.endpoints.iter();
        let agents = active.service.agents.iter();
        let endpoints = endpoints.chain(agents.map(|agent| &agent.endpoint));
        let patterns = endpoints.map(|endpoint| &*endpoint.pattern).collect();
        // Both free much memory. This only fails if the system cannot start a thread, and then it only costs memory.
        let _ = memory::apart(|| self.metrics.keep_routes(&patterns));
        if let Some(observer) = &active.service.observer {
            observer.keep_routes(&patterns);
        }
        let old = self.shared.active.swap(Arc::new(Spread::new(active)));
        own_listeners::close_unused(&old.service, &self.shared);
        let _ = memory::apart(move || drop(old));
        let _ = self.tasks.send(loaded.tasks);
        Ok(())
    }

    /// Waits for the requests and messages in progress and ends the process. A second signal ends it immediately. `stop` means
    /// that no other process serves.
    pub(super) async fn drain(&mut self, why: &str, stop: bool, signals: &mut Signals) {
        self.is_told_to_stop = stop;
        if stop {
            log::info!("Signal intercepted: {why}");
            // After an upgrade another process continues the service.
            notify(&[sd_notify::NotifyState::Stopping]);
        } else {
            log::info!("[SERVICE: Gateway] Stopping: {why}");
            self.control.take().into_iter().for_each(Control::replaced);
            // Also for signals that came during the upgrade.
            self.pause(DRAIN_POLL, signals).await;
        }
        self.shared.draining.store(true, Ordering::Relaxed);
        self.leaving.send_replace(true);
        Running::process().stop();
        let delay = self.listen.shutdown_delay;
        if stop && !delay.is_zero() {
            log::info!(
                "[SERVICE: Gateway] No longer ready; accepting connections for {} ms",
                delay.as_millis()
            );
            self.pause(delay, signals).await;
        }
        // Until now it has answered health checks, and reloads with the reason why there is none.
        self.control = None;
        own_listeners::close(&mut self.listeners, &self.shared);
        self.accept_loops.close(END).await;
        self.stop.send_replace(true);
        let started = Instant::now();
        // The clients of WebSockets get the reason before the process ends.
        let last_moment = self.listen.drain - FAREWELL.min(self.listen.drain / 2);
        loop {
            let waited = started.elapsed();
            if waited >= last_moment {
                websocket::end_all();
            }
            let idle = self.metrics.requests_in_flight() == 0
                && self.shared.arriving.is_empty()
                && Running::process().is_idle();
            let is_alone =
                self.metrics.connections_open() == 0 && self.shared.admin_connections.is_empty();
            if idle && (is_alone || waited >= FAREWELL) {
                log::info!("[SERVICE: Gateway] Router execution ended");
                self.send_rest(signals).await;
                self.leave(0);
            }
            if waited >= self.listen.drain {
                log::error!("[SERVICE: Gateway] context deadline exceeded: requests were aborted");
                self.send_rest(signals).await;
                self.leave(0);
            }
            self.pause(DRAIN_POLL, signals).await;
        }
    }

    /// Waits, and ends the process at a second signal. Other signals are for the process that has taken over.
    async fn pause(&mut self, time: Duration, signals: &mut Signals) {
        let end = tokio::time::Instant::now() + time;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                signal = signals.next() => match signal {
                    // A stop of the service reaches a process that drains after an upgrade, too.
                    SignalAction::Stop(why) if !self.is_told_to_stop => {
                        self.is_told_to_stop = true;
                        log::info!(
                            "Signal intercepted: {why}. Requests in progress still end; another signal stops this process at once"
                        );
                    }
                    SignalAction::Stop(_) => {
                        log::error!("[SERVICE: Gateway] Second signal: stopping at once");
                        self.leave(1);
                    }
                    other => self.pass_on(other),
                },
            }
        }
    }

    /// Sends the remaining data to collectors, unless a second signal ends the process first.
    async fn send_rest(&self, signals: &mut Signals) {
        tokio::select! {
            () = self.loader.send_rest() => {}
            _ = signals.end() => {}
        }
    }

    fn leave(&mut self, code: i32) -> ! {
        // `exit` drops nothing: the file of the socket would stay.
        self.control = None;
        Memory::process().leave();
        if self.successor.is_none() {
            revocations::end();
        }
        self.loader.leave();
        std::process::exit(code)
    }
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
