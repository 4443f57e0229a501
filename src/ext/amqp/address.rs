//! The URL of a broker: `amqp://user:password@host:5672/vhost?heartbeat=30`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::ext::broker::port;
use crate::runtime::template::escape::strictly_decoded;
use crate::telemetry::mask::KnownSecrets;

/// The user and the password of a new RabbitMQ, which are no secret.
const DEFAULT: &str = "guest";

/// 0 would leave a frozen broker unnoticed.
const MIN_HEARTBEAT: u16 = 1;
const HEARTBEAT: u16 = 10;
const CONNECT: Duration = Duration::from_secs(30);

/// A broker, and how to connect to it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Broker {
    /// With brackets around an address of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) virtual_host: String,
    /// Its name in messages, if its address is not shown.
    pub(super) name: Option<&'static str>,
    /// In seconds.
    pub(super) heartbeat: u16,
    pub(super) connect: Duration,
    /// `amqps`.
    pub(super) tls: bool,
    /// The name in the certificate, if it is not the host.
    pub(super) server_name: Option<String>,
    pub(super) authorities: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Broker {
    /// Reads a URL. The defaults are those of RabbitMQ's URI specification.
    ///
    /// # Errors
    /// It is no address of a broker. The text contains no secret.
    pub(super) fn parse(text: &str) -> Result<Broker, String> {
        let uri: Uri = text.trim().parse().map_err(|_| "no URL".to_owned())?;
        let tls = match uri.scheme_str() {
            Some("amqp") => false,
            Some("amqps") => true,
            _ => return Err("the scheme must be amqp or amqps".to_owned()),
        };
        let authority = uri.authority().ok_or("no host")?;
        let (user, password) = match authority.as_str().rsplit_once('@') {
            None => (DEFAULT.to_owned(), DEFAULT.to_owned()),
            Some((info, _)) => {
                let (user, password) = info.split_once(':').unwrap_or((info, ""));
                (strictly_decoded(user)?, strictly_decoded(password)?)
            }
        };
        let host = authority.host();
        if host.is_empty() {
            return Err("no host".to_owned());
        }
        let path = uri.path().strip_prefix('/').unwrap_or_default();
        if path.contains('/') {
            return Err("a slash in the virtual host must be written as %2f".to_owned());
        }
        let virtual_host = strictly_decoded(path)?;
        let mut broker = Broker {
            host: host.to_owned(),
            port: port(authority)?.unwrap_or(if tls { 5671 } else { 5672 }),
            user,
            password,
            virtual_host: Some(virtual_host)
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "/".to_owned()),
            name: None,
            heartbeat: HEARTBEAT,
            connect: CONNECT,
            tls,
            server_name: None,
            authorities: None,
            certificate: None,
            private_key: None,
        };
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            broker.option(&name, &value)?;
        }
        if broker.virtual_host.len() > 255 {
            return Err("the virtual host is longer than 255 bytes".to_owned());
        }
        if broker.certificate.is_some() != broker.private_key.is_some() {
            return Err("certfile and keyfile must be set together".to_owned());
        }
        Ok(broker)
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "heartbeat" => {
                let seconds = value.parse().ok();
                let seconds = seconds.filter(|seconds| *seconds >= MIN_HEARTBEAT);
                self.heartbeat = seconds.ok_or_else(|| {
                    format!("heartbeat: seconds from {MIN_HEARTBEAT} to {}", u16::MAX)
                })?;
            }
            "connection_timeout" => {
                let time = value.parse().ok().filter(|time| (1..=600_000).contains(time));
                let time = time.ok_or("connection_timeout: milliseconds from 1 to 600000")?;
                self.connect = Duration::from_millis(time);
            }
            "auth_mechanism" if value.eq_ignore_ascii_case("plain") => {}
            "auth_mechanism" => return Err("auth_mechanism: only plain is supported".to_owned()),
            // The server decides.
            "channel_max" => {}
            "cacertfile" => self.authorities = Some(value.into()),
            "certfile" => self.certificate = Some(value.into()),
            "keyfile" => self.private_key = Some(value.into()),
            "server_name_indication" => self.server_name = Some(value.to_owned()),
            _ => return Err("an option is unknown; the options are heartbeat, connection_timeout, channel_max, \
                             auth_mechanism, cacertfile, certfile, keyfile and server_name_indication".to_owned()),
        }
        Ok(())
    }

    /// What the broker says, for the log. It may repeat the password.
    pub(super) fn said(&self, text: &str) -> String {
        let mut known = KnownSecrets::default();
        if self.password != DEFAULT {
            known.add(&self.password);
        }
        known.shown_or_note(text)
    }

    /// The name, or the address without secrets.
    pub(super) fn shown(&self) -> String {
        if let Some(name) = self.name {
            return name.to_owned();
        }
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let path = if self.virtual_host == "/" {
            String::new()
        } else {
            format!("/{}", self.virtual_host)
        };
        format!("{scheme}://{}:{}{path}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_in_rabbitmq() {
        let broker = Broker::parse("amqp://h").unwrap();
        assert_eq!((broker.port, broker.tls), (5672, false));
        assert_eq!((&*broker.user, &*broker.virtual_host), ("guest", "/"));
        let broker =
            Broker::parse("amqps://u%40x:p%3Aw@[::1]:1/a%2fb?heartbeat=60&connection_timeout=500")
                .unwrap();
        assert_eq!((&*broker.user, &*broker.password), ("u@x", "p:w"));
        assert_eq!((&*broker.host, broker.port), ("[::1]", 1));
        assert_eq!((&*broker.virtual_host, broker.heartbeat), ("a/b", 60));
        assert_eq!(broker.connect, Duration::from_millis(500));
        assert_eq!(format!("{broker:?}"), "amqps://[::1]:1/a/b");
    }

    #[test]
    fn what_cannot_work_is_an_error_without_secrets() {
        for url in [
            "http://u:secret@h",
            "amqp://",
            "secret",
            "amqp://u:secret@h?heartbeat=0",
            "amqp://u:secret@h?connection_timeout=x",
            "amqp://u:secret@h?auth_mechanism=external",
            "amqp://u:secret@h?certfile=a",
            "amqp://u:secret@h?other=secret",
            "amqp://u:secret%ff@h",
            "amqp://u:secret%ZZ@h",
            "amqp://u:secret@h:99999/",
            "amqp://u:secret@h:0/",
            "amqp://u:secret@h:x",
            "amqp://u:secret@h:",
            "amqp://u:secret@h/a/b",
        ] {
            let why = Broker::parse(url).unwrap_err();
            assert!(!why.contains("secret"), "{url}: {why}");
        }
    }
}
