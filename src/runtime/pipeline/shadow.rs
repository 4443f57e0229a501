//! Calls whose responses are ignored.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{Context, Earlier, exchange, prepare};
use super::conditions;
use super::time_limit::TimeLimit;
use super::transport::Transport;
use crate::runtime::service::Shadow;
use crate::telemetry::{observe, request_id};

/// The maximum number of concurrent calls of one shadow, so that a shadow that does not respond cannot use unlimited
/// memory.
const MOST: usize = 1024;

/// Sends a copy of the request to each shadow backend, in tasks that outlive the request.
pub(super) fn send<C: Transport>(cx: &Context<'_, C>, shadows: &[Arc<Shadow>], timeout: Duration) {
    for shadow in shadows {
        if shadow.backend.when.is_conditional() {
            let limit = TimeLimit::at(cx.call.started + timeout);
            let holds = conditions::holds(cx, &shadow.backend, Earlier::default(), &limit);
            if !matches!(holds, Ok(Some(true))) {
                continue;
            }
        }
        // A request that cannot be built is of no use to the shadow either. The regular backend reports it.
        let (headers, body) = (cx.call.headers.clone(), cx.call.body.clone());
        let made = prepare(cx, &shadow.backend, Earlier::default(), headers, body);
        let Ok(out) = made else {
            continue;
        };
        // Each call in progress holds a reference to the shadow, and so does the service.
        if Arc::strong_count(shadow) > MOST {
            log::warn!(
                "[SHADOW: {}] too many calls in progress",
                shadow.backend.pattern
            );
            continue;
        }
        let (transport, shadow) = (cx.transport.clone(), Arc::clone(shadow));
        let most_bytes = cx.options.max_upstream_body_bytes;
        let request = observe::current();
        let id = request_id::current();
        let work = async move {
            let limit = TimeLimit::at(Instant::now() + shadow.timeout);
            let call = exchange(&transport, most_bytes, &shadow.backend, out, &limit);
            let result = match request {
                Some(request) => {
                    let call = pin!(call);
                    let call = pin!(observe::within(&request, call));
                    limit.wait(call).await
                }
                None => limit.wait(pin!(call)).await,
            };
            if let Some(Err(failure)) = result {
                log::debug!("[SHADOW: {}] {failure}", shadow.backend.pattern);
            }
        };
        match id {
            None => tokio::spawn(work),
            Some(id) => tokio::spawn(request_id::within(id, work)),
        };
    }
}
