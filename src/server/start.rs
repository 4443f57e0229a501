//! Starts the process for a loaded configuration: sockets, services, threads.
//!
//! Pingora's own signal handling ends the process on SIGHUP, aborts requests on SIGINT and sleeps a fixed time on
//! SIGTERM. Here the main thread handles the signals ([`crate::server::process`]) and controls Pingora.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::prelude::{Opt, Server, background_service, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, ShutdownSignal, ShutdownSignalWatch};
use pingora_proxy::HttpProxy;
use tokio::sync::{mpsc, watch};

use crate::per_worker::{self, Spread};
use crate::runtime::listen::Listen;
use crate::runtime::service::Service;
use crate::server::accept::{AcceptLoop, AcceptLoops};
use crate::server::admin::{self, AdminListener, AdminServer};
use crate::server::arriving::Arriving;
use crate::server::background::BackgroundTasks;
use crate::server::connection_limit::ConnectionLimit;
use crate::server::control::{self, Orders};
use crate::server::control_folder;
use crate::server::descriptors::{self, Spare};
use crate::server::front::{self, Front};
use crate::server::gateway::{Active, Gateway, Shared};
use crate::server::hand_over::{self, HandOver};
use crate::server::listeners::Listeners;
use crate::server::memory;
use crate::server::own_listeners;
use crate::server::process::{Loaded, Loader, Process, RunError, RunOptions, allow};
use crate::server::signals::Signals;
use crate::server::socket_transfer::{self, OldProcess, ReceivedSockets};
use crate::server::tickets::Tickets;
use crate::server::tls::Certificates;
use crate::server::upgrade_report::Starter;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::stats::Stats;
use crate::upstream::Sockets;
use crate::upstream::budget::{self, Memory};

/// The resources that a process needs before it loads its configuration.
#[derive(Debug)]
pub(crate) struct Prepared {
    runtime: tokio::runtime::Runtime,
    signals: Signals,
    /// The limit of open files.
    descriptors: Option<u64>,
}

/// As [`prepare`], for a process that only runs the gateway: the program may replace itself with other settings of its
/// allocator.
///
/// # Errors
/// As [`prepare`].
pub(crate) fn prepare_process() -> Result<Prepared, RunError> {
    #[cfg(feature = "mimalloc")]
    memory::keep_pages_briefly();
    prepare()
}

/// Registers the signal handlers, so that signals are kept from now on, raises the limit of file descriptors as far as
/// the system allows, and declines huge pages.
///
/// # Errors
/// The system rejects this.
pub(crate) fn prepare() -> Result<Prepared, RunError> {
    memory::decline_huge_pages();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::Start(error.to_string()))?;
    let signals = {
        let _inside = runtime.enter();
        Signals::listen().map_err(|error| RunError::Start(error.to_string()))?
    };
    Ok(Prepared {
        runtime,
        signals,
        descriptors: descriptors::raise(),
    })
}

