//! The running process: reload, hand-over, stop. The main thread takes the signals and the orders.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use crate::runtime::listen::Listen;
use crate::runtime::service::Service;
use crate::server::accept::Doors;
use crate::server::admin::SideListener;
use crate::server::control::{self, Ask, Control, Orders};
use crate::server::front::FAREWELL;
use crate::server::gateway::{Active, Shared};
use crate::server::handover::{self, GiveError, Taken};
use crate::server::listeners::Listeners;
use crate::server::memory;
use crate::server::signals::{Signals, Told};
use crate::server::successor::Successor;
use crate::server::tls::{Certificates, TlsError};
use crate::server::watch::WatchList;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::stats::Stats;
use crate::upstream::budget::{self, Budget};

/// How often a draining process looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// How long a `SIGQUIT` looks for the process that is to take over.
const LOOK: Duration = Duration::from_secs(5);
/// How long accept loops may take to begin.
const BEGIN: Duration = Duration::from_secs(10);
/// How long they may take to end: each only has to notice.
const END: Duration = Duration::from_secs(2);

/// A configuration that was read, checked and compiled, ready to serve.
pub struct Loaded {
    pub service: Arc<Service>,
    pub listen: Listen,
    /// Metrics, statistics and the like; fixed for the life of the process, but for what their handlers show.
    pub sides: Vec<SideListener>,
    pub access_log: Arc<AccessLog>,
    pub stats: Option<Arc<Stats>>,
    /// What keeps new state of this configuration fresh: key sets, addresses, tokens.
    pub tasks: Vec<BoxFuture<'static, ()>>,
}

/// Puts to use what only the loader knows of a configuration: its ports and logs, and what the next one takes over.
/// Not called for a configuration that is refused, which thus leaves no trace.
pub type Adopt = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// Reads the configuration again; what survives a reload is the loader's business.
pub trait Loader: Send + Sync {
    /// Changes nothing yet: that is for the [`Adopt`].
    ///
    /// # Errors
    /// The whole report, ready for the log, when the file cannot be served.
    fn load(&self) -> Result<(Loaded, Adopt), String>;

    /// The gateway listens now.
    fn ready(&self);

    /// The path of the configuration, as clients of the control socket may ask for it.
    fn source(&self) -> String;

    /// Opens log files anew, for log rotation.
    fn reopen_logs(&self);

    /// Writes out what was logged, before the process ends.
    fn flush_logs(&self);
}

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Take the listening sockets over from the running process.
    pub upgrade: bool,
    /// Apply changes of these files, and of certificates, when they happen.
    pub watch: Option<Arc<WatchList>>,
    /// What to start on `SIGUSR2`, to hand the sockets over to.
    pub successor: Option<Successor>,
}

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("listen tcp {address}: bind: {source}")]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Start(String),
}

/// Loads a configuration. What that leaves behind goes: the text, its tree, everything that was only looked at.
///
/// # Errors
/// See [`Loader::load`].
pub fn load(loader: &dyn Loader) -> Result<(Loaded, Adopt), String> {
    memory::apart(|| loader.load())?
}

/// Lets bodies have as much memory as the configuration says.
pub(super) fn allow(service: &Service) {
    let bytes = service.options.buffered_bytes;
    Budget::process().set_limit(bytes.unwrap_or_else(budget::half_of_memory));
}

/// The running process: what its main thread knows.
pub(super) struct Process {
    pub(super) took_over: bool,
    pub(super) successor: Option<Successor>,
    /// For the sockets that give power over this process, or why there is none.
    pub(super) folder: Result<PathBuf, String>,
    pub(super) control: Option<Control>,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) loader: Arc<dyn Loader>,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) listen: Listen,
    pub(super) sides: Vec<SideListener>,
    pub(super) tasks: mpsc::UnboundedSender<Vec<BoxFuture<'static, ()>>>,
    pub(super) listeners: Listeners,
    /// HTTP/2 clients are to move to another gateway.
    pub(super) leaving: watch::Sender<bool>,
    pub(super) doors: Arc<Doors>,
    pub(super) stop: watch::Sender<bool>,
}

