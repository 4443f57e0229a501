//! Compiles the block.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};

use super::config::KEYS;
use crate::config::{ConfigError, Node};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::ext::reload_state::Task;
use crate::telemetry::stats::Stats;
use crate::telemetry::timestamp;
use crate::upstream::{OUR_USER_AGENT, SideClient, SideTls};

const PERIOD: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(10);
/// Failed pushes that are kept, and their bytes.
const MAX_KEPT: u64 = 100;
const MAX_BYTES: usize = 8 << 20;

/// Exists as long as a configuration in use names the database.
#[derive(Debug)]
struct Alive;

struct Push {
    client: SideClient,
    base: String,
    write: String,
    headers: HeaderMap,
    period: Duration,
    kept: usize,
}

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = node.block(KEYS) else {
        return ServicePart::Nothing;
    };
    let Some(address) = block.required("address") else {
        return ServicePart::Nothing;
    };
    let base = address.trim_end_matches('/').to_owned();
    let is_url = ["http://", "https://"]
        .iter()
        .any(|start| base.starts_with(start));
    if !is_url || base.parse::<http::Uri>().is_err() {
        let at = block.get("address").unwrap_or_else(|| node.clone());
        at.invalid("must be an http:// or https:// URL");
        return ServicePart::Nothing;
    }
    let Some(stats) = cx.fact::<Stats>() else {
        node.warn(ConfigError::invalid(
            "without \"telemetry/metrics\" there is nothing to push",
        ));
        return ServicePart::Nothing;
    };
    let db = block.string("db").unwrap_or_else(|| "krakend".to_owned());
    let db = percent_encoding::utf8_percent_encode(&db, percent_encoding::NON_ALPHANUMERIC);
    let mut headers =
        HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static("InfluxDBClient"))]);
    if let Some(user) = block.string("username").filter(|user| !user.is_empty()) {
        let pair = format!("{user}:{}", block.string("password").unwrap_or_default());
        let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
        if let Ok(mut value) = value {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }
    let client = match SideClient::without_redirects(&SideTls::default(), &OUR_USER_AGENT) {
        Ok(client) => client,
        Err(error) => {
            node.invalid(error.to_string());
            return ServicePart::Nothing;
        }
    };
    let ttl = block.duration("ttl");
    if let (Some(Duration::ZERO), Some(node)) = (ttl, block.get("ttl")) {
        node.warn_hint(
            ConfigError::invalid("the period must not be 0"),
            "1m is used",
        );
    }
    let push = Push {
        client,
        write: format!("{base}/write?consistency=&db={db}&precision=s&rp="),
        base,
        headers,
        period: ttl.filter(|ttl| !ttl.is_zero()).unwrap_or(PERIOD),
        kept: block.count("buffer_size").unwrap_or(0).min(MAX_KEPT) as usize,
    };
    let key = format!("telemetry/influx {}", node.value().to_json());
    cx.carry_over(key, |tasks| {
        let alive = Arc::new(Alive);
        let run = run(push, Arc::downgrade(&stats), Arc::downgrade(&alive));
        tasks.push(Task::new("influx", run));
        alive
    });
    ServicePart::Nothing
}

async fn run(push: Push, stats: Weak<Stats>, alive: Weak<Alive>) {
    let ping = format!("{}/ping?wait_for_leader=1s", push.base);
    let asked = push.client.call(
        Method::GET,
        &ping,
        push.headers.clone(),
        Bytes::new(),
        LIMIT,
    );
    if let Err(error) = asked.await {
        log::warn!("[SERVICE: InfluxDB] Unable to ping the server: {error}");
    }
    let mut before = BTreeMap::new();
    let mut waiting: VecDeque<Bytes> = VecDeque::new();
    let mut failing = false;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    loop {
        tokio::time::sleep(push.period).await;
        let (Some(stats), Some(_)) = (stats.upgrade(), alive.upgrade()) else {
            return;
        };
        let lines = stats.influx(host.trim(), timestamp::now().as_secs(), &mut before);
        waiting.push_back(lines.into());
        while let Some(lines) = waiting.front() {
            match write(&push, lines.clone()).await {
                Ok(()) => {
                    waiting.pop_front();
                    if std::mem::take(&mut failing) {
                        log::info!("[SERVICE: InfluxDB] The server accepts data again");
                    }
                }
                Err(failure) => {
                    if !std::mem::replace(&mut failing, true) {
                        log::error!("[SERVICE: InfluxDB] Couldn't write to server: {failure}");
                    }
                    if failure.is_final() {
                        // It would be rejected again, and the next ones would wait for it.
                        waiting.pop_front();
                        continue;
                    }
                    break;
                }
            }
        }
        let bytes = |waiting: &VecDeque<Bytes>| waiting.iter().map(Bytes::len).sum::<usize>();
        while waiting.len() > push.kept || bytes(&waiting) > MAX_BYTES {
            waiting.pop_front();
        }
    }
}

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("status {0}")]
    Status(u16),
    #[error("{0}")]
    Call(String),
}

impl Failure {
    /// Whether the server does not accept these lines, now or later: they are malformed, or too many.
    fn is_final(&self) -> bool {
        matches!(self, Failure::Status(400 | 413 | 422))
    }
}

async fn write(push: &Push, lines: Bytes) -> Result<(), Failure> {
    let call = push.client.call(
        Method::POST,
        &push.write,
        push.headers.clone(),
        lines,
        LIMIT,
    );
    match call.await {
        Ok(response) if response.status.is_success() => Ok(()),
        Ok(response) => Err(Failure::Status(response.status.as_u16())),
        Err(error) => Err(Failure::Call(error.to_string())),
    }
}
