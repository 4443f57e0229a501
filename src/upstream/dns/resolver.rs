//! Looks up names: with a resolver that reports TTLs, or through the system.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use futures::future::{Either, select};
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::time::Instant;

use super::table::{LOOKUP_LIMIT, MAX_TTL, MIN_TTL};

/// Names in this file are not looked up at name servers.
const HOSTS_FILE: &str = "/etc/hosts";
/// The file that lists the name servers.
const SERVERS_FILE: &str = "/etc/resolv.conf";
/// How long the content of these files is cached.
const FILE_TTL: Duration = Duration::from_secs(2);
/// How long addresses are used that the system found after a name server had failed. The system reports no TTL, and the name
/// server may have failed for a moment only.
const FALLBACK_TTL: Duration = Duration::from_secs(2);

/// Looks up names.
///
/// The system's resolver knows all sources that the machine is configured for, but reports no TTL. So name servers
/// are queried directly, and the system is used if that fails and for names in `/etc/hosts`.
pub(super) struct Resolver {
    /// `None` if there is no usable `/etc/resolv.conf`.
    direct: ArcSwapOption<TokioResolver>,
    /// Whether `direct` follows changes of `/etc/resolv.conf`.
    of_system: bool,
    files: Mutex<Files>,
}

/// The cached content of the system's files.
#[derive(Default)]
struct Files {
    read: Option<Instant>,
    listed: Arc<HashSet<Box<str>>>,
    servers: Option<SystemTime>,
}

/// The addresses of a name, and their TTL.
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ttl: Duration,
}

impl Resolver {
    /// A resolver that queries the name servers of `/etc/resolv.conf`.
    pub(super) fn of_system() -> Resolver {
        let resolver = Resolver::with(TokioResolver::builder_tokio().ok());
        Resolver {
            of_system: true,
            ..resolver
        }
    }

    /// A resolver that queries these name servers. `None` uses only the system.
    pub(super) fn with(direct: Option<ResolverBuilder<TokioRuntimeProvider>>) -> Resolver {
        Resolver {
            direct: ArcSwapOption::from(direct.and_then(built)),
            of_system: false,
            files: Mutex::default(),
        }
    }

    /// The resolver for records other than addresses.
    pub(super) fn direct(&self) -> Option<Arc<TokioResolver>> {
        self.direct.load_full()
    }

    /// Looks up the addresses of `host`. With `hurry`, a request waits for the first result and both sources are
    /// queried at once.
    ///
    /// # Errors
    /// The name is unknown, or there was no response in time.
    pub(super) async fn addresses(&self, host: &str, hurry: bool) -> Result<Found, String> {
        let listed = self.listed().await;
        let direct = self.direct();
        let direct = direct.filter(|_| !listed.contains(&*host.to_ascii_lowercase()));
        let Some(direct) = direct else {
            return system(host, MAX_TTL).await;
        };
        if !hurry {
            return match ask(&direct, host).await {
                Ok(found) => Ok(found),
                Err(_) => system(host, FALLBACK_TTL).await,
            };
        }
        // The system reports no TTL, so the direct way is tried again soon.
        let (asked, by_system) = (
            Box::pin(ask(&direct, host)),
            Box::pin(system(host, MIN_TTL)),
        );
        match select(asked, by_system).await {
            Either::Left((Ok(found), _)) | Either::Right((Ok(found), _)) => Ok(found),
            Either::Left((Err(_), rest)) => rest.await,
            Either::Right((Err(error), rest)) => rest.await.map_err(|_| error),
        }
    }

    /// The names in `/etc/hosts`. Follows changes of both files.
    async fn listed(&self) -> Arc<HashSet<Box<str>>> {
        {
            let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            if files.read.is_some_and(|read| read.elapsed() < FILE_TTL) {
                return Arc::clone(&files.listed);
            }
        }
        let hosts = tokio::fs::read_to_string(HOSTS_FILE).await;
        let servers = tokio::fs::metadata(SERVERS_FILE).await;
        let servers = servers.and_then(|servers| servers.modified()).ok();
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = files.read.is_none();
        files.read = Some(Instant::now());
        files.listed = Arc::new(names(&hosts.unwrap_or_default()));
        if self.of_system && files.servers != servers && !is_first {
            let builder = TokioResolver::builder_tokio().ok();
            self.direct.store(builder.and_then(built));
        }
        files.servers = servers;
        Arc::clone(&files.listed)
    }
}

/// The resolver caches nothing, because the table does. The TTL of a record, which may be hours, must not hide a
/// change.
fn built(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Option<Arc<TokioResolver>> {
    let options = builder.options_mut();
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().ok().map(Arc::new)
}

/// The names in a hosts file, in lower case.
fn names(text: &str) -> HashSet<Box<str>> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let names = lines.flat_map(|line| line.split_ascii_whitespace().skip(1));
    names.map(|name| name.to_ascii_lowercase().into()).collect()
}

async fn ask(direct: &TokioResolver, host: &str) -> Result<Found, String> {
    let asked = tokio::time::timeout(LOOKUP_LIMIT, direct.lookup_ip(host)).await;
    let found = asked
        .map_err(|_| "lookup timed out".to_owned())?
        .map_err(|error| error.to_string())?;
    let records = found.as_lookup().answers();
    let ttl = records.iter().map(|record| record.ttl).min();
    checked(Found {
        addresses: found.iter().collect(),
        ttl: ttl.map_or(MAX_TTL, |ttl| Duration::from_secs(ttl.into())),
    })
}

async fn system(host: &str, ttl: Duration) -> Result<Found, String> {
    let asked = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((host, 0))).await;
    let found = asked
        .map_err(|_| "lookup timed out".to_owned())?
        .map_err(|error| error.to_string())?;
    checked(Found {
        addresses: found.map(|socket| socket.ip()).collect(),
        ttl,
    })
}

/// Removes duplicate addresses and limits the TTL.
fn checked(found: Found) -> Result<Found, String> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.addresses {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err("no address".to_owned());
    }
    Ok(Found {
        addresses,
        ttl: found.ttl.clamp(MIN_TTL, MAX_TTL),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_hosts_file_are_found() {
        let names = names("# no\n127.0.0.1\tlocalhost Here # not.this\n\n::1 here6\n");
        let mut names: Vec<_> = names.iter().map(|name| &**name).collect();
        names.sort_unstable();
        assert_eq!(names, ["here", "here6", "localhost"]);
    }

    #[test]
    fn a_time_to_live_is_limited() {
        for (seconds, kept) in [(0, 1), (1, 1), (7, 7), (3600, 30)] {
            let found = checked(Found {
                addresses: vec![IpAddr::from([127, 0, 0, 1]); 2],
                ttl: Duration::from_secs(seconds),
            });
            let found = found.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(found.ttl, Duration::from_secs(kept));
            assert_eq!(found.addresses.len(), 1);
        }
    }
}
