//! The end of an exchange: its connection goes back to the pool, or is closed.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::stream::Exchange;
use crate::upstream::error::CallError;
use crate::upstream::multiplex::stream_window;
use crate::upstream::session::Session;
use crate::upstream::spare_map;

/// A response body that is not needed is read up to this size to keep its connection.
const MAX_SETTLED: usize = 2048;
/// The maximum time for reading it.
const MAX_SETTLING: Duration = Duration::from_millis(100);

impl Exchange<'_> {
    /// Whether [`Exchange::read_body`] makes copies of what [`Exchange::read_slice`] lends.
    pub fn copies(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.http1().is_some())
    }

    /// Status and headers of the response, without a copy where that is possible. The headers may be empty afterwards.
    pub fn take_header(&mut self) -> Option<(StatusCode, HeaderMap)> {
        let (status, headers) = self.header()?;
        if self.fields.is_some() || !matches!(self.session, Some(Session::FastPath(_))) {
            return Some((status, headers.clone()));
        }
        match &mut self.session {
            Some(Session::FastPath(session)) => Some((status, session.take_headers())),
            _ => None,
        }
    }

    /// `scheme://authority` of the selected host, for logs.
    pub fn host_url(&self) -> &str {
        self.host().map_or("", |host| &host.url)
    }

    /// Charges what a server may send before its response is read.
    ///
    /// # Errors
    /// The process holds too much.
    pub(super) fn charge_window(&mut self) -> Result<(), CallError> {
        if !self.is_http2() {
            return Ok(());
        }
        let (_, charge) = &mut self.lasting;
        let bytes = charge.bytes() + stream_window() as usize;
        charge.cover(bytes).map_err(CallError::full)
    }

    /// Ends a response that is not passed on, so that its connection can be reused. As in Go, a short body is read to
    /// its end.
    pub async fn settle(&mut self) {
        // The head has arrived, so the host counts as healthy, whether or not the body can be read.
        self.is_healthy();
        let is_short = async {
            let mut read = 0;
            while let Ok(Some(chunk)) = self.read_body().await {
                read += chunk.len();
                if read > MAX_SETTLED {
                    return;
                }
            }
        };
        // A new connection is cheaper than a longer wait.
        let _ = tokio::time::timeout(MAX_SETTLING, is_short).await;
        if self.body_done {
            self.release().await;
        }
    }

    /// Returns the connection to the pool, if request and response are complete.
    pub async fn release(&mut self) {
        if let Some(mut trip) = self.trip.take() {
            trip.read_whole();
        }
        self.is_healthy();
        let client = self.client;
        let clean = self.request_done && !self.spoiled && !client.settings.disable_keep_alives;
        spare_map::keep(std::mem::take(&mut self.head.headers));
        // What is moved on is only the connection.
        let ended = self.session.take().map(Session::end);
        if let Some(ended) = ended
            && clean
            && let Some(candidate) = self.peers.list.get(self.peer)
        {
            client.pool.release(ended, &candidate.peer).await;
        }
    }
}
