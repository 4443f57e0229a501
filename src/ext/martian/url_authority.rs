//! Scheme, host and port of a request, as in `scheme://host:port`.

use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipe::PipeRequest;

/// The authority of an origin, without credentials, which must not appear in URLs.
pub(super) fn authority(origin: &str) -> &str {
    let authority = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

/// The scheme of an origin, in its original case.
pub(super) fn scheme(origin: &str) -> &str {
    origin.split_once("://").map_or("", |(scheme, _)| scheme)
}

/// Host and port of an authority. Brackets are kept.
pub(super) fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// The port of an origin, or the default port of its scheme.
pub(super) fn port(origin: &str) -> Option<u16> {
    match split(authority(origin)).1 {
        Some("") | None => Some(usual(scheme(origin))),
        Some(port) => port.parse().ok(),
    }
}

fn usual(scheme: &str) -> u16 {
    if scheme.eq_ignore_ascii_case("https") {
        443
    } else {
        80
    }
}

/// The whole URL of the request, without credentials.
pub(super) fn url(request: &PipeRequest) -> String {
    let origin = request.origin.as_deref().unwrap_or_default();
    let (scheme, authority) = (scheme(origin), authority(origin));
    format!("{scheme}://{authority}{}", request.target())
}

/// Whether the text is valid as the authority of a URL: a host with an optional port.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let Ok(authority) = http::uri::Authority::try_from(text) else {
        return false;
    };
    let (host, port) = split(authority.as_str());
    let is_port = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('+');
    !host.is_empty() && !authority.as_str().contains('@') && port.is_none_or(is_port)
}

/// Whether a host, including its port, matches `pattern`, where `*` matches any label.
pub(super) fn host_matches(host: &str, pattern: &str) -> bool {
    let (mut labels, mut wanted) = (host.split('.'), pattern.split('.'));
    loop {
        match (labels.next(), wanted.next()) {
            (None, None) => return true,
            (Some(_), Some("*")) => {}
            (Some(label), Some(want)) if label.eq_ignore_ascii_case(want) => {}
            _ => return false,
        }
    }
}

/// The change of `port.Modifier`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Set(u16),
    /// The default port of the scheme, written explicitly.
    Usual,
    Remove,
}

impl Port {
    /// Changes the port of the request's URL, and of a `Host` that was set.
    ///
    /// # Errors
    /// The `Host` is not a valid header value.
    pub(crate) fn apply(self, request: &mut PipeRequest) -> Result<(), Failure> {
        let Some(origin) = request.origin.take() else {
            return Ok(());
        };
        let (scheme, authority) = (scheme(&origin), authority(&origin));
        let changed = self.of(authority, scheme);
        if let Some(host) = request.headers.get(http::header::HOST) {
            let host = host.to_str().unwrap_or_default();
            let value = http::HeaderValue::try_from(self.of(host, scheme))
                .map_err(|_| Failure::new(Kind::Request, "http: invalid Host header"))?;
            request.headers.insert(http::header::HOST, value);
        }
        request.origin = Some(format!("{scheme}://{changed}").into());
        Ok(())
    }

    fn of(self, authority: &str, scheme: &str) -> String {
        let host = split(authority).0;
        match self {
            Port::Set(port) => format!("{host}:{port}"),
            Port::Usual => format!("{host}:{}", usual(scheme)),
            Port::Remove => host.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_parsed() {
        for (origin, host, port) in [
            ("http://h", "h", 80),
            ("HTTPS://h", "h", 443),
            ("http://h:81", "h:81", 81),
            ("https://u:p@h:8443", "h:8443", 8443),
            ("http://[::1]", "[::1]", 80),
            ("http://[::1]:9", "[::1]:9", 9),
        ] {
            assert_eq!((authority(origin), super::port(origin)), (host, Some(port)));
        }
        assert_eq!(super::port("http://h:x"), None);
    }

    #[test]
    fn a_host_is_matched_label_by_label() {
        for (host, pattern) in [
            ("a.b.c", "a.b.c"),
            ("a.B.c:80", "A.*.c:80"),
            ("a", "*"),
            ("127.0.0.1:80", "127.0.0.*"),
        ] {
            assert!(host_matches(host, pattern), "{host} {pattern}");
        }
        for (host, pattern) in [
            ("a.b.c", "*.c"),
            ("a.b", "a.b.*"),
            ("a.b:80", "a.b"),
            ("ab.c", "a*.c"),
        ] {
            assert!(!host_matches(host, pattern), "{host} {pattern}");
        }
    }

    #[test]
    fn only_a_host_and_a_port_form_an_authority() {
        for good in ["h", "h:80", "[::1]", "[::1]:80", "a-b.c"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "u@h", "h:", "h:x", "h:+8", "h/x", "h h", "h:70000", "h\u{e4}",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
