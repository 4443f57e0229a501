//! Compiles the block. Policies may depend on it, so a database that cannot be read stops the start.

use std::sync::Arc;
use std::time::Duration;

use super::config::GeoBlock;
use super::runtime::{GeoStep, Locator};
use crate::config::{ConfigError, Node};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::ext::reload_state::Task;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(60);

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let before = cx.report.config_errors();
    let Some(block) = GeoBlock::read(node) else {
        return ServicePart::Nothing;
    };
    let Some(path) = block.path.filter(|_| cx.report.config_errors() == before) else {
        return ServicePart::Nothing;
    };
    let path = cx.path(&path);
    let locator = match Locator::open(path, block.languages) {
        Ok(locator) => Arc::new(locator),
        Err(reason) => {
            let at = block.path_at.unwrap_or_else(|| node.clone());
            at.invalid(reason);
            return ServicePart::Nothing;
        }
    };
    if let Some(doubt) = locator.doubt() {
        let at = block.path_at.unwrap_or_else(|| node.clone());
        at.warn(ConfigError::invalid(doubt));
    }
    let watched = Arc::downgrade(&locator);
    // The file is read for each configuration, so nothing is carried over.
    cx.push(Task::new("geoip", async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(locator) = watched.upgrade() else {
                return;
            };
            // Reads a large file: not on a worker of requests.
            let looked = tokio::task::spawn_blocking(move || locator.look());
            if looked.await.is_err() {
                log::error!("[SERVICE: GeoIP] the database could not be read again");
            }
        }
    }));
    cx.set_fact(Arc::clone(&locator));
    ServicePart::Step(Box::new(GeoStep(locator)))
}