/// What came of the wish to hand over.
enum Gone {
    /// Another process accepts connections now.
    Over,
    /// A signal has come first, or there is nobody to hand over to.
    Stopped(&'static str),
}

/// What the main thread is told to do.
enum Event {
    Signal(Told),
    Ask(Ask),
}

impl Process {
    /// Serves until a signal ends the process; `open` accept loops must begin.
    ///
    /// # Errors
    /// They do not.
    pub(super) async fn main(
        mut self,
        open: usize,
        mut taken: Taken,
        orders: Orders,
        mut asked: mpsc::Receiver<Ask>,
        mut signals: Signals,
    ) -> Result<std::convert::Infallible, RunError> {
        if !self.doors.open(open, BEGIN).await {
            return Err(RunError::Start(format!(
                "listen tcp {}: no listener came up",
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
                Some(ask) = asked.recv() => Event::Ask(ask),
            };
            match event {
                Event::Signal(Told::Stop(why)) => self.drain(why, true, &mut signals).await,
                Event::Signal(Told::HandOver) => {
                    let gone = self.hand_over(&mut signals).await;
                    self.go(gone, "Hand-over", &mut signals).await;
                }
                Event::Signal(Told::Upgrade) => {
                    let gone = self.upgrade(&mut signals).await;
                    self.go(gone, "Upgrade", &mut signals).await;
                }
                Event::Signal(Told::Reload) => Ask::default().answer(self.reload()),
                Event::Signal(Told::ReopenLogs) => self.loader.reopen_logs(),
                Event::Ask(ask) => ask.answer(self.reload()),
            }
        }
    }

    /// Tells everybody that this process serves.
    async fn begun(&mut self, orders: Orders) {
        self.metrics.started(now());
        log::info!(
            "[SERVICE: Gateway] Listening on port: {}",
            self.listen.address.port()
        );
        if self.took_over {
            // Before the old process ends: its end would be the end of the unit, and of us.
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

    /// Ends this process, or serves on where nobody took over.
    async fn go(&mut self, gone: Result<Gone, String>, what: &str, signals: &mut Signals) {
        match gone {
            Ok(Gone::Over) => self.drain("hand-over", false, signals).await,
            Ok(Gone::Stopped(why)) => self.drain(why, true, signals).await,
            Err(reason) => {
                log::error!("[SERVICE: Gateway] {what} failed, this process serves on: {reason}")
            }
        }
    }

    /// Hands the sockets to a process that waits for them.
    async fn hand_over(&self, signals: &mut Signals) -> Result<Gone, String> {
        let give = async {
            let Ok(path) = self.handover_path() else {
                log::warn!("[SERVICE: Gateway] no process can wait for the sockets");
                return Ok(Gone::Stopped("quit"));
            };
            let found = handover::find(&path, LOOK).await;
            match self.give(found).await {
                Err(GiveError::Nobody(path)) => {
                    log::warn!(
                        "[SERVICE: Gateway] no process waits for the sockets at {}",
                        path.display()
                    );
                    Ok(Gone::Stopped("quit"))
                }
                Err(error) => Err(error.to_string()),
                Ok(()) => Ok(Gone::Over),
            }
        };
        tokio::select! {
            gone = give => gone,
            why = signals.end() => Ok(Gone::Stopped(why)),
        }
    }

    async fn give(&self, found: Result<UnixStream, GiveError>) -> Result<(), GiveError> {
        handover::give(found?, &self.listeners).await
    }

    /// Starts another process and hands it the sockets.
    async fn upgrade(&self, signals: &mut Signals) -> Result<Gone, String> {
        let successor = self
            .successor
            .as_ref()
            .ok_or("there is no program to start")?;
        let path = self.handover_path()?;
        log::info!(
            "[SERVICE: Gateway] Starting {}",
            successor.program.display()
        );
        tokio::select! {
            done = successor.take_over(&path, &self.listeners) => done.map(|()| Gone::Over),
            why = signals.end() => Ok(Gone::Stopped(why)),
        }
    }

    fn handover_path(&self) -> Result<PathBuf, String> {
        let folder = self.folder.as_ref().map_err(Clone::clone)?;
        Ok(handover::path(folder, self.listen.address))
    }

    /// Reads everything again; what is broken or cannot change while running changes nothing.
    fn reload(&self) -> Result<(), String> {
        notify(&[sd_notify::NotifyState::Reloading]);
        let result = self.try_reload();
        match &result {
            Ok(()) => log::info!("[SERVICE: Gateway] Configuration reloaded"),
            Err(reason) => log::error!(
                "[SERVICE: Gateway] Reload refused, the old configuration stays: {reason}"
            ),
        }
        self.metrics.reloaded(result.is_ok(), now());
        notify(&[sd_notify::NotifyState::Ready]);
        result
    }

    fn try_reload(&self) -> Result<(), String> {
        let (loaded, adopt) = load(&*self.loader)?;
        if loaded.listen != self.listen {
            return Err("the listener (address, port, `tls`, timeouts, limits, threads) cannot change while running; restart to apply it".to_owned());
        }
        let addresses =
            |sides: &[SideListener]| sides.iter().map(|side| side.address).collect::<Vec<_>>();
        if addresses(&loaded.sides) != addresses(&self.sides) {
            return Err("the addresses of metrics listeners cannot change while running; restart to apply them".to_owned());
        }
        let renewed = match &self.certificates {
            Some(certificates) => {
                let renewed = certificates.renewed();
                Some((
                    certificates,
                    renewed.map_err(|error| format!("tls: {error}"))?,
                ))
            }
            None => None,
        };
        adopt()?;
        // From here on nothing can fail: what is in use is all of the old configuration or all of the new one.
        if let Some((certificates, renewed)) = renewed {
            certificates.put_to_use(renewed);
        }
        let active = Active::new(
            loaded.service,
            &self.metrics,
            loaded.access_log,
            loaded.stats,
        );
        allow(&active.service);
        let endpoints = active.service.endpoints.iter();
        let patterns = endpoints.map(|endpoint| &*endpoint.pattern).collect();
        // Both leave much behind; a failure is one of the system's to start a thread, and costs memory only.
        let _ = memory::apart(|| self.metrics.keep_routes(&patterns));
        let old = self.shared.active.swap(Arc::new(active));
        let _ = memory::apart(move || drop(old));
        let _ = self.tasks.send(loaded.tasks);
        Ok(())
    }

    /// Lets requests in flight finish and leaves; a second signal leaves at once. `stop`: nobody else serves.
    async fn drain(&mut self, why: &str, stop: bool, signals: &mut Signals) {
        log::info!("Signal intercepted: {why}");
        if stop {
            // After a hand-over the service goes on in another process.
            notify(&[sd_notify::NotifyState::Stopping]);
        }
        self.control = None;
        self.shared.draining.store(true, Ordering::Relaxed);
        self.leaving.send_replace(true);
        let delay = self.listen.shutdown_delay;
        if stop && !delay.is_zero() {
            log::info!(
                "[SERVICE: Gateway] Not ready any more; accepting connections for {} ms",
                delay.as_millis()
            );
            self.pause(delay, signals).await;
        }
        self.listeners.close();
        self.doors.close(END).await;
        self.stop.send_replace(true);
        let started = Instant::now();
        loop {
            let waited = started.elapsed();
            let idle = self.metrics.requests_in_flight() == 0;
            if idle && (self.metrics.connections_open() == 0 || waited >= FAREWELL) {
                log::info!("[SERVICE: Gateway] Router execution ended");
                self.leave(0);
            }
            if waited >= self.listen.drain {
                log::error!("[SERVICE: Gateway] context deadline exceeded: requests were cut");
                self.leave(0);
            }
            self.pause(DRAIN_POLL, signals).await;
        }
    }

    /// Waits, and leaves at a second signal.
    async fn pause(&self, time: Duration, signals: &mut Signals) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = signals.end() => {
                log::error!("[SERVICE: Gateway] Second signal: leaving at once");
                self.leave(1);
            }
        }
    }

    fn leave(&self, code: i32) -> ! {
        self.loader.flush_logs();
        std::process::exit(code)
    }
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(states);
}

/// Tells the service manager that the process lives, twice per interval that it asked for.
async fn watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        notify(&[sd_notify::NotifyState::Watchdog]);
        tokio::time::sleep(interval / 2).await;
    }
}
