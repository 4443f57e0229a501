//! The process around the gateway: start, reload, hand-over, stop.
//!
//! Pingora's own signal handling ends the process on SIGHUP, cuts requests on SIGINT and sleeps a fixed time on
//! SIGTERM. Here the main thread takes the signals and tells Pingora what to do.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures::future::BoxFuture;
use pingora_core::listeners::ListenerConfig;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{ExecutionPhase, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora_core::services::background::background_service;
use pingora_core::services::listening::Service as ListeningService;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, mpsc, watch};

use crate::runtime::listen::Listen;
use crate::runtime::service::Service;
use crate::server::admin::{Side, SideListener};
use crate::server::control::{self, Ask};
use crate::server::front::{self, FAREWELL, Front};
use crate::server::gateway::{Active, Gateway, Shared};
use crate::server::successor::Successor;
use crate::server::tickets::Tickets;
use crate::server::tls::{Certificates, TlsError};
use crate::server::upkeep::Upkeep;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::stats::Stats;

/// How often a draining process looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// Pingora sends the sockets within five attempts, a second apart, and accepts for five seconds more.
const HAND_OVER: Duration = Duration::from_secs(15);

/// How long a connection that was accepted just before that may take to be counted.
const LAST_ACCEPTED: Duration = Duration::from_secs(1);

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
    pub watch: Vec<std::path::PathBuf>,
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

/// Serves until a signal ends it. Returns only when the start fails.
///
/// # Errors
/// An address that cannot be bound, certificates that cannot be used.
pub fn run(
    loaded: Loaded,
    loader: Arc<dyn Loader>,
    metrics: Arc<Metrics>,
    options: RunOptions,
) -> Result<std::convert::Infallible, RunError> {
    let listen = loaded.listen.clone();
    if !options.upgrade {
        probe(listen.address)?;
        for side in loaded.sides.iter().filter(|side| !side.optional) {
            probe(side.address)?;
        }
    }
    let certificates = match &listen.tls {
        Some(tls) => {
            let tickets = match options.upgrade {
                true => {
                    control::tickets(listen.address).and_then(|text| Tickets::handed_over(&text))
                }
                false => None,
            };
            Some(Arc::new(Certificates::take_over(tls.clone(), tickets)?))
        }
        None => None,
    };
    let (task_sender, task_receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        active: ArcSwap::from_pointee(Active::new(
            Arc::clone(&loaded.service),
            &metrics,
            Arc::clone(&loaded.access_log),
            loaded.stats.clone(),
        )),
        metrics: Arc::clone(&metrics),
        draining: false.into(),
    });
    let conf = server_conf(&listen);
    let mut server = Server::new_with_opt_and_conf(
        Opt {
            upgrade: options.upgrade,
            ..Opt::default()
        },
        conf,
    );
    server.bootstrap();
    let mut proxy = pingora_proxy::http_proxy(
        &server.configuration,
        Gateway::new(Arc::clone(&shared), listen.limits.clone()),
    );
    front::limit_http2(&mut proxy, &listen.limits);
    let front = Front::new(
        Arc::new(proxy),
        listen.limits.clone(),
        certificates.clone(),
        Arc::clone(&shared),
        workers(&listen),
    );
    let mut service = ListeningService::new("gateway".to_owned(), front);
    service.add_listener(
        ListenerConfig::tcp(listen.address.to_string())
            .l4_buffer(L4BufferSettings::default().read(read_buffer(&listen))),
    );
    server.add_service(service);
    for side in &loaded.sides {
        if side.optional
            && !options.upgrade
            && let Err(error) = probe(side.address)
        {
            log::error!("[SERVICE: Stats] {error}");
            continue;
        }
        let mut service =
            ListeningService::new("side".to_owned(), Side::app(Arc::clone(&side.handler)));
        service.add_tcp(&side.address.to_string());
        service.threads = Some(1);
        server.add_service(service);
    }
    server.add_service(background_service("upkeep", Upkeep::new(task_receiver)));
    // The receiver lives as long as the server; a closed channel means that the process is ending.
    let _ = task_sender.send(loaded.tasks);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::Start(error.to_string()))?;
    let (asks, asked) = mpsc::channel(4);
    let (watcher, signals) = {
        // Whoever sees us listen may rely on a change being noticed, and on signals being understood.
        let _inside = runtime.enter();
        let signals = Signals::listen().map_err(|error| RunError::Start(error.to_string()))?;
        let mut files = options.watch;
        if let (Some(certificates), false) = (&certificates, files.is_empty()) {
            files.extend(certificates.files().map(std::path::Path::to_path_buf));
        }
        (crate::server::watch::files(&files, asks.clone()), signals)
    };
    let (stop, stopped) = watch::channel(None);
    let phases = server.watch_execution_phase();
    std::thread::Builder::new()
        .name("server".to_owned())
        .spawn(move || {
            server.run(RunArgs {
                shutdown_signal: Box::new(Commands(stopped)),
            })
        })
        .map_err(|error| RunError::Start(error.to_string()))?;
    let process = Process {
        took_over: options.upgrade,
        successor: options.successor,
        phases,
        shared,
        metrics,
        loader,
        certificates,
        listen,
        sides: loaded.sides,
        tasks: task_sender,
        stop,
    };
    let ended = runtime.block_on(process.main(asks, asked, signals));
    drop(watcher);
    ended
}

