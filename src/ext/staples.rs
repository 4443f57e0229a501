//! The OCSP responses in the configuration: kept for the metrics, and watched until they end.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::context::Compile;
use super::reload_state::Task;

/// How often the clock is compared with the end of a response. The clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(30);

/// A configured OCSP response.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StapleInUse {
    /// The path of its file.
    pub file: String,
    pub end: StapleEnd,
    /// It ends before its nextUpdate, with the certificate of its signer.
    pub ends_with_signer: bool,
    /// Clients require one with the certificate.
    pub is_needed: bool,
}

/// When clients begin to reject a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StapleEnd {
    /// They reject it now, so it is not stapled.
    Past,
    /// In seconds since 1970.
    At(i64),
    Never,
}

impl StapleInUse {
    /// The end as the value of a metric.
    pub(crate) fn seconds(&self) -> f64 {
        match self.end {
            StapleEnd::Past => 0.0,
            StapleEnd::At(end) => end as f64,
            StapleEnd::Never => f64::INFINITY,
        }
    }

    /// Says that it has ended.
    fn report(&self) {
        let end = if self.ends_with_signer {
            "the end of its signer's certificate"
        } else {
            "its nextUpdate"
        };
        let text = format!(
            "[SERVICE: Gateway] the OCSP response in {} is past {end} and no longer stapled; write a new one into this file and reload",
            self.file
        );
        if self.is_needed {
            log::error!("{text}: clients reject the certificate without one");
        } else {
            log::warn!("{text}");
        }
    }
}

/// Takes the responses that were compiled so far. Says it when one of them ends, as long as the configuration has it.
pub(crate) fn watched(cx: &mut Compile<'_>) -> Vec<StapleInUse> {
    let all = cx.staples.take();
    for staple in &all {
        let StapleEnd::At(end) = staple.end else {
            continue;
        };
        cx.carry_over(format!("tls ocsp_response {staple:?}"), |tasks| {
            let staple = Arc::new(staple.clone());
            let task = watch(Arc::downgrade(&staple), end);
            tasks.push(Task::new("OCSP response", task));
            staple
        });
    }
    all
}

async fn watch(staple: Weak<StapleInUse>, end: i64) {
    while let Some(staple) = staple.upgrade() {
        let Some(left) = left(end) else {
            return staple.report();
        };
        drop(staple);
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

/// The time until `end`, if it is not over.
fn left(end: i64) -> Option<Duration> {
    let end = Duration::from_secs(u64::try_from(end).unwrap_or_default());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    end.checked_sub(now.unwrap_or_default())
        .filter(|left| !left.is_zero())
}
