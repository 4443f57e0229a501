//! Decides whether a `User-Agent` is a bot.

use std::collections::HashSet;
use std::time::Duration;

use http::StatusCode;
use http::header::USER_AGENT;
use regex::bytes::RegexSet;

use crate::ext::recent_map::RecentMap;
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::step::{EndpointStep, Gate, ServiceStep};

/// The maximum number of cached results, however large `cache_size` is.
const MAX_VERDICTS: usize = 100_000;

/// Results for longer values are not cached, so that clients cannot fill the memory with them.
const MAX_REMEMBERED_BYTES: usize = 512;

/// The rules that identify bots.
#[derive(Debug)]
pub(crate) struct Rules {
    pub deny: HashSet<Box<[u8]>>,
    pub allow: HashSet<Box<[u8]>>,
    /// Patterns that may match anywhere in the value.
    pub patterns: RegexSet,
    pub empty_is_bot: bool,
}

/// Rejects bots with 403, at the service or at an endpoint.
#[derive(Debug)]
pub(crate) struct BotDetector {
    rules: Rules,
    verdicts: Option<RecentMap<bool>>,
}

impl BotDetector {
    /// A detector that caches `remember` results. 0 disables the cache.
    pub(crate) fn new(rules: Rules, remember: usize) -> BotDetector {
        let remember = remember.min(MAX_VERDICTS);
        BotDetector {
            rules,
            // Results do not expire. Only their number is limited.
            verdicts: (remember > 0).then(|| RecentMap::new(remember, 16, Duration::MAX)),
        }
    }

    /// Whether a client with the `User-Agent` `agent` is a bot.
    pub(crate) fn is_bot(&self, agent: &[u8]) -> bool {
        let text = std::str::from_utf8(agent).ok();
        match (&self.verdicts, text) {
            (Some(verdicts), Some(text)) if text.len() <= MAX_REMEMBERED_BYTES => {
                let judge = || self.rules.judge(agent);
                verdicts.with(text, Duration::ZERO, judge, |verdict| *verdict)
            }
            _ => self.rules.judge(agent),
        }
    }

    fn reject(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
        let agent = head
            .headers
            .get(USER_AGENT)
            .map_or(&b""[..], |value| value.as_bytes());
        if !self.is_bot(agent) {
            return None;
        }
        log::error!("[SERVICE: Gin][Botdetector] bot rejected");
        notes.rejected = Some("bot");
        notes.errors.push("bot rejected".into());
        Some(Response::empty(StatusCode::FORBIDDEN))
    }
}

impl Rules {
    fn judge(&self, agent: &[u8]) -> bool {
        if agent.is_empty() {
            return self.empty_is_bot;
        }
        !self.allow.contains(agent) && (self.deny.contains(agent) || self.patterns.is_match(agent))
    }
}

impl ServiceStep for BotDetector {
    fn request(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
        self.reject(head, notes)
    }
}

impl EndpointStep for BotDetector {
    fn is_counted(&self) -> bool {
        false
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        match self.reject(head, notes) {
            Some(response) => Gate::Reject(response),
            None => Gate::Pass,
        }
    }
}
