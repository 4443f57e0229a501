//! URLs of Redis servers. Every part of a URL has an effect, or the URL is rejected.

use std::fmt;
use std::sync::Arc;

use reqwest::Url;

use super::server::{Address, Credentials, Sentinels, Server, ServerKind};
use crate::runtime::template::escape::strictly_decoded;
use crate::upstream::SideTls;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// The parameters of a sentinel, in addition to `node`.
const SERVICE: &str = "sentinelServiceName";
const USER: &str = "sentinelUsername";
const PASSWORD: &str = "sentinelPassword";

/// The longest name of a parameter that a message shows.
const MAX_SHOWN: usize = 24;

/// Why a text is not the URL of a Redis server. No message contains the text, which may have a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UrlError {
    /// It is not a URL, or its scheme or host is not that of a Redis server.
    NotRedis,
    Fragment,
    /// The user or the password has an invalid escape.
    Escape(&'static str),
    /// The path is not the number of a database.
    Database,
    /// A cluster has a single database.
    DatabaseOfCluster,
    /// A parameter without effect, by its name if that can be shown.
    Parameter(Option<String>),
    /// A parameter that may appear only once.
    Twice(&'static str),
    Missing(&'static str),
    /// A `node` is not an address.
    Node,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlError::NotRedis => {
                f.write_str("this is not the address of a Redis: redis://host:6379")
            }
            UrlError::Fragment => f.write_str(
                "\"#\" and what follows it has no effect: in a user or a password, it is written as %23",
            ),
            UrlError::Escape(why) => write!(f, "in the user or the password, {why}: a \"%\" is written as %25"),
            UrlError::Database => f.write_str(
                "the path is the number of a database from 0 to 255: redis://host:6379/3",
            ),
            UrlError::DatabaseOfCluster => {
                f.write_str("a cluster has only database 0: remove the path")
            }
            UrlError::Parameter(Some(name)) if matches!(name.as_str(), "db" | "database") => write!(
                f,
                "the parameter {name:?} has no effect: the database is the path, redis://host:6379/3"
            ),
            UrlError::Parameter(Some(name)) => {
                write!(f, "the parameter {name:?} of the query has no effect")
            }
            UrlError::Parameter(None) => f.write_str("a parameter of the query has no effect"),
            UrlError::Twice(name) => write!(f, "the parameter {name:?} appears twice"),
            UrlError::Missing(name) => write!(f, "the parameter {name:?} is missing"),
            UrlError::Node => f.write_str("a \"node\" is not the address of a server: host:6379"),
        }
    }
}

/// Reads the servers that a URL names.
type ReadKind = fn(&Url) -> Result<ServerKind, UrlError>;

impl Server {
    /// `redis://user:password@host:6379/0`, and the schemes `rediss`, `redis-cluster`, `rediss-cluster`,
    /// `redis-sentinel` and `rediss-sentinel`. Further members or sentinels are in `node=host:port` of the query, the name of the
    /// primary in `sentinelServiceName`, and the sentinels' own credentials in `sentinelUsername` and
    /// `sentinelPassword`.
    ///
    /// # Errors
    /// It is not such a URL, or a part of it would have no effect.
    pub(crate) fn from_url(text: &str) -> Result<Server, UrlError> {
        let url = Url::parse(text).map_err(|_| UrlError::NotRedis)?;
        let (is_tls, kind): (bool, ReadKind) = match url.scheme() {
            "redis" => (false, one),
            "rediss" => (true, one),
            "redis-cluster" => (false, cluster),
            "rediss-cluster" => (true, cluster),
            "redis-sentinel" => (false, sentinels),
            "rediss-sentinel" => (true, sentinels),
            _ => return Err(UrlError::NotRedis),
        };
        let kind = kind(&url)?;
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        let database = match (&kind, database(&url)?) {
            (ServerKind::Cluster(_), Some(1..)) => return Err(UrlError::DatabaseOfCluster),
            (ServerKind::Cluster(_), _) => None,
            (ServerKind::One(_) | ServerKind::Sentinel(_), database) => database,
        };
        let tls = if is_tls {
            // Without files of its own, this cannot fail.
            let config = SideTls::default().config();
            Some(Arc::new(config.map_err(|_| UrlError::NotRedis)?))
        } else {
            None
        };
        let user = strictly_decoded(url.username()).map_err(UrlError::Escape)?;
        let password = strictly_decoded(url.password().unwrap_or_default());
        let password = password.map_err(UrlError::Escape)?;
        Ok(Server {
            kind,
            credentials: Credentials::new(user, password),
            database,
            tls,
        })
    }
}

fn one(url: &Url) -> Result<ServerKind, UrlError> {
    known(url, &[])?;
    Ok(ServerKind::One(first(url, PORT)?))
}

fn cluster(url: &Url) -> Result<ServerKind, UrlError> {
    known(url, &["node"])?;
    Ok(ServerKind::Cluster(all(url, PORT)?))
}

fn sentinels(url: &Url) -> Result<ServerKind, UrlError> {
    known(url, &["node", SERVICE, USER, PASSWORD])?;
    let credentials = Credentials::new(
        single(url, USER)?.unwrap_or_default(),
        single(url, PASSWORD)?.unwrap_or_default(),
    );
    let service = single(url, SERVICE)?.filter(|name| !name.is_empty());
    Ok(ServerKind::Sentinel(Sentinels {
        addresses: all(url, SENTINEL_PORT)?,
        service: service.ok_or(UrlError::Missing(SERVICE))?,
        credentials,
    }))
}

