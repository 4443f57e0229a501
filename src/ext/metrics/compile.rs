//! Compiles the block.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::config::Block;
use crate::config::Node;
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::ext::reload_state::Task;
use crate::telemetry::stats::{Settings, Stats};

const PERIOD: Duration = Duration::from_secs(60);

/// KrakenD listens on all addresses. For this, configure `:8090`.
const ADDRESS: &str = "127.0.0.1:8090";

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = Block::read(node) else {
        return ServicePart::Nothing;
    };
    let listen = block.listen_address.unwrap_or_else(|| ADDRESS.to_owned());
    let settings = Settings {
        collection_time: block.collection_time.unwrap_or(PERIOD),
        listen: (!block.endpoint_disabled).then_some(listen),
        router: !block.router_disabled,
        proxy: !block.proxy_disabled,
        backend: !block.backend_disabled,
    };
    let key = format!("telemetry/metrics {}", node.value().to_json());
    let stats = cx.carry_over(key, |tasks| {
        let stats = Arc::new(Stats::new(settings));
        tasks.push(Task::new("stats", collect(Arc::downgrade(&stats))));
        stats
    });
    cx.set_fact(stats);
    ServicePart::Nothing
}

/// Ends a period at each interval, as long as the counters are in use.
async fn collect(stats: Weak<Stats>) {
    while let Some(period) = stats
        .upgrade()
        .map(|stats| stats.settings().collection_time)
    {
        tokio::time::sleep(period).await;
        if let Some(stats) = stats.upgrade() {
            stats.collect();
        }
    }
}
