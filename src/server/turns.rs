//! TLS handshakes take turns, so that a storm of them does not stand in front of everybody else.
//!
//! A handshake costs a worker more than a request does, in one piece: with an RSA key about half a millisecond. When
//! hundreds of clients connect at once, a request on a connection that stands would wait for all of theirs. Here it
//! waits for about one for each time that it is its own turn.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::Semaphore;

/// Who may compute now.
#[derive(Debug)]
pub struct Turns(Semaphore);

impl Turns {
    /// Turns for a server with this many workers: each may be busy with one handshake.
    pub fn new(workers: usize) -> Turns {
        Turns(Semaphore::new(workers.max(1)))
    }

    /// Runs `work` to its end. It computes only when it has a turn, and holds none while it waits for the other side:
    /// a client that stalls is in nobody's way.
    pub async fn take<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            // The semaphore is never closed; without a turn it would be run all the same.
            let turn = self.0.acquire().await;
            // A turn that was waited for is handed over within the worker, before what else is ready there: let that
            // go first.
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

/// Waits until what was polled last in this task wakes it.
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
    async fn who_waits_for_the_other_side_is_in_nobodys_way() {
        let turns = Turns::new(1);
        let stalled = turns.take(tokio::time::sleep(Duration::from_secs(10)));
        let quick = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            turns.take(std::future::ready(7)).await
        };
        let began = tokio::time::Instant::now();
        tokio::select! {
            () = stalled => panic!("it must be overtaken"),
            seven = quick => assert_eq!(seven, 7),
        }
        assert_eq!(began.elapsed().as_secs(), 1);
    }

    #[tokio::test]
    async fn other_work_goes_first() {
        // One worker: forty handshakes, each of one piece of work, and a task that has been ready all along.
        let turns = Arc::new(Turns::new(1));
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..40 {
            let (turns, done) = (Arc::clone(&turns), Arc::clone(&done));
            tokio::spawn(async move {
                turns
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
    async fn everybody_gets_a_turn() {
        let turns = Arc::new(Turns::new(2));
        let tasks: Vec<_> = (0..200)
            .map(|number: u64| {
                let turns = Arc::clone(&turns);
                tokio::spawn(async move {
                    let work = async {
                        for _ in 0..number % 4 {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        number
                    };
                    turns.take(work).await
                })
            })
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), number as u64);
        }
    }
}
