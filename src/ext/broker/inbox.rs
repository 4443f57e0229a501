//! Messages that a broker has delivered and no request has taken yet.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// A queue of messages with their sizes. Each message goes to one of those that wait, in the order of waiting.
pub(crate) struct Inbox<T> {
    waiting: Mutex<Waiting<T>>,
    /// As many permits as there are messages.
    count: Semaphore,
    most_messages: usize,
    most_bytes: usize,
}

struct Waiting<T> {
    messages: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({} messages)", self.lock().messages.len())
    }
}

impl<T> Inbox<T> {
    pub(crate) fn new(most_messages: usize, most_bytes: usize) -> Inbox<T> {
        Inbox {
            waiting: Mutex::new(Waiting {
                messages: VecDeque::new(),
                bytes: 0,
            }),
            count: Semaphore::new(0),
            most_messages,
            most_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message at the end.
    ///
    /// # Errors
    /// There is no room for it. One message always has room.
    pub(crate) fn push(&self, message: T, bytes: usize) -> Result<(), T> {
        let mut waiting = self.lock();
        let is_full = waiting.messages.len() >= self.most_messages
            || waiting.bytes.saturating_add(bytes) > self.most_bytes;
        if is_full && !waiting.messages.is_empty() {
            return Err(message);
        }
        waiting.bytes += bytes;
        waiting.messages.push_back((message, bytes));
        drop(waiting);
        self.count.add_permits(1);
        Ok(())
    }

    /// Puts a message back that was taken, in front of all others.
    #[cfg(any(feature = "nats", test))]
    pub(crate) fn put_back(&self, message: T, bytes: usize) {
        let mut waiting = self.lock();
        waiting.bytes += bytes;
        waiting.messages.push_front((message, bytes));
        drop(waiting);
        self.count.add_permits(1);
    }

    #[cfg(any(feature = "nats", test))]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }

    /// The next message. If the caller stops waiting, the message stays.
    pub(crate) async fn next(&self) -> T {
        loop {
            match self.count.acquire().await {
                Ok(permit) => permit.forget(),
                // The semaphore is never closed.
                Err(_) => std::future::pending::<()>().await,
            }
            let mut waiting = self.lock();
            // There is one for each permit.
            if let Some((message, bytes)) = waiting.messages.pop_front() {
                waiting.bytes -= bytes;
                return message;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn messages_go_to_those_that_wait_and_are_bounded() {
        let inbox = Arc::new(Inbox::new(2, 10));
        let waits = {
            let inbox = Arc::clone(&inbox);
            tokio::spawn(async move { inbox.next().await })
        };
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(inbox.push("a", 100), Ok(()));
        assert_eq!(waits.await.unwrap(), "a");
        assert_eq!(inbox.push("b", 5), Ok(()));
        assert_eq!(inbox.push("c", 6), Err("c"));
        assert_eq!(inbox.push("c", 5), Ok(()));
        assert_eq!(inbox.push("d", 0), Err("d"));
        assert_eq!(inbox.next().await, "b");
        inbox.put_back("b", 5);
        assert_eq!(inbox.next().await, "b");
        let late = tokio::time::timeout(Duration::from_secs(1), async {
            inbox.next().await;
            inbox.next().await
        });
        assert!(late.await.is_err());
        assert!(inbox.is_empty());
    }
}