/// Fails early and clearly where Pingora would retry for half a minute and then live on without a listener.
fn probe(address: SocketAddr) -> Result<(), RunError> {
    let bind = || -> io::Result<()> {
        let domain = socket2::Domain::for_address(address);
        let socket =
            socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Bound, never listening: a client that waits for us would reach this socket and be reset.
        socket.bind(&address.into())
    };
    bind().map_err(|source| RunError::Bind { address, source })
}

/// Pingora's 64 KiB for each connection, idle or not, would be most of its memory. Heads are read into a buffer of our
/// own and bodies into Pingora's; only TLS, which reads a record in small pieces, needs one below.
fn read_buffer(listen: &Listen) -> usize {
    match listen.tls {
        Some(_) => 4 * 1024,
        None => 0,
    }
}

/// Threads that requests run on.
fn workers(listen: &Listen) -> usize {
    listen
        .threads
        .unwrap_or_else(crate::server::processors::granted)
}

fn server_conf(listen: &Listen) -> ServerConf {
    ServerConf {
        threads: workers(listen),
        // Pingora sleeps this long once it was told to stop; we leave earlier, as soon as the last request is done.
        grace_period_seconds: Some(listen.drain.as_secs().saturating_add(60)),
        graceful_shutdown_timeout_seconds: Some(1),
        upgrade_sock: control::upgrade_socket(listen.address),
        max_retries: 2,
        ..ServerConf::default()
    }
}

/// Hands Pingora the one command that ends its main loop.
struct Commands(watch::Receiver<Option<Command>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Stop,
    HandOver,
}

#[async_trait]
impl ShutdownSignalWatch for Commands {
    async fn recv(&self) -> ShutdownSignal {
        let mut commands = self.0.clone();
        match commands
            .wait_for(Option::is_some)
            .await
            .map(|command| *command)
        {
            Ok(Some(Command::HandOver)) => ShutdownSignal::GracefulUpgrade,
            _ => ShutdownSignal::GracefulTerminate,
        }
    }
}

struct Process {
    took_over: bool,
    successor: Option<Successor>,
    /// Where Pingora is in its own life.
    phases: broadcast::Receiver<ExecutionPhase>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    loader: Arc<dyn Loader>,
    certificates: Option<Arc<Certificates>>,
    listen: Listen,
    sides: Vec<SideListener>,
    tasks: mpsc::UnboundedSender<Vec<BoxFuture<'static, ()>>>,
    stop: watch::Sender<Option<Command>>,
}

/// What came of the wish for another process.
enum Started {
    /// It waits for the sockets.
    Waits,
    /// A signal has come first.
    Stopped(&'static str),
}

/// What the main thread is told to do.
enum Event {
    Stop(&'static str),
    HandOver,
    Upgrade,
    Reload(Ask),
    ReopenLogs,
}

/// The signals that mean something to us.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
    quit: Signal,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::Stop("terminated"),
            _ = self.interrupt.recv() => Event::Stop("interrupt"),
            _ = self.quit.recv() => Event::HandOver,
            _ = self.hang_up.recv() => Event::Reload(Ask::default()),
            _ = self.user_1.recv() => Event::ReopenLogs,
            _ = self.user_2.recv() => Event::Upgrade,
        }
    }

    /// Waits for a signal that ends the process.
    async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "terminated",
            _ = self.interrupt.recv() => "interrupt",
        }
    }
}

