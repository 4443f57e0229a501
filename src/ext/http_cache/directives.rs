//! Whether a stored response is fresh, with the rules of KrakenD's cache.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, DATE, EXPIRES, PRAGMA};

use crate::upstream::cache_control::{CacheControl, Tolerance};

/// How a stored response may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    Stale,
    /// The client requires a response from the upstream.
    Bypass,
}

/// Whether the stored `answer` is fresh for a request with the headers `sent`. `wall` is the time since the Unix
/// epoch.
pub(super) fn freshness(sent: &HeaderMap, response: &HeaderMap, wall: Duration) -> Freshness {
    let (asked, given) = (CacheControl::of(sent), CacheControl::of(response));
    if requires_upstream(sent, &asked) {
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

/// Whether the client accepts no stored response (RFC 9111 §5.2.1.4 and §5.4).
pub(super) fn requires_upstream(sent: &HeaderMap, asked: &CacheControl) -> bool {
    let pragma = !sent.contains_key(CACHE_CONTROL)
        && sent
            .get(PRAGMA)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no-cache"));
    asked.no_cache || pragma
}

/// Whether a response with these headers could be used without asking the upstream: while it is fresh, or if the
/// upstream fails.
pub(super) fn may_be_fresh(response: &HeaderMap) -> bool {
    let given = CacheControl::of(response);
    let is_fresh = !given.no_cache && lifetime(response, &given) > 0;
    is_fresh || given.stale_if_error.is_some()
}

/// Whether the stored `answer` may replace the response of an upstream that failed.
pub(super) fn may_stand_in(sent: &HeaderMap, response: &HeaderMap, wall: Duration) -> bool {
    let (asked, given) = (CacheControl::of(sent), CacheControl::of(response));
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

fn lifetime(response: &HeaderMap, given: &CacheControl) -> u64 {
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
