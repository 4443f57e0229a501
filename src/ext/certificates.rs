//! The certificates in the configuration: checked during compilation, and kept for the metrics.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;

use super::context::Compile;
use crate::config::{ConfigError, Node};
use crate::named_file;
use crate::upstream::{CertificateFacts, certificates_in, facts};

const DAY: i64 = 24 * 3600;
/// How early a warning about the expiry of a certificate is given. For certificates with a shorter life it is given
/// later.
const SOON: i64 = 14 * DAY;

/// The use of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateUse {
    /// Our own, presented to clients.
    Server,
    /// Our own, presented to backends.
    Client,
    /// A trusted CA.
    Authority,
}

impl CertificateUse {
    /// The value of the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            CertificateUse::Server => "server",
            CertificateUse::Client => "client",
            CertificateUse::Authority => "authority",
        }
    }
}

/// A configured certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInUse {
    /// The path of its file.
    pub file: String,
    pub used_as: CertificateUse,
    pub facts: CertificateFacts,
}

/// Warns about a file with keys that others than its owner may change: they could put keys of their own into it.
pub(crate) fn warn_if_others_write(node: &Node<'_>, path: &Path) {
    if let Some(mode) = named_file::writable_by_others(path) {
        let text =
            format!("others than its owner can change this file with keys (mode {mode:04o})");
        node.warn_hint(ConfigError::invalid(text), "chmod go-w");
    }
}

/// Records the certificates of the file at `path`, which `node` names. Warns about those that have expired or will
/// soon, and about those that peers will reject. Errors in reading the file are reported by the code that needs it.
pub(crate) fn look(node: &Node<'_>, path: &Path, used_as: CertificateUse, cx: &Compile<'_>) {
    let found = certificates_in(path).unwrap_or_default();
    let found: Vec<CertificateFacts> = found.iter().filter_map(facts).collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
    for text in complaints(&found, used_as, now) {
        node.warn(ConfigError::invalid(text));
    }
    let file = path.display().to_string();
    let mut all = cx.certificates.borrow_mut();
    all.extend(found.into_iter().map(|facts| CertificateInUse {
        file: file.clone(),
        used_as,
        facts,
    }));
}

/// Of several certificates with the same problem, only the first is named.
fn complaints(found: &[CertificateFacts], used_as: CertificateUse, now: i64) -> Vec<String> {
    let mut said = Vec::new();
    let mut say = |matching: Vec<&CertificateFacts>,
                   words: &dyn Fn(&CertificateFacts) -> String| {
        if let Some(first) = matching.first() {
            let more = match matching.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            said.push(format!(
                "the certificate of {:?} {}{more}",
                first.subject,
                words(first)
            ));
        }
    };
    let those = |wanted: &dyn Fn(&CertificateFacts) -> bool| {
        found
            .iter()
            .filter(|facts| wanted(facts))
            .collect::<Vec<_>>()
    };
    say(those(&|facts| facts.not_after < now), &|facts| {
        format!("expired on {}", day(facts.not_after))
    });
    say(those(&|facts| expires_soon(facts, now)), &|facts| {
        let days = (facts.not_after - now) / DAY;
        format!("expires on {}, in {days} days", day(facts.not_after))
    });
    say(those(&|facts| facts.not_before > now), &|facts| {
        format!("is not valid before {}", day(facts.not_before))
    });
    if used_as != CertificateUse::Authority
        && let Some(first) = found.first()
        && let Some(oddity) = &first.oddity
    {
        said.push(format!(
            "others may reject the certificate of {:?}: {oddity}",
            first.subject
        ));
    }
    said
}

fn expires_soon(facts: &CertificateFacts, now: i64) -> bool {
    let life = facts.not_after.saturating_sub(facts.not_before);
    let left = facts.not_after.saturating_sub(now);
    left >= 0 && left < SOON.min(life / 4)
}

fn day(timestamp: i64) -> String {
    DateTime::from_timestamp(timestamp, 0).map_or_else(
        || "an impossible day".to_owned(),
        |time| time.format("%Y-%m-%d").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn valid(from: i64, to: i64) -> CertificateFacts {
        CertificateFacts {
            subject: "CN=a".to_owned(),
            serial: "01".to_owned(),
            not_before: NOW + from * DAY,
            not_after: NOW + to * DAY,
            must_staple: false,
            oddity: None,
        }
    }

    fn said(found: &[CertificateFacts]) -> Vec<String> {
        complaints(found, CertificateUse::Server, NOW)
    }

    #[test]
    fn expired_and_expiring_certificates_are_reported_once_per_file() {
        assert!(said(&[valid(-10, 80)]).is_empty());
        let told = said(&[valid(-90, -1), valid(-90, -2)]);
        assert_eq!(
            told,
            ["the certificate of \"CN=a\" expired on 2027-01-14 (and 1 more)"]
        );
        assert!(said(&[valid(-365, 10)])[0].contains("expires on 2027-01-25, in 10 days"));
        assert!(said(&[valid(3, 90)])[0].contains("is not valid before 2027-01-18"));
        // A certificate that is valid for only six days is always about to expire.
        assert!(said(&[valid(-3, 3)]).is_empty());
        assert!(!said(&[valid(-5, 1)]).is_empty());
    }

    #[test]
    fn our_own_certificates_that_peers_reject_are_reported() {
        let odd = CertificateFacts {
            oddity: Some("it is odd".to_owned()),
            ..valid(-10, 80)
        };
        assert!(said(std::slice::from_ref(&odd))[0].ends_with("it is odd"));
        assert!(complaints(&[odd], CertificateUse::Authority, NOW).is_empty());
    }
}