/// Checks that the query has only these parameters.
fn known(url: &Url, names: &[&str]) -> Result<(), UrlError> {
    let mut pairs = url.query_pairs();
    let Some((name, _)) = pairs.find(|(name, _)| !names.contains(&&**name)) else {
        return Ok(());
    };
    // What does not look like a name may be a part of a password.
    let is_name = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_shown = !name.is_empty() && name.len() <= MAX_SHOWN && name.bytes().all(is_name);
    Err(UrlError::Parameter(is_shown.then(|| name.into_owned())))
}

/// The value of a parameter that may appear only once.
fn single(url: &Url, name: &'static str) -> Result<Option<String>, UrlError> {
    let mut values = url.query_pairs().filter(|(known, _)| known == name);
    let value = values.next().map(|(_, value)| value.into_owned());
    match values.next() {
        Some(_) => Err(UrlError::Twice(name)),
        None => Ok(value),
    }
}

/// The address before the path.
fn first(url: &Url, port: u16) -> Result<Address, UrlError> {
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or(UrlError::NotRedis)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Address::new(host, url.port().unwrap_or(port)))
}

/// That address and those of the query.
fn all(url: &Url, port: u16) -> Result<Vec<Address>, UrlError> {
    let mut addresses = vec![first(url, port)?];
    for (_, value) in url.query_pairs().filter(|(name, _)| name == "node") {
        let (host, port) = crate::ext::redis_pools::split(&value).ok_or(UrlError::Node)?;
        addresses.push(Address::new(host, port));
    }
    Ok(addresses)
}

/// The number in the path.
fn database(url: &Url) -> Result<Option<u8>, UrlError> {
    match url.path().strip_prefix('/').unwrap_or(url.path()) {
        "" => Ok(None),
        number => number.parse().map(Some).map_err(|_| UrlError::Database),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_servers_clusters_and_sentinels() {
        let server = |url: &str| Server::from_url(url).unwrap();
        let one = server("redis://us%40er:pa%2Fss@[::1]/3");
        assert_eq!(one.kind, ServerKind::One(Address::new("::1", 6379)));
        assert_eq!(one.database, Some(3));
        let credentials = one.credentials.unwrap();
        assert_eq!(credentials.user.as_deref(), Some("us@er"));
        assert_eq!(credentials.password, "pa/ss");
        let plain = server("redis://h");
        assert!(plain.credentials.is_none() && plain.database.is_none() && plain.tls.is_none());
        let cluster = server("redis-cluster://:x@a:1/0?node=b:2&node=c");
        let members = vec![
            Address::new("a", 1),
            Address::new("b", 2),
            Address::new("c", 6379),
        ];
        assert_eq!(cluster.kind, ServerKind::Cluster(members));
        assert_eq!(cluster.database, None);
        assert_eq!(cluster.credentials.unwrap().user, None);
        let url = "redis-sentinel://a/1?node=b:2&sentinelServiceName=main&sentinelPassword=s";
        let ServerKind::Sentinel(sentinels) = server(url).kind else {
            panic!()
        };
        let addresses = [Address::new("a", 26379), Address::new("b", 2)];
        assert_eq!(sentinels.addresses, addresses);
        assert_eq!(sentinels.service, "main");
        assert_eq!(sentinels.credentials.unwrap().password, "s");
        let nobody = server("redis://us@h").credentials.unwrap();
        assert_eq!(
            (nobody.user.as_deref(), &*nobody.password),
            (Some("us"), "")
        );
        assert!(server("redis://default@h").credentials.is_none());
    }

    #[test]
    fn every_part_of_a_url_has_an_effect_or_is_an_error() {
        let parameter = |name: &str| UrlError::Parameter(Some(name.to_owned()));
        let malformed = UrlError::Escape("a % is not followed by two hexadecimal digits");
        for (url, expected) in [
            ("http://h", UrlError::NotRedis),
            ("redis+unix:///tmp/x", UrlError::NotRedis),
            ("h:6379", UrlError::NotRedis),
            ("redis://", UrlError::NotRedis),
            ("redis://h:99999", UrlError::NotRedis),
            ("redis-proxy://h", UrlError::NotRedis),
            ("redis://:p%zz@h", malformed.clone()),
            ("redis://u%@h", malformed.clone()),
            (
                "redis://u:%ff@h",
                UrlError::Escape("an escaped part is not UTF-8"),
            ),
            ("redis://h/x", UrlError::Database),
            ("redis://h/256", UrlError::Database),
            ("redis://h/1/2", UrlError::Database),
            ("redis://h/#4", UrlError::Fragment),
            ("redis-cluster://h/3", UrlError::DatabaseOfCluster),
            ("redis-cluster://h/x", UrlError::Database),
            ("redis-cluster://h?node=", UrlError::Node),
            ("redis-cluster://h?nodes=x", parameter("nodes")),
            ("redis://h?db=3", parameter("db")),
            ("redis://h/2?db=3", parameter("db")),
            ("redis://h?node=x", parameter("node")),
            ("redis://h?pa55", UrlError::Parameter(None)),
            (
                "redis-sentinel://h",
                UrlError::Missing("sentinelServiceName"),
            ),
            (
                "redis-sentinel://h?sentinelServiceName=a&sentinelServiceName=b",
                UrlError::Twice("sentinelServiceName"),
            ),
        ] {
            assert_eq!(Server::from_url(url).err(), Some(expected), "{url}");
        }
    }

    #[test]
    fn url_schemes_with_tls_have_a_configuration() {
        crate::jose::install_crypto();
        for url in ["rediss://h", "rediss-cluster://h"] {
            assert!(Server::from_url(url).unwrap().tls.is_some(), "{url}");
        }
    }
}
