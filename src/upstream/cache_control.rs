//! `Cache-Control` (RFC 9111 §5.2).

use http::HeaderMap;
use http::header::CACHE_CONTROL;
use memchr::memchr;

/// The directives of a message that the gateway uses, in seconds where a directive has them.
///
/// Of a directive that occurs more than once, the value counts with which a response is used for the shortest time. A value
/// that is not a number of seconds makes nothing fresh (RFC 9111 §4.2.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheControl {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) public: bool,
    pub(crate) private: bool,
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
    pub(crate) max_stale: Option<Tolerance>,
    pub(crate) stale_if_error: Option<Tolerance>,
}

/// The value of a directive that may have no argument, which means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tolerance {
    Seconds(u64),
    Any,
}

impl CacheControl {
    /// The directives of all lines in `headers`.
    pub(crate) fn of(headers: &HeaderMap) -> CacheControl {
        let mut found = CacheControl::default();
        for line in headers.get_all(CACHE_CONTROL) {
            let mut rest = line.as_bytes();
            while let Some(directive) = next(&mut rest) {
                found.add(directive);
            }
        }
        found
    }

    fn add(&mut self, directive: Directive<'_>) {
        let argument = directive.argument;
        match &*directive.name.to_ascii_lowercase() {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"public" => self.public = true,
            b"private" => self.private = true,
            b"max-age" => shorten(&mut self.max_age, seconds(argument, 0)),
            b"s-maxage" => shorten(&mut self.s_maxage, seconds(argument, 0)),
            b"min-fresh" => self.min_fresh = self.min_fresh.max(Some(seconds(argument, u64::MAX))),
            b"max-stale" => shorten(&mut self.max_stale, tolerance(argument)),
            b"stale-if-error" => shorten(&mut self.stale_if_error, tolerance(argument)),
            _ => {}
        }
    }
}

struct Directive<'l> {
    name: &'l [u8],
    /// Without its quotes.
    argument: Option<&'l [u8]>,
}

/// Takes the next directive of a line.
fn next<'l>(rest: &mut &'l [u8]) -> Option<Directive<'l>> {
    while let Some((b' ' | b'\t' | b',', after)) = rest.split_first() {
        *rest = after;
    }
    if rest.is_empty() {
        return None;
    }
    let name_end = rest.iter().position(|byte| matches!(byte, b'=' | b','));
    let (name, after) = rest.split_at(name_end.unwrap_or(rest.len()));
    let name = name.trim_ascii();
    let Some(value) = after.strip_prefix(b"=") else {
        *rest = after;
        return Some(Directive {
            name,
            argument: None,
        });
    };
    let value = value.trim_ascii_start();
    // Without an end, a quote hides nothing of what follows.
    let (argument, after) = match quoted(value) {
        Some((argument, after)) => (argument, after),
        None => value.split_at(memchr(b',', value).unwrap_or(value.len())),
    };
    *rest = after
        .get(memchr(b',', after).unwrap_or(after.len())..)
        .unwrap_or_default();
    Some(Directive {
        name,
        argument: Some(argument.trim_ascii()),
    })
}

/// The content of a quoted string, and what follows it. A number needs no escapes, so they are kept as they are.
fn quoted(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = value.strip_prefix(b"\"")?;
    let mut escaped = false;
    let end = inner.iter().position(|byte| {
        let is_end = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        is_end
    })?;
    let (content, after) = inner.split_at_checked(end)?;
    Some((content, after.get(1..)?))
}

/// Seconds (RFC 9111 §1.2.2): a number that is too large is the largest one. `invalid` replaces what is no number.
fn seconds(argument: Option<&[u8]>, invalid: u64) -> u64 {
    let digits = argument.filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit));
    let Some(digits) = digits.and_then(|digits| std::str::from_utf8(digits).ok()) else {
        return invalid;
    };
    digits.parse().unwrap_or(u64::MAX)
}

