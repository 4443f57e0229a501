//! TLS handshakes with clients. Concurrent ones are limited, so that many of them do not delay requests.
//!
//! A handshake occupies a worker longer than a request does, without a break: with an RSA key about half a
//! millisecond. If hundreds of clients connect at once, a request on an existing connection would wait for all their
//! handshakes. With this limit it waits for about one handshake each time that it becomes ready.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use pingora_core::protocols::{GetSocketDigest, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_core::tls::TlsAcceptor;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::server::client_auth::rejected_certificate;
use crate::server::conn::Conn;
use crate::server::connection_limit::ConnectionSlot;
use crate::server::front::{last_words, no_longer_new};
use crate::server::tls::Certificates;

/// Accepts TLS on the connections of a listener.
#[derive(Debug)]
pub(super) struct TlsSide<'l> {
    pub certificates: &'l Certificates,
    pub limiter: &'l HandshakeLimiter,
    pub timeout: Duration,
    pub stopping: &'l ShutdownWatch,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// The client sent nothing, or its place was needed.
    Silent,
    /// What it sent did not lead to a handshake.
    Handshake,
}

impl TlsSide<'_> {
    /// The connection with TLS.
    pub(super) async fn accept(
        &self,
        mut conn: Box<Conn>,
        place: &ConnectionSlot,
    ) -> Result<Box<Conn>, Failed> {
        self.not_plain(&mut conn, place).await?;
        let socket = GetSocketDigest::get_socket_digest(&*conn);
        let acceptor = TlsAcceptor::from(self.certificates.server_config());
        conn.become_opaque();
        // The connection below TLS does not know when its first request has ended.
        let arrival = conn.arrival.take();
        let stream: Stream = conn;
        // The time of the client counts, not that of the queue for our own work.
        let whose = |turn| match turn {
            Turn::Ours => place.is_active(),
            Turn::Theirs(so_far) => place.waits_for_client_since(so_far),
        };
        let accept = self.limiter.take(acceptor.accept(stream), whose);
        let accepted = tokio::select! {
            biased;
            accepted = pingora_timeout::timeout(self.timeout, accept) => accepted,
            () = place.is_needed() => return Err(Failed::Silent),
        };
        place.is_active();
        match accepted {
            Ok(Ok(stream)) => {
                let mut conn = Box::new(Conn::tls(stream, socket));
                conn.arrival = arrival;
                Ok(conn)
            }
            Ok(Err(error)) => {
                match rejected_certificate(&error) {
                    Some(why) => log::warn!(
                        "[SERVICE: Gateway] TLS: the certificate of a client is rejected: {why}"
                    ),
                    None => log::debug!("[SERVICE: Gateway] TLS handshake failed: {error}"),
                }
                Err(Failed::Handshake)
            }
            Err(_) => Err(Failed::Handshake),
        }
    }

    /// Responds to a client that sends HTTP where TLS is expected.
    async fn not_plain(&self, conn: &mut Conn, place: &ConnectionSlot) -> Result<(), Failed> {
        if conn.ahead().is_empty() {
            place.waits_for_client();
            let first = tokio::select! {
                biased;
                first = pingora_timeout::timeout(self.timeout, conn.fill()) => first,
                () = place.is_needed() => return Err(Failed::Silent),
                () = no_longer_new(self.stopping.clone()) => return Err(Failed::Silent),
            };
            if !matches!(first, Ok(Ok(count)) if count > 0) {
                return Err(Failed::Silent);
            }
            place.is_active();
        }
        // A method is in upper case. A TLS record starts with its type, 22.
        if !conn.ahead().first().is_some_and(u8::is_ascii_uppercase) {
            return Ok(());
        }
        let text =
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        last_words(conn, text).await;
        Err(Failed::Handshake)
    }
}

/// The permits to compute.
#[derive(Debug)]
pub(super) struct HandshakeLimiter(Semaphore);

