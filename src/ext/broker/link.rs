//! One connection to a broker. It is opened in the background, and again whenever it is lost.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::runtime::failure::{Failure, Kind};
use crate::telemetry::queues::BrokerSeries;

/// The pause after the first attempt that failed. It doubles each time.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A connection that lives this long ends a series of failures.
const STABLE: Duration = Duration::from_secs(5);

/// Resolves, with the reason, when the connection is lost.
pub(crate) type Lost = Pin<Box<dyn Future<Output = String> + Send>>;

/// A new connection.
pub(crate) struct Opened<C> {
    pub(crate) client: C,
    pub(crate) lost: Lost,
}

#[derive(Clone)]
enum State<C> {
    /// The first attempt is in progress.
    Opening,
    Up(C),
    /// With the reason.
    Down(Arc<str>),
}

/// A connection of clients of type `C`, which are handles that can be cloned.
pub(crate) struct Link<C> {
    /// The broker without secrets, for messages.
    name: Box<str>,
    state: watch::Sender<State<C>>,
    /// Closed when the link is dropped.
    alive: watch::Sender<()>,
    series: BrokerSeries,
}

impl<C> fmt::Debug for Link<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.name)
    }
}

impl<C: Clone + Send + Sync + 'static> Link<C> {
    pub(crate) fn new(name: &str) -> Link<C> {
        Link {
            name: name.into(),
            state: watch::Sender::new(State::Opening),
            alive: watch::Sender::new(()),
            series: BrokerSeries::new(name),
        }
    }

    /// A link that never opens.
    pub(crate) fn closed(name: &str, why: &str) -> Link<C> {
        let link = Link::new(name);
        link.state.send_replace(State::Down(why.into()));
        link
    }

    /// The client, if there is a connection. The first requests wait for the first attempt.
    ///
    /// # Errors
    /// There is no connection. The text says why.
    pub(crate) async fn client(&self, deadline: Instant) -> Result<C, Failure> {
        let mut state = self.state.subscribe();
        let tried = state.wait_for(|state| !matches!(state, State::Opening));
        let state = match timeout_at(deadline, tried).await {
            Ok(Ok(state)) => state.clone(),
            _ => State::Opening,
        };
        match state {
            State::Up(client) => Ok(client),
            State::Opening => Err(self.failure("the connection is not open yet")),
            State::Down(why) => Err(self.failure(&why)),
        }
    }

    fn failure(&self, why: &str) -> Failure {
        let text = format!("no connection to {}: {why}", self.name);
        Failure::new(Kind::Connect, text)
    }

    /// Waits for the next connection, again after each one that is lost. Ends when the link is dropped.
    pub(crate) fn connections(&self) -> Connections<C> {
        Connections(self.state.subscribe())
    }

    /// Keeps the connection open until the link is dropped.
    pub(crate) async fn keep<F>(link: Weak<Link<C>>, open: impl Fn() -> F + Send)
    where
        F: Future<Output = Result<Opened<C>, String>> + Send,
    {
        let Some(mut gone) = link.upgrade().map(|link| link.alive.subscribe()) else {
            return;
        };
        let mut failures = 0;
        loop {
            let attempt = tokio::select! {
                attempt = open() => attempt,
                _ = gone.changed() => return,
            };
            let mut lived = Duration::ZERO;
            let why = match attempt {
                Ok(opened) => {
                    let Some(link) = link.upgrade() else { return };
                    link.up(opened.client);
                    drop(link);
                    let since = Instant::now();
                    let why = tokio::select! {
                        why = opened.lost => why,
                        _ = gone.changed() => return,
                    };
                    lived = since.elapsed();
                    why
                }
                Err(why) => why,
            };
            let Some(link) = link.upgrade() else { return };
            link.down(&why);
            drop(link);
            failures = next(failures, lived);
            tokio::select! {
                () = tokio::time::sleep(pause(failures)) => {}
                _ = gone.changed() => return,
            }
        }
    }

    fn up(&self, client: C) {
        self.series.up();
        self.state.send_replace(State::Up(client));
        log::info!("[Queues] connected to {}", self.name);
    }

    fn down(&self, why: &str) {
        let is_new = match &*self.state.borrow() {
            State::Down(known) => **known != *why,
            State::Opening | State::Up(_) => true,
        };
        // Once for each reason: a broker can be down for long.
        if is_new {
            log::warn!("[Queues] no connection to {}: {why}", self.name);
        }
        self.series.down();
        self.state.send_replace(State::Down(why.into()));
    }
}

impl<C> Drop for Link<C> {
    fn drop(&mut self) {
        self.series.down();
    }
}

/// The number of failures in a row, after an attempt whose connection lived this long.
fn next(failures: u32, lived: Duration) -> u32 {
    if lived >= STABLE {
        return 1;
    }
    failures.saturating_add(1)
}

/// The pause after this many failures in a row, up to a quarter shorter, so that gateways do not come back together.
fn pause(failures: u32) -> Duration {
    let shift = failures.saturating_sub(1).min(16);
    let whole = PAUSE.saturating_mul(1 << shift).min(LONGEST_PAUSE);
    let mut byte = [0];
    let random = aws_lc_rs::rand::fill(&mut byte);
    random.map_or(whole, |()| whole - whole / 1024 * u32::from(byte[0]))
}

/// See [`Link::connections`].
pub(crate) struct Connections<C>(watch::Receiver<State<C>>);

impl<C: Clone + Send + Sync> Connections<C> {
    /// The client of the current connection, or of the next one. `None` if the link was dropped.
    pub(crate) async fn next(&mut self) -> Option<C> {
        loop {
            if let State::Up(client) = &*self.0.borrow_and_update() {
                return Some(client.clone());
            }
            self.0.changed().await.ok()?;
        }
    }

    /// Resolves when the connection is lost, or was replaced, or the link was dropped.
    pub(crate) async fn lost(&mut self) {
        // Either way there is something new.
        let _ = self.0.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute() {
        assert!(pause(1) <= PAUSE && pause(1) > PAUSE / 2);
        assert!(pause(30) <= LONGEST_PAUSE && pause(30) > LONGEST_PAUSE / 2);
        assert!((1..=64).all(|failures| pause(failures) >= PAUSE / 2));
        assert_eq!(next(7, STABLE), 1);
        assert_eq!(next(7, Duration::ZERO), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_is_opened_again_and_a_dropped_link_ends() {
        let link: Arc<Link<u32>> = Arc::new(Link::new("a broker of a test"));
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&attempts);
        let open = move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if number.is_multiple_of(2) {
                    return Err("refused".to_owned());
                }
                let life = tokio::time::sleep(Duration::from_secs(1));
                Ok(Opened {
                    client: number,
                    lost: Box::pin(async move {
                        life.await;
                        "lost".to_owned()
                    }),
                })
            }
        };
        let kept = tokio::spawn(Link::keep(Arc::downgrade(&link), open));
        let deadline = Instant::now() + Duration::from_secs(60);
        let failure = link.client(deadline).await.unwrap_err();
        assert!(
            failure.text.contains("a broker of a test: refused"),
            "{failure}"
        );
        let mut connections = link.connections();
        assert_eq!(connections.next().await, Some(1));
        connections.lost().await;
        assert!(
            link.client(deadline)
                .await
                .unwrap_err()
                .text
                .contains("lost")
        );
        assert_eq!(connections.next().await, Some(3));
        drop(link);
        kept.await.unwrap();
        connections.lost().await;
        assert!(attempts.load(Ordering::SeqCst) >= 4);
    }
}