fn tolerance(argument: Option<&[u8]>) -> Tolerance {
    match argument {
        None | Some(b"") => Tolerance::Any,
        argument => Tolerance::Seconds(seconds(argument, 0)),
    }
}

fn shorten<T: Ord>(value: &mut Option<T>, other: T) {
    *value = Some(match value.take() {
        Some(value) => value.min(other),
        None => other,
    });
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> CacheControl {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                CACHE_CONTROL,
                HeaderValue::from_bytes(line.as_bytes()).unwrap(),
            );
        }
        CacheControl::of(&headers)
    }

    #[test]
    fn ages_are_read_in_every_form() {
        for (line, want) in [
            ("max-age=5", Some(5)),
            ("MAX-AGE=5", Some(5)),
            ("public ,\tmax-age = \"5\" ;x, a", Some(5)),
            (",, max-age=05,", Some(5)),
            ("a=\"max-age=1, max-age=2\", max-age=7", Some(7)),
            ("a=\"\\\", max-age=1\", max-age=7", Some(7)),
            // A quote without an end.
            ("a=\"b, max-age=7", Some(7)),
            ("max-age=\"7", Some(0)),
            ("max-age=99999999999999999999999", Some(u64::MAX)),
            ("max-age=9, max-age=5, max-age=7", Some(5)),
            ("max-age=9, max-age=soon", Some(0)),
            ("max-age", Some(0)),
            ("max-age=", Some(0)),
            ("max-age=+5", Some(0)),
            ("max-age=-5", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-ages=5", None),
            ("x=max-age=5", None),
            ("", None),
        ] {
            assert_eq!(of(&[line]).max_age, want, "{line}");
        }
        assert_eq!(of(&["max-age=9", "max-age=5"]).max_age, Some(5));
        assert_eq!(of(&["s-maxage=9", "max-age=5"]).s_maxage, Some(9));
    }

    #[test]
    fn the_shorter_of_two_tolerances_counts() {
        let (any, five) = (Some(Tolerance::Any), Some(Tolerance::Seconds(5)));
        assert_eq!(of(&["max-stale, stale-if-error=\"\""]).max_stale, any);
        assert_eq!(of(&["max-stale, max-stale=5"]).max_stale, five);
        assert_eq!(
            of(&["stale-if-error=5, stale-if-error"]).stale_if_error,
            five
        );
        assert_eq!(of(&["min-fresh=5, min-fresh=9"]).min_fresh, Some(9));
        assert_eq!(of(&["min-fresh=soon"]).min_fresh, Some(u64::MAX));
    }

    #[test]
    fn a_line_with_other_bytes_still_forbids_storing() {
        assert!(of(&["x=\u{e9}, no-store"]).no_store);
    }

    proptest! {
        #[test]
        fn what_is_said_is_found_among_anything_else(
            before in "[ -~]{0,20}", age in 0_u64..100_000, quotes in any::<bool>(), upper in any::<bool>(),
            after in "[ -~]{0,20}",
        ) {
            let mut said = if quotes { format!("max-age=\"{age}\"") } else { format!("max-age={age}") };
            if upper {
                said = said.to_ascii_uppercase();
            }
            // In lines of its own, nothing can hide it; it can only be shortened.
            let found = of(&[&before, &said, &after]);
            prop_assert!(found.max_age.is_some_and(|found| found <= age));
            let found = of(&["public, no-store", &said, "private=\"a, b\" , no-cache"]);
            prop_assert_eq!(found, CacheControl {
                no_store: true, no_cache: true, public: true, private: true, max_age: Some(age),
                ..CacheControl::default()
            });
            // Without quotes before it, nothing in the same line can hide it either.
            let before = before.replace(['"', '='], "");
            let line = format!("{before},{said},{after}");
            prop_assert!(of(&[&line]).max_age.is_some_and(|found| found <= age));
        }
    }
}