impl Process {
    async fn main(
        self,
        asks: mpsc::Sender<Ask>,
        mut asked: mpsc::Receiver<Ask>,
        mut signals: Signals,
    ) -> Result<std::convert::Infallible, RunError> {
        if !answers(self.listen.address).await {
            return Err(RunError::Start(format!(
                "listen tcp {}: no listener came up",
                self.listen.address
            )));
        }
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
        tokio::spawn(watchdog());
        let tickets = self
            .certificates
            .as_ref()
            .map(|all| Arc::clone(all.tickets()));
        let _control = control::serve(self.listen.address, asks, tickets);
        loop {
            let event = tokio::select! {
                event = signals.next() => event,
                Some(ask) = asked.recv() => Event::Reload(ask),
            };
            match event {
                Event::Stop(why) => self.drain(why, Command::Stop, &mut signals).await,
                Event::HandOver => self.hand_over(&mut signals).await,
                Event::Upgrade => match self.start_successor(&mut signals).await {
                    Ok(Started::Waits) => self.hand_over(&mut signals).await,
                    Ok(Started::Stopped(why)) => self.drain(why, Command::Stop, &mut signals).await,
                    Err(reason) => log::error!(
                        "[SERVICE: Gateway] Upgrade failed, this process serves on: {reason}"
                    ),
                },
                Event::Reload(ask) => ask.answer(self.reload()),
                Event::ReopenLogs => self.loader.reopen_logs(),
            }
        }
    }

    async fn hand_over(&self, signals: &mut Signals) {
        self.drain("hand-over", Command::HandOver, signals).await;
    }

    /// Starts the process that the sockets go to, and waits until it is ready for them.
    async fn start_successor(&self, signals: &mut Signals) -> Result<Started, String> {
        let successor = self
            .successor
            .as_ref()
            .ok_or("there is no program to start")?;
        log::info!(
            "[SERVICE: Gateway] Starting {}",
            successor.program.display()
        );
        let socket = control::upgrade_socket(self.listen.address);
        tokio::select! {
            ready = successor.ready(Path::new(&socket)) => ready.map(|()| Started::Waits),
            why = signals.end() => Ok(Started::Stopped(why)),
        }
    }

    /// Reads everything again; what is broken or cannot change while running changes nothing.
    fn reload(&self) -> Result<(), String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        notify(&[sd_notify::NotifyState::Reloading]);
        let result = self.try_reload();
        match &result {
            Ok(()) => log::info!("[SERVICE: Gateway] Configuration reloaded"),
            Err(reason) => log::error!(
                "[SERVICE: Gateway] Reload refused, the old configuration stays: {reason}"
            ),
        }
        self.metrics.reloaded(result.is_ok(), now);
        notify(&[sd_notify::NotifyState::Ready]);
        result
    }

    fn try_reload(&self) -> Result<(), String> {
        let (loaded, adopt) = self.loader.load()?;
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
        self.shared.active.store(Arc::new(active));
        let _ = self.tasks.send(loaded.tasks);
        Ok(())
    }

    /// Lets requests in flight finish and leaves; a second signal leaves at once.
    async fn drain(&self, why: &str, command: Command, signals: &mut Signals) {
        if command == Command::Stop {
            self.shared.draining.store(true, Ordering::Relaxed);
        }
        log::info!("Signal intercepted: {why}");
        if command == Command::Stop {
            // After a hand-over the service goes on in another process.
            notify(&[sd_notify::NotifyState::Stopping]);
        }
        let phases = self.phases.resubscribe();
        self.stop.send_replace(Some(command));
        let mut started = Instant::now();
        if command == Command::HandOver {
            // Pingora keeps accepting for a while after it has sent the sockets, until the new process does.
            self.handed_over(phases, signals).await;
            self.shared.draining.store(true, Ordering::Relaxed);
            started = Instant::now();
        }
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
            tokio::select! {
                () = tokio::time::sleep(DRAIN_POLL) => {}
                _ = signals.end() => {
                    log::error!("[SERVICE: Gateway] Second signal: leaving at once");
                    self.leave(1);
                }
            }
        }
    }

    fn leave(&self, code: i32) -> ! {
        self.loader.flush_logs();
        std::process::exit(code)
    }

    /// Waits until this process accepts no more.
    async fn handed_over(
        &self,
        mut phases: broadcast::Receiver<ExecutionPhase>,
        signals: &mut Signals,
    ) {
        let closed = async {
            while let Ok(phase) = phases.recv().await {
                if matches!(phase, ExecutionPhase::ShutdownStarted) {
                    break;
                }
            }
        };
        let done = async {
            let _ = tokio::time::timeout(HAND_OVER, closed).await;
            tokio::time::sleep(LAST_ACCEPTED).await;
        };
        tokio::select! {
            () = done => {}
            _ = signals.end() => {}
        }
    }
}

/// Whether somebody accepts connections at `address`, asked for up to five seconds.
async fn answers(address: SocketAddr) -> bool {
    let address = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => {
            SocketAddr::from(([127, 0, 0, 1], address.port()))
        }
        ip if ip.is_unspecified() => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], address.port())),
        _ => address,
    };
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
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
