//! Drives one HTTP/1 request through the phases of [`ProxyHttp`] that the gateway uses, in Pingora's order.
//!
//! Pingora's own driver boxes one future for each request. It has 13 KiB, nearly all of them for the way to an upstream
//! that the gateway does not take, and they are copied into the box. HTTP/2 uses Pingora's driver, because Pingora reads
//! those connections itself.

use http::HeaderMap;
use pingora_core::Error;
use pingora_core::protocols::http::ServerSession;
use pingora_proxy::{ProxyHttp, Session};

use super::conn::Conn;
use super::gateway::{Ctx, Gateway};
use super::http1_fast_path::{self, Wire};

/// Serves the request that the session has read. Returns the connection if another request may follow.
pub(super) async fn serve(gateway: &Gateway, mut session: Session) -> Option<Box<Conn>> {
    run(gateway, &mut session, None).await?;
    if let ServerSession::Custom(_) = &*session.downstream_session {
        // A tunnel has ended.
        session.downstream_session.shutdown().await;
        return None;
    }
    // Boxed, so that the request does not carry this state around: it may be open for long.
    let reusable = Box::pin(session.downstream_session.finish()).await;
    let reusable = reusable.ok().flatten()?;
    let (stream, _) = reusable.into_parts();
    stream.into_any().downcast::<Conn>().ok()
}

/// The same for a usual request, whose session [`http1_fast_path::begin`] has made.
pub(super) async fn serve_usual(
    gateway: &Gateway,
    mut session: Box<Session>,
    wire: &Wire,
) -> Option<Box<Conn>> {
    let is_served = run(gateway, &mut session, Some(wire)).await;
    let keeps = http1_fast_path::end(session);
    is_served?;
    wire.finish(keeps).await
}

/// Serves the request of a session. `None`: it failed, and its connection must be closed.
async fn run(gateway: &Gateway, session: &mut Session, wire: Option<&Wire>) -> Option<()> {
    let mut ctx = gateway.new_ctx();
    ctx.wire = wire.cloned();
    match gateway.request_filter(session, &mut ctx).await {
        Ok(_) => {
            gateway.report(session, &ctx);
            Some(())
        }
        Err(error) => {
            // Boxed, so that a request that succeeds does not carry this state around.
            Box::pin(fail(gateway, session, &error, &mut ctx)).await;
            None
        }
    }
}

/// Whether Pingora reads the head as a request, which then gets the headers that were set aside. The front loop has
/// checked the head before, so this should not fail.
pub(super) async fn has_request(session: &mut Session, aside: Option<Box<HeaderMap>>) -> bool {
    match session.read_request().await {
        Ok(false) => return false,
        Ok(true) => {}
        Err(error) => {
            log::debug!("a request could not be read: {error}");
            return false;
        }
    }
    let Some(aside) = aside else {
        return true;
    };
    let head = session.req_header_mut();
    aside
        .iter()
        .all(|(name, value)| head.append_header(name, value).is_ok())
}

/// Reports a request that ended with an error. Its connection is closed.
async fn fail(gateway: &Gateway, session: &mut Session, error: &Error, ctx: &mut Box<Ctx>) {
    let answer = gateway.fail_to_proxy(session, error, ctx).await;
    if !gateway.suppress_error_log(session, ctx, error) {
        log::error!(
            "[SERVICE: Gateway] a request failed: {error}, status: {}, {}",
            answer.error_code,
            gateway.request_summary(session, ctx)
        );
    }
    gateway.logging(session, Some(error), ctx).await;
}
