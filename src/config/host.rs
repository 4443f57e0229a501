//! Sanitises hosts as KrakenD does.

use std::sync::LazyLock;

use regex::Regex;

/// A host in the form `scheme://name:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clean {
    pub url: String,
    /// The text had more around it than a single slash at its end.
    pub cut: bool,
}

/// Converts `http://name:port/`, `name:port` or `name` to the form `scheme://name:port`.
///
/// As in KrakenD, the scheme is `http` unless given, and characters around a host are removed: one slash at its end,
/// and spaces, line feeds, quotes, brackets and the like, which may come from environment variables and secret files.
/// Letters are not removed, which would give another host, nor are placeholders. Paths,
/// user names and other schemes are rejected. Unlike in KrakenD, IPv6 addresses in brackets and ports of one digit
/// are accepted, and `http://` alone is not. `None` if the text is not a host.
pub(crate) fn sanitise(text: &str) -> Option<Clean> {
    if let Some(url) = strict(text) {
        return Some(Clean { url, cut: false });
    }
    let surrounds = |c: char| !c.is_alphanumeric() && !"._-:[]${}%".contains(c);
    let inner = text.trim_matches(surrounds);
    let inner = inner.strip_prefix("://").unwrap_or(inner);
    let inner = inner.trim_end_matches(|c| c == ':' || surrounds(c));
    // A scheme alone is not a host.
    if text.contains("://") && matches!(inner, "http" | "https") {
        return None;
    }
    let bare = || inner.trim_matches(|c| matches!(c, '[' | ']') || surrounds(c));
    strict(inner)
        .or_else(|| strict(bare()).filter(|_| taken_by_krakend(text)))
        .map(|url| Clean { url, cut: true })
}

/// Whether KrakenD accepts the text as a host although it is not one. KrakenD searches for a name anywhere in it, and
/// requires exactly one match.
pub(crate) fn taken_by_krakend(text: &str) -> bool {
    static NAME: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(https?://)?([a-zA-Z0-9._\-]+)(:[0-9]{2,6})?/?").ok());
    let Some(name) = &*NAME else { return false };
    name.find_iter(text).count() == 1
}

/// Whether the text contains a placeholder that was not filled in: `$NAME`, `${NAME}`, `{NAME}`, `{{ .name }}`,
/// `%NAME%`.
pub(crate) fn is_unfilled(text: &str) -> bool {
    text.contains(['$', '{', '%'])
}

/// A host that is used verbatim, with a path before its query, because a request target needs a path.
pub(crate) fn with_path(text: &str) -> String {
    let authority = text.find("://").map_or(0, |at| at + 3);
    let (before, rest) = text.split_at(authority);
    match rest.find(['/', '?', '#']) {
        Some(at) if rest[at..].starts_with('?') => {
            format!("{before}{}/{}", &rest[..at], &rest[at..])
        }
        _ => text.to_owned(),
    }
}

fn strict(text: &str) -> Option<String> {
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
        // `u16` parsing accepts a sign, so digits are checked separately. 0 is not a port.
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
    fn hosts_get_a_scheme_and_their_slash_is_removed() {
        for (text, clean) in [
            ("http://a", "http://a"),
            ("https://a.example:8443/", "https://a.example:8443"),
            ("a_b-c:80", "http://a_b-c:80"),
            ("http://a:1", "http://a:1"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("[fe80::1]", "http://[fe80::1]"),
        ] {
            let want = Clean {
                url: clean.to_owned(),
                cut: false,
            };
            assert_eq!(sanitise(text), Some(want), "{text}");
        }
    }

    #[test]
    fn characters_around_a_host_are_removed() {
        for text in [
            "http://a:80\n",
            "\thttp://a:80 ",
            " http://a:80/ \r\n",
            "http://a:80//",
            "http://a:80#",
            "http://a:80/?",
            "\"http://a:80\"",
            "'http://a:80'",
            "//a:80",
            "a:80//",
            "://a:80",
            "\u{feff}http://a:80",
            "\u{a0}a:80\0",
            "http://a:80:",
            "http://a:80,",
            "\u{200b}http://a:80",
            "<http://a:80>",
            "“http://a:80”",
            "[http://a:80]",
            "(a:80)",
        ] {
            let want = Clean {
                url: "http://a:80".to_owned(),
                cut: true,
            };
            assert_eq!(sanitise(text), Some(want), "{text:?}");
        }
        let v6 = sanitise("http://[::1]:8080\n").map(|clean| clean.url);
        assert_eq!(v6.as_deref(), Some("http://[::1]:8080"));
    }

    #[test]
    fn a_verbatim_host_has_a_path_before_its_query() {
        for (text, clean) in [
            ("http://h?x=", "http://h/?x="),
            ("http://h:1?x=/y", "http://h:1/?x=/y"),
            ("http://h/f?url=", "http://h/f?url="),
            ("http://h", "http://h"),
            ("http://h/", "http://h/"),
            ("h", "h"),
        ] {
            assert_eq!(with_path(text), clean);
        }
    }

    #[test]
    fn invalid_hosts_are_rejected() {
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
            "http:// a",
            "http://a b",
            "a\nb",
            "$HOST",
            "{{ .host }}",
            "\n",
            "//",
            "https:// ",
            "a:+8",
            "http://[::1",
            "http://[x]",
            "école.fr",
            "%HOST%",
            "[$HOST]",
        ] {
            assert_eq!(sanitise(text), None, "{text}");
        }
    }

    #[test]
    fn krakend_accepts_a_text_with_exactly_one_name() {
        for text in [
            "$HOST",
            "{HOST}",
            "${HOST}",
            "{{ .host }}",
            "::1",
            "http://",
            "http://a:70000",
            "[x]",
        ] {
            assert!(taken_by_krakend(text), "{text}");
        }
        for text in [
            "",
            "//",
            "http://$HOST",
            "http://a/b",
            "a b",
            "ws://a",
            "HTTP://A",
            "http://u:p@a",
            "http://a:0",
        ] {
            assert!(!taken_by_krakend(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_clean_host_is_unchanged(text in "(https?://)?[a-z0-9._-]{1,9}(:[1-9][0-9]{0,3})?/?") {
            let clean = sanitise(&text).unwrap();
            prop_assert!(!clean.cut);
            prop_assert_eq!(sanitise(&clean.url), Some(clean));
        }

        #[test]
        fn arbitrary_text_around_a_host_does_not_panic(text in "[ \\t\\n'\"/#:a\\[\\]é.]{0,12}") {
            if let Some(clean) = sanitise(&text) {
                prop_assert_eq!(sanitise(&clean.url).map(|again| again.url), Some(clean.url));
            }
        }
    }
}
