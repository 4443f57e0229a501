//! What a call waits for, so that a deadline that ends the wait can say what was late.
//!
//! A deadline drops the future of a call, wherever it is. The innermost wait that is dropped leaves a note on its
//! thread, and whoever set the deadline reads the note directly after the drop. So a call that is in time costs nothing.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use super::ErrorType;

/// The waits of a call, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// The address of the host.
    Dns,
    /// The TCP connection, to the host or its proxy.
    Connect,
    /// The connection that the proxy opens.
    Proxy,
    /// The TLS handshake with the host.
    Tls,
    /// The first byte on an HTTP/2 connection: the settings of the host.
    Http2,
    /// The host does not read the request.
    Send,
    /// The head of the response.
    Header,
    /// The rest of the response.
    Body,
}

thread_local! {
    static CUT: Cell<Option<Wait>> = const { Cell::new(None) };
}

impl Wait {
    /// The name in metrics, traces and the log.
    pub(crate) fn reason(self) -> &'static str {
        ErrorType::from(self).as_str()
    }

    /// Notes that this wait was cut. A wait within it was noted before, and says more.
    pub(crate) fn note(self) {
        if CUT.get().is_none() {
            CUT.set(Some(self));
        }
    }

    /// Called when a deadline has passed, before the work is dropped.
    pub(crate) fn forget() {
        CUT.set(None);
    }

    /// The wait that was cut since [`Wait::forget`].
    pub(crate) fn noted() -> Option<Wait> {
        CUT.get()
    }

    /// Does `work` within `limit`.
    ///
    /// # Errors
    /// It took longer, and was dropped while it waited for this.
    pub(crate) async fn limited<T>(
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Option<Wait>> {
        let mut work = Box::pin(work);
        match tokio::time::timeout(limit, work.as_mut()).await {
            Ok(done) => Ok(done),
            Err(_) => Err(Wait::cut(work)),
        }
    }

    /// Drops work whose deadline has passed, and returns what it was waiting for.
    pub fn cut<F>(work: F) -> Option<Wait> {
        Wait::forget();
        drop(work);
        CUT.take()
    }

    /// Does `work`, which waits for this.
    pub(crate) async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let mut mark = Mark(Some(self));
        let done = work.await;
        mark.0 = None;
        done
    }
}

struct Mark(Option<Wait>);

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(wait) = self.0 {
            wait.note();
        }
    }
}

impl From<Wait> for ErrorType {
    fn from(wait: Wait) -> ErrorType {
        match wait {
            Wait::Dns => ErrorType::DnsTimeout,
            Wait::Connect => ErrorType::ConnectTimeout,
            Wait::Proxy => ErrorType::ProxyTimeout,
            Wait::Tls => ErrorType::TlsTimeout,
            Wait::Http2 => ErrorType::Http2Timeout,
            Wait::Send => ErrorType::SendTimeout,
            Wait::Header => ErrorType::HeaderTimeout,
            Wait::Body => ErrorType::BodyTimeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn the_innermost_wait_that_is_dropped_is_noted() {
        let short = Duration::from_millis(1);
        let mut work = Box::pin(Wait::Connect.during(async {
            Wait::Dns.during(async {}).await;
            Wait::Tls.during(pending::<()>()).await;
        }));
        Wait::Body.note();
        assert!(tokio::time::timeout(short, work.as_mut()).await.is_err());
        assert_eq!(Wait::cut(work), Some(Wait::Tls));
        assert_eq!(Wait::noted(), None);
        assert_eq!(Wait::cut(Wait::Connect.during(async {})), None);
        let silent = Wait::Tls.during(pending::<()>());
        assert_eq!(Wait::limited(short, silent).await, Err(Some(Wait::Tls)));
        assert_eq!(Wait::limited(short, async { 1 }).await, Ok(1));
    }
}
