//! `Cache-Control`, and whether a stored response is fresh, with the rules of KrakenD's cache.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, DATE, EXPIRES, PRAGMA};

/// The directives of a message that this cache uses, in seconds where a directive has them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Directives {
    pub no_store: bool,
    pub no_cache: bool,
    pub only_if_cached: bool,
    pub public: bool,
    pub private: bool,
    /// `Some(0)` for a value that is not a number, which makes nothing fresh.
    pub max_age: Option<u64>,
    pub min_fresh: Option<u64>,
    pub max_stale: Option<Tolerance>,
    pub stale_if_error: Option<Tolerance>,
}

/// The value of a directive that may have no argument, which means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tolerance {
    Any,
    Seconds(u64),
}

/// How a stored response may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    Stale,
    /// The client requires a response from the upstream.
    Bypass,
}

impl Directives {
    /// The directives of all lines in `headers`.
    pub(super) fn of(headers: &HeaderMap) -> Directives {
        let mut found = Directives::default();
        for line in headers.get_all(CACHE_CONTROL) {
            let Ok(line) = line.to_str() else { continue };
            for item in line.split(',') {
                let (name, value) = match item.split_once('=') {
                    Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                    None => (item.trim(), None),
                };
                found.add(name, value);
            }
        }
        found
    }

    fn add(&mut self, name: &str, value: Option<&str>) {
        let seconds = || Some(value.and_then(|text| text.parse().ok()).unwrap_or(0));
        let tolerance = || match value {
            None | Some("") => Some(Tolerance::Any),
            Some(text) => Some(Tolerance::Seconds(text.parse().unwrap_or(0))),
        };
        match name.to_ascii_lowercase().as_str() {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "only-if-cached" => self.only_if_cached = true,
            "public" => self.public = true,
            "private" => self.private = true,
            "max-age" => self.max_age = seconds(),
            "min-fresh" => self.min_fresh = seconds(),
            "max-stale" => self.max_stale = tolerance(),
            "stale-if-error" => self.stale_if_error = tolerance(),
            _ => {}
        }
    }
}

/// Whether the stored `answer` is fresh for a request with the headers `sent`. `wall` is the time since the Unix
/// epoch.
pub(super) fn freshness(sent: &HeaderMap, response: &HeaderMap, wall: Duration) -> Freshness {
    let (asked, given) = (Directives::of(sent), Directives::of(response));
    let pragma = !sent.contains_key(CACHE_CONTROL)
        && sent
            .get(PRAGMA)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no-cache"));
    if asked.no_cache || pragma {
        return Freshness::Bypass;
    }
    if given.no_cache {
        return Freshness::Stale;
    }
    if asked.only_if_cached {
        return Freshness::Fresh;
    }
    let Some(age) = age(response, wall) else {
        return Freshness::Stale;
    };
    let lifetime = asked.max_age.unwrap_or_else(|| lifetime(response, &given));
    let mut age = i128::from(age) + i128::from(asked.min_fresh.unwrap_or(0));
    match asked.max_stale {
        Some(Tolerance::Any) => return Freshness::Fresh,
        Some(Tolerance::Seconds(tolerated)) => age -= i128::from(tolerated),
        None => {}
    }
    if i128::from(lifetime) > age {
        Freshness::Fresh
    } else {
        Freshness::Stale
    }
}

/// Whether a response with these headers could be used without asking the upstream: while it is fresh, or if the
/// upstream fails.
pub(super) fn may_be_fresh(response: &HeaderMap) -> bool {
    let given = Directives::of(response);
    let is_fresh = !given.no_cache && lifetime(response, &given) > 0;
    is_fresh || given.stale_if_error.is_some()
}

/// Whether the stored `answer` may replace the response of an upstream that failed.
pub(super) fn may_stand_in(sent: &HeaderMap, response: &HeaderMap, wall: Duration) -> bool {
    let (asked, given) = (Directives::of(sent), Directives::of(response));
    match given.stale_if_error.or(asked.stale_if_error) {
        None => false,
        Some(Tolerance::Any) => true,
        Some(Tolerance::Seconds(seconds)) => age(response, wall).is_some_and(|age| seconds > age),
    }
}

/// Seconds since the `Date` of the response. `None` without one. As in KrakenD, `Age` is ignored.
fn age(response: &HeaderMap, wall: Duration) -> Option<u64> {
    let made = date(response, &DATE)?;
    Some(wall.as_secs().saturating_sub(made))
}

fn lifetime(response: &HeaderMap, given: &Directives) -> u64 {
    given.max_age.unwrap_or_else(|| {
        let expires = date(response, &EXPIRES).unwrap_or(0);
        expires.saturating_sub(date(response, &DATE).unwrap_or(0))
    })
}

fn date(headers: &HeaderMap, name: &http::HeaderName) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    let time = httpdate::parse_http_date(text).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}