impl HandshakeLimiter {
    /// A limiter for a server with this many workers: each may be busy with one handshake.
    pub(super) fn new(workers: usize) -> HandshakeLimiter {
        HandshakeLimiter(Semaphore::new(workers.max(1)))
    }

    /// Runs `work` to its end. It computes only with a permit, and holds none while it waits for the peer, so a
    /// client that stalls does not affect others. `whose` is told who is awaited.
    pub(super) async fn take<F: Future>(&self, work: F, whose: impl Fn(Turn)) -> F::Output {
        let mut work = pin!(work);
        let mut theirs = Duration::ZERO;
        loop {
            whose(Turn::Ours);
            // The semaphore is never closed. Even without a permit the work would be run.
            let turn = self.0.acquire().await;
            // A permit that was waited for is passed on within the worker, before other ready tasks. This lets those
            // run first.
            tokio::task::yield_now().await;
            let progress = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
            drop(turn);
            match progress {
                Poll::Ready(output) => return output,
                Poll::Pending => {
                    whose(Turn::Theirs(theirs));
                    let began = Instant::now();
                    woken().await;
                    theirs += began.elapsed();
                }
            }
        }
    }
}

/// Who is awaited within a handshake.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turn {
    /// A permit, or our own work.
    Ours,
    /// The client, which has taken this time before.
    Theirs(Duration),
}

/// Waits until the future that was polled last in this task wakes it.
async fn woken() {
    let mut waited = false;
    poll_fn(|_| {
        if std::mem::replace(&mut waited, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_waits_for_its_peer_does_not_block_others() {
        let handshakes = HandshakeLimiter::new(1);
        let stalled = handshakes.take(tokio::time::sleep(Duration::from_secs(10)), |_| ());
        let quick = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            handshakes.take(std::future::ready(7), |_| ()).await
        };
        let began = tokio::time::Instant::now();
        tokio::select! {
            () = stalled => panic!("it must be overtaken"),
            seven = quick => assert_eq!(seven, 7),
        }
        assert_eq!(began.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_of_the_client_counts() {
        let handshakes = Arc::new(HandshakeLimiter::new(1));
        let busy = handshakes.0.acquire().await.unwrap();
        let told = Mutex::new(Vec::new());
        let work = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        };
        let work = handshakes.take(work, |turn| told.lock().unwrap().push(turn));
        let free = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(busy);
        };
        tokio::join!(work, free);
        let told = told.into_inner().unwrap();
        let [
            Turn::Ours,
            Turn::Theirs(first),
            Turn::Ours,
            Turn::Theirs(second),
            Turn::Ours,
        ] = told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!((first.as_secs(), second.as_secs()), (0, 2));
    }

    #[tokio::test]
    async fn other_work_runs_first() {
        // One worker, forty handshakes with a single piece of work each, and a task that is ready all the time.
        let handshakes = Arc::new(HandshakeLimiter::new(1));
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..40 {
            let (handshakes, done) = (Arc::clone(&handshakes), Arc::clone(&done));
            tokio::spawn(async move {
                handshakes
                    .take(
                        poll_fn(|_| {
                            done.fetch_add(1, Ordering::Relaxed);
                            Poll::Ready(())
                        }),
                        |_| (),
                    )
                    .await;
            });
        }
        let mut most = 0;
        let mut before = 0;
        while before < 40 {
            tokio::task::yield_now().await;
            let now = done.load(Ordering::Relaxed);
            most = most.max(now - before);
            before = now;
        }
        assert!(most <= 2, "{most} handshakes between two looks");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn every_handshake_gets_a_turn() {
        let handshakes = Arc::new(HandshakeLimiter::new(2));
        let tasks: Vec<_> = (0..200)
            .map(|number: u64| {
                let handshakes = Arc::clone(&handshakes);
                tokio::spawn(async move {
                    let work = async {
                        for _ in 0..number % 4 {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        number
                    };
                    handshakes.take(work, |_| ()).await
                })
            })
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), number as u64);
        }
    }
}
