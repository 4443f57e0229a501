//! Host texts, cleaned as the reference cleans them.

/// Brings `http://name:port/`, `name:port` or `name` into the form `scheme://name:port`.
///
/// As KrakenD does: the scheme is `http` unless given, one trailing slash is dropped, paths, user names and other
/// schemes are refused. Unlike it, IPv6 addresses in brackets and ports of one digit are accepted, `http://` is not.
/// `None` when the text is no host.
pub fn sanitise(text: &str) -> Option<String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return None,
        None => ("http", text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (name, port) = split_port(rest)?;
    if !is_name(name) {
        return None;
    }
    if let Some(port) = port {
        // `u16` refuses signs only with a digit check, and 0 is no port.
        if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().ok()? == 0 {
            return None;
        }
    }
    Some(format!("{scheme}://{rest}"))
}

fn split_port(rest: &str) -> Option<(&str, Option<&str>)> {
    if rest.starts_with('[') {
        let end = rest.find(']')?;
        let (name, after) = rest.split_at(end + 1);
        return match after.strip_prefix(':') {
            Some(port) => Some((name, Some(port))),
            None if after.is_empty() => Some((name, None)),
            None => None,
        };
    }
    match rest.split_once(':') {
        Some((name, port)) => Some((name, Some(port))),
        None => Some((rest, None)),
    }
}

fn is_name(name: &str) -> bool {
    if let Some(address) = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
    {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_get_a_scheme_and_lose_their_slash() {
        for (text, clean) in [
            ("http://a", "http://a"),
            ("https://a.example:8443/", "https://a.example:8443"),
            ("a_b-c:80", "http://a_b-c:80"),
            ("http://a:1", "http://a:1"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("[fe80::1]", "http://[fe80::1]"),
        ] {
            assert_eq!(sanitise(text).as_deref(), Some(clean), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            "http://",
            "http://a/b",
            "http://x.example/base/path",
            "http://a b c",
            "ws://a",
            "HTTP://A",
            "http://u:p@a",
            "::1",
            "http://a:0",
            "http://a:70000",
            "http://a:",
            "a:+8",
            "http://[::1",
            "http://[x]",
            "http://a//",
        ] {
            assert_eq!(sanitise(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_clean_host_stays_as_it_is(text in "(https?://)?[a-z0-9._-]{1,9}(:[1-9][0-9]{0,3})?/?") {
            let clean = sanitise(&text).unwrap();
            prop_assert_eq!(sanitise(&clean), Some(clean.clone()));
        }
    }
}
