//! Limits concurrent TLS handshakes, so that many of them do not delay requests.
//!
//! A handshake occupies a worker longer than a request does, without a break: with an RSA key about half a
//! millisecond. If hundreds of clients connect at once, a request on an existing connection would wait for all their
//! handshakes. With this limit it waits for about one handshake each time that it becomes ready.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::Semaphore;

/// The permits to compute.
#[derive(Debug)]
pub(super) struct HandshakeLimiter(Semaphore);

impl HandshakeLimiter {
    /// A limiter for a server with this many workers: each may be busy with one handshake.
    pub(super) fn new(workers: usize) -> HandshakeLimiter {
        HandshakeLimiter(Semaphore::new(workers.max(1)))
    }

    /// Runs `work` to its end. It computes only with a permit, and holds none while it waits for the peer, so a
    /// client that stalls does not affect others.
    pub(super) async fn take<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            // The semaphore is never closed. Even without a permit the work would be run.
            let turn = self.0.acquire().await;
            // A permit that was waited for is passed on within the worker, before other ready tasks. This lets those
            // run first.
            tokio::task::yield_now().await;
            let progress = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
            drop(turn);
            match progress {
                Poll::Ready(output) => return output,
                Poll::Pending => woken().await,
            }
        }
    }
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_waits_for_its_peer_does_not_block_others() {
        let handshakes = HandshakeLimiter::new(1);
        let stalled = handshakes.take(tokio::time::sleep(Duration::from_secs(10)));
        let quick = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            handshakes.take(std::future::ready(7)).await
        };
        let began = tokio::time::Instant::now();
        tokio::select! {
            () = stalled => panic!("it must be overtaken"),
            seven = quick => assert_eq!(seven, 7),
        }
        assert_eq!(began.elapsed().as_secs(), 1);
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
                    .take(poll_fn(|_| {
                        done.fetch_add(1, Ordering::Relaxed);
                        Poll::Ready(())
                    }))
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
                    handshakes.take(work).await
                })
            })
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), number as u64);
        }
    }
}
