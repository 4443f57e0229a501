//! The addresses of servers in `NATS_SERVER_URL`, each with its credentials.

use std::fmt;

use http::Uri;

use crate::ext::broker::{port, without_brackets};
use crate::runtime::template::escape::strictly_decoded;
use crate::telemetry::mask::KnownSecrets;

const PORT: u16 = 4222;

/// How the gateway authenticates to the server.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
}

impl Credentials {
    /// What the server says, for the log. It may repeat the secrets.
    pub(super) fn said(&self, text: &str) -> String {
        let mut known = KnownSecrets::default();
        let secrets = [&self.password, &self.token];
        secrets
            .into_iter()
            .flatten()
            .for_each(|secret| known.add(secret));
        known.shown_or_note(text)
    }
}

/// A server.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// With brackets around an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// `tls`: the certificate is checked, whatever the server asks for.
    pub(super) tls: bool,
    pub(super) credentials: Credentials,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Server {
    /// The host without brackets.
    pub(super) fn name(&self) -> &str {
        without_brackets(&self.host)
    }
}

/// The servers of one cluster, with commas between them, as in KrakenD.
///
/// # Errors
/// One of them is not an address. The text contains no secret.
pub(super) fn servers(text: &str) -> Result<Vec<Server>, String> {
    text.split(',').map(|part| server(part.trim())).collect()
}

/// `nats://user:password@host:4222`, `tls://token@host`, or without a scheme.
fn server(text: &str) -> Result<Server, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "nats" => false,
        "tls" => true,
        _ => return Err("the scheme must be nats or tls".to_owned()),
    };
    let (info, place) = match rest.rsplit_once('@') {
        Some((info, place)) => (Some(info), place),
        None => (None, rest),
    };
    let uri: Uri = format!("nats://{place}")
        .parse()
        .map_err(|_| "it is not a URL".to_owned())?;
    let authority = uri.authority().ok_or("it names no host")?;
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err("it names no host".to_owned());
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("nothing may follow the port".to_owned());
    }
    Ok(Server {
        host: authority.host().to_owned(),
        port: port(authority)?.unwrap_or(PORT),
        tls,
        credentials: info.map(credentials).transpose()?.unwrap_or_default(),
    })
}

/// `user:password`, or a token alone.
fn credentials(info: &str) -> Result<Credentials, String> {
    Ok(match info.split_once(':') {
        Some((user, password)) => Credentials {
            user: Some(strictly_decoded(user)?),
            password: Some(strictly_decoded(password)?),
            token: None,
        },
        None if info.is_empty() => Credentials::default(),
        None => Credentials {
            token: Some(strictly_decoded(info)?),
            ..Credentials::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_its_own_credentials() {
        let read = servers("nats://u:p%40w@a:4223, tls://token@[::1], b, nats://:x@c/").unwrap();
        let user = |user: &str, password: &str| Credentials {
            user: Some(user.to_owned()),
            password: Some(password.to_owned()),
            token: None,
        };
        assert_eq!(
            (&*read[0].host, read[0].port, read[0].tls),
            ("a", 4223, false)
        );
        assert!(read[0].credentials == user("u", "p@w"));
        assert_eq!(
            (read[1].name(), read[1].port, read[1].tls),
            ("::1", PORT, true)
        );
        assert_eq!(read[1].credentials.token.as_deref(), Some("token"));
        assert!(read[2].credentials == Credentials::default());
        assert!(read[3].credentials == user("", "x"));
        assert_eq!(format!("{read:?}"), "[a:4223, [::1]:4222, b:4222, c:4222]");
    }

    #[test]
    fn invalid_addresses_are_errors_without_secrets() {
        for url in [
            "",
            "nats://a,",
            ",",
            "nats://",
            "nats://:4222",
            "http://secret@a",
            "ws://u:secret@a",
            "nats://u:secret%zz@a",
            "nats://u:secret%ff@a",
            "nats://secret@a:0",
            "nats://secret@a:99999",
            "nats://secret@a:x",
            "nats://secret@a/b",
            "nats://secret@a?b",
            "nats://secret@a b",
        ] {
            let why = servers(url).unwrap_err();
            assert!(!why.contains("secret"), "{url}: {why}");
        }
    }
}
