//! A client whose connections end after a while.
//!
//! A connection that is always in use would keep the address of its host for ever, although the name has another one
//! by now. So the client and its connections are replaced from time to time. Calls in progress keep the old ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::upstream::client::ClientError;

/// The age at which connections get no further calls. Names of backends are looked up at least every 30 s.
const MAX_AGE: Duration = Duration::from_secs(10);

type Make = dyn Fn() -> Result<reqwest::Client, ClientError> + Send + Sync;

/// A client, and how to make the next one.
pub(super) struct Renewed {
    make: Box<Make>,
    current: ArcSwap<reqwest::Client>,
    started: Instant,
    max_age: Duration,
    /// When the current client is too old, in milliseconds after the start.
    due: AtomicU64,
}

impl std::fmt::Debug for Renewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewed").finish_non_exhaustive()
    }
}

impl Renewed {
    /// # Errors
    /// As `make`.
    pub(super) fn new(
        make: impl Fn() -> Result<reqwest::Client, ClientError> + Send + Sync + 'static,
    ) -> Result<Renewed, ClientError> {
        Renewed::aged(make, MAX_AGE)
    }

    fn aged(
        make: impl Fn() -> Result<reqwest::Client, ClientError> + Send + Sync + 'static,
        max_age: Duration,
    ) -> Result<Renewed, ClientError> {
        Ok(Renewed {
            current: ArcSwap::from_pointee(make()?),
            make: Box::new(make),
            started: Instant::now(),
            max_age,
            due: AtomicU64::new(millis(max_age)),
        })
    }

    /// The current client. The first call after its time replaces it.
    pub(super) fn client(&self) -> Arc<reqwest::Client> {
        let now = millis(self.started.elapsed());
        let due = self.due.load(Ordering::Relaxed);
        let next = now + millis(self.max_age);
        let order = Ordering::Relaxed;
        if now >= due
            && self.due.compare_exchange(due, next, order, order).is_ok()
            && let Ok(client) = (self.make)()
        {
            self.current.store(Arc::new(client));
        }
        self.current.load_full()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// The number of connections that ten calls one after the other make.
    async fn connections(max_age: Duration) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let opened = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&opened);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut some = [0; 1024];
                    while stream.read(&mut some).await.is_ok_and(|read| read > 0) {
                        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        stream.write_all(response).await.unwrap();
                    }
                });
            }
        });
        let made = || Ok(reqwest::Client::builder().no_proxy().build().unwrap());
        let renewed = Renewed::aged(made, max_age).unwrap();
        for _ in 0..10 {
            let response = renewed.client().get(&url).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "ok");
        }
        usize::try_from(opened.load(Ordering::Relaxed)).unwrap()
    }

    #[tokio::test]
    async fn a_connection_in_use_is_not_kept_beyond_its_age() {
        assert_eq!(connections(Duration::ZERO).await, 10);
        assert_eq!(connections(Duration::from_secs(600)).await, 1);
    }
}