/// Serves until a signal ends the process. Returns only if the start fails.
///
/// # Errors
/// An address cannot be bound, or certificates are not usable.
pub(crate) fn run(
    prepared: Prepared,
    loaded: Loaded,
    loader: Arc<dyn Loader>,
    metrics: Arc<Metrics>,
    options: RunOptions,
) -> Result<std::convert::Infallible, RunError> {
    let Prepared {
        runtime,
        mut signals,
        descriptors,
    } = prepared;
    let listen = loaded.listen.clone();
    let folder = control_folder::private();
    let mut taken = if options.upgrade {
        runtime.block_on(take(&folder, &listen, options.starter, &mut signals))?
    } else {
        ReceivedSockets::default()
    };
    let certificates = certificates(&listen, options.upgrade)?;
    let passes_all =
        options.upgrade && hand_over::take_state(listen.address.port(), &loaded.service);
    allow(&loaded.service);
    // All are moved: a reload drops the first configuration, too, and closes its access log.
    let logs = (loaded.access_log, loaded.stats);
    let shared = shared(loaded.service, logs, &metrics);
    let spare = Arc::new(Spare::take());
    let leaving = watch::channel(false).0;
    let accept_loops = Arc::new(AcceptLoops::default());
    let mut listeners = std::mem::take(&mut taken.listeners);
    let mut server = Server::new_with_opt_and_conf(Opt::default(), server_conf(&listen));
    server.bootstrap();
    let proxy = proxy(&server, &shared, &listen);
    let front = Front::new(
        Arc::new(proxy),
        listen.limits.clone(),
        certificates.clone(),
        Arc::clone(&shared),
        leaving.subscribe(),
        workers(&listen),
    );
    let admin_certificates = admin_certificates(&loaded.admin_listeners)?;
    let open = 1 + add_admin_listeners(
        &mut server,
        (&loaded.admin_listeners, &admin_certificates),
        &mut listeners,
        &accept_loops,
        &spare,
        &shared,
    )?;
    let admin_certificates: Vec<_> = admin_certificates.into_iter().flatten().collect();
    let (task_sender, task_receiver) = mpsc::unbounded_channel();
    server.add_service(background_service(
        "upkeep",
        BackgroundTasks::new(task_receiver),
    ));
    // The receiver lives as long as the server. A closed channel means that the process is ending.
    let _ = task_sender.send(loaded.tasks);

    let (asks, asked) = mpsc::channel(4);
    let watcher = options.watch.and_then(|list| {
        let _inside = runtime.enter();
        let all = certificates.iter().chain(&admin_certificates);
        crate::server::watch::files(list, certificate_files(all), asks.clone())
    });
    // An older version keeps some addresses until it drains. Otherwise another program has them.
    let later = (options.upgrade && !passes_all).then_some(&runtime);
    own_listeners::start(
        &shared.active.load().service.upgrade_states,
        &mut listeners,
        later,
    )?;
    // Bound last, so that everything else is available when the gateway listens.
    let socket = bind(&mut listeners, listen.address, "port")?;
    Memory::process().grant();
    per_worker::set_workers(workers(&listen));
    let connection_limit = connection_limit(descriptors, listen.limits.max_connections);
    let accept_loop = AcceptLoop::new(
        "gateway",
        socket,
        Arc::new(front),
        connection_limit,
        &accept_loops,
    );
    server.add_service(accept_loop.threads(workers(&listen)));
    listeners.keep(&addresses(&loaded.admin_listeners, listen.address));
    let stop = spawn(server)?;
    let orders = Orders {
        asks,
        file: loader.source(),
        listener: Some((listen.clone(), Arc::clone(&shared))),
        spare,
        stopping: leaving.subscribe(),
        is_replaced: Arc::default(),
        hand_over: HandOver::new(
            certificates.as_ref().map(|all| Arc::clone(all.tickets())),
            Arc::clone(&shared),
        ),
    };
    let process = Process {
        took_over: options.upgrade,
        new_process: options
            .new_process
            .map(|new| new.listening_at(listen.address)),
        successor: None,
        is_told_to_stop: false,
        folder,
        control: None,
        shared,
        metrics,
        loader,
        certificates,
        admin_certificates,
        listen,
        admin_listeners: loaded.admin_listeners,
        tasks: task_sender,
        listeners,
        leaving,
        accept_loops,
        stop,
    };
    let ended = runtime.block_on(process.main(open, taken, orders, asked, signals));
    drop(watcher);
    ended
}

/// Pingora's proxy around the gateway.
fn proxy(server: &Server, shared: &Arc<Shared>, listen: &Listen) -> HttpProxy<Gateway> {
    let gateway = Gateway::new(Arc::clone(shared), listen.limits.clone());
    let mut proxy = http_proxy(&server.configuration, gateway);
    front::limit_http2(&mut proxy, &listen.limits);
    proxy
}

/// Adds the admin listeners to the server. Returns their number.
fn add_admin_listeners(
    server: &mut Server,
    (admin_listeners, certificates): (&[AdminListener], &[Option<Arc<Certificates>>]),
    listeners: &mut Listeners,
    accept_loops: &Arc<AcceptLoops>,
    spare: &Arc<Spare>,
    shared: &Arc<Shared>,
) -> Result<usize, RunError> {
    let mut added = 0;
    for (side, certificates) in admin_listeners.iter().zip(certificates) {
        if let Some(socket) = bind_side(listeners, side)? {
            let handler = Arc::clone(&side.handler);
            let app = AdminServer::new(handler, certificates.clone(), Arc::clone(shared));
            server.add_service(admin_listener(app, socket, accept_loops, spare));
            added += 1;
        }
    }
    Ok(added)
}

/// The files to watch besides those of the configuration.
fn certificate_files<'c>(
    certificates: impl Iterator<Item = &'c Arc<Certificates>>,
) -> Vec<PathBuf> {
    let files = certificates.flat_map(|all| all.files());
    files.map(Path::to_path_buf).collect()
}

/// The certificates of each admin listener.
fn admin_certificates(
    admin_listeners: &[AdminListener],
) -> Result<Vec<Option<Arc<Certificates>>>, RunError> {
    let load = |side: &AdminListener| match &side.tls {
        Some(tls) => Ok(Some(Arc::new(Certificates::load(tls.clone())?))),
        None => Ok(None),
    };
    admin_listeners.iter().map(load).collect()
}

/// The addresses that the process listens on.
fn addresses(admin_listeners: &[AdminListener], main: SocketAddr) -> Vec<SocketAddr> {
    let admin_listeners = admin_listeners.iter().map(|side| side.address);
    admin_listeners.chain([main]).collect()
}

/// The state that all requests share, with the loaded service in use.
fn shared(
    service: Arc<Service>,
    (access_log, stats): (Arc<AccessLog>, Option<Arc<Stats>>),
    metrics: &Arc<Metrics>,
) -> Arc<Shared> {
    let draining = Arc::new(AtomicBool::new(false));
    Arc::new(Shared {
        active: ArcSwap::from_pointee(Spread::new(Active::new(
            service,
            metrics,
            access_log,
            stats,
            Arc::clone(&draining),
        ))),
        metrics: Arc::clone(metrics),
        draining,
        arriving: Arriving::default(),
        admin_connections: Arriving::default(),
    })
}

/// Takes the sockets over from the running process, unless a signal ends this one first.
async fn take(
    folder: &Result<PathBuf, String>,
    listen: &Listen,
    starter: Option<Starter>,
    signals: &mut Signals,
) -> Result<ReceivedSockets, RunError> {
    if let Some(starter) = starter {
        same_address(&[starter.address], listen.address)?;
    }
    let folder = folder
        .as_ref()
        .map_err(|reason| RunError::Start(format!("no sockets can be taken over: {reason}")))?;
    let path = socket_transfer::path(folder, listen.address);
    let control = control::socket(folder, listen.address.port());
    let from = OldProcess {
        address: listen.address,
        control,
        wait: listen.upgrade_wait,
    };
    let taken = tokio::select! {
        taken = socket_transfer::take(&path, &from) => {
            taken.map_err(|error| RunError::Start(format!("{}: {error}", path.display())))?
        }
        why = signals.end() => {
            return Err(RunError::Start(format!("{why} before it could listen")));
        }
    };
    let received: Vec<_> = taken.listeners.iter().map(|(address, _)| address).collect();
    same_address(&received, listen.address)?;
    Ok(taken)
}

/// Checks that the address of the gateway is among those of the old process, unless there is none.
fn same_address(of_old: &[SocketAddr], address: SocketAddr) -> Result<(), RunError> {
    if of_old.is_empty() || of_old.contains(&address) {
        return Ok(());
    }
    let alike = of_old.iter().filter(|old| old.port() == address.port());
    let alike: Vec<_> = alike.map(ToString::to_string).collect();
    let all = || of_old.iter().map(ToString::to_string).collect();
    let old = if alike.is_empty() { all() } else { alike };
    Err(RunError::Start(format!(
        "the running process listens at {}, and the file asks for {address}: an upgrade cannot change `port` and `listen_ip`; restart to apply them",
        old.join(", ")
    )))
}

/// The certificates of the listener. After an upgrade they have the ticket keys of the old process, which waits for our
/// report and replies until then.
fn certificates(listen: &Listen, is_upgrade: bool) -> Result<Option<Arc<Certificates>>, RunError> {
    let Some(tls) = &listen.tls else {
        return Ok(None);
    };
    let tickets = if is_upgrade {
        hand_over::tickets(listen.address.port())
    } else {
        None
    };
    let tickets = tickets.and_then(|text| Tickets::handed_over(&text));
    let certificates = Certificates::take_over(tls.clone(), tickets)?;
    Ok(Some(Arc::new(certificates)))
}

/// Runs the server on a thread of its own. The sender stops it.
fn spawn(server: Server) -> Result<watch::Sender<bool>, RunError> {
    let (stop, stopped) = watch::channel(false);
    std::thread::Builder::new()
        .name("server".to_owned())
        .spawn(move || {
            server.run(RunArgs {
                shutdown_signal: Box::new(Stop(stopped)),
            })
        })
        .map_err(|error| RunError::Start(error.to_string()))?;
    Ok(stop)
}

/// Binds an admin listener. `None` if it is optional and cannot be bound, which is logged.
fn bind_side(
    listeners: &mut Listeners,
    side: &AdminListener,
) -> Result<Option<std::net::TcpListener>, RunError> {
    match bind(listeners, side.address, side.block) {
        Err(error) if side.optional => {
            log::error!("[SERVICE: Stats] {error}");
            Ok(None)
        }
        bound => bound.map(Some),
    }
}

/// The service that accepts the connections of an admin listener.
fn admin_listener(
    app: AdminServer,
    socket: std::net::TcpListener,
    accept_loops: &Arc<AcceptLoops>,
    spare: &Arc<Spare>,
) -> AcceptLoop<AdminServer> {
    let app = Arc::new(app);
    let connection_limit = ConnectionLimit::near(admin::MAX_CONNECTIONS);
    AcceptLoop::new("side", socket, app, connection_limit, accept_loops)
        .with_spare(Arc::clone(spare))
}

fn bind(
    listeners: &mut Listeners,
    address: SocketAddr,
    key: &'static str,
) -> Result<std::net::TcpListener, RunError> {
    let bound = listeners.listen(address);
    bound.map_err(|source| RunError::Bind {
        address,
        source,
        key,
    })
}

/// The limit of client connections, according to the limits of system and configuration.
fn connection_limit(descriptors: Option<u64>, max_connections: usize) -> Arc<ConnectionLimit> {
    let free = descriptors.map_or(usize::MAX, descriptors::free);
    let share = descriptors::client_share(free);
    let fitting = memory_share(budget::half_of_memory());
    let places = share.min(fitting);
    let upstreams = descriptors::upstream_share(free, places.min(max_connections));
    Sockets::process().allow(upstreams);
    if places < max_connections {
        let scarce = if fitting < share {
            "memory"
        } else {
            "file descriptors"
        };
        log::info!(
            "[SERVICE: Gateway] The limit of {scarce} allows at most {places} client connections at a time"
        );
    }
    ConnectionLimit::weighing(CONNECTION, places, max_connections)
}

/// The memory of a connection with a small request that waits for its backend or for the rest of a small body, which
/// the budget of buffered bytes does not count: measured as 62 KiB.
const CONNECTION: u64 = 64 * 1024;

/// The number of client connections that fit into this half of the memory. The other half is for what they send.
fn memory_share(half: u64) -> usize {
    usize::try_from((half / CONNECTION).max(1)).unwrap_or(usize::MAX)
}

/// The number of threads that handle requests.
pub(crate) fn workers(listen: &Listen) -> usize {
    listen
        .threads
        .unwrap_or_else(crate::upstream::processors::granted)
}

fn server_conf(listen: &Listen) -> ServerConf {
    ServerConf {
        threads: workers(listen),
        // Pingora sleeps this long after a stop. The process ends earlier, as soon as the last request is done.
        grace_period_seconds: Some(listen.drain.as_secs().saturating_add(60)),
        graceful_shutdown_timeout_seconds: Some(1),
        max_retries: 2,
        // Its proxy makes no calls: ours has answered every request before.
        ca_file: crate::upstream::no_certificates(),
        ..ServerConf::default()
    }
}

/// Passes Pingora the command that ends its main loop.
struct Stop(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        // An error means that the process is ending, which is a stop too.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
        ShutdownSignal::GracefulTerminate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_memory_bounds_the_connections() {
        assert_eq!(memory_share(128 << 20), 2048);
        assert_eq!(memory_share(0), 1);
        assert!(memory_share(8 << 30) > 100_000);
    }
}
