//! One connection to a broker. It is opened in the background, and again whenever it is lost.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::backoff::Backoff;
use crate::ext::reconnect::{failures_after, spread};
use crate::runtime::failure::{Failure, Kind};
use crate::telemetry::calm::Calm;
use crate::telemetry::queues::BrokerSeries;
use crate::upstream::ConnectFailure;

/// The most lines about new connections, and about lost ones, in ten seconds.
pub(crate) const LINES: u32 = 5;

/// Resolves, with the reason, when the connection is lost.
pub(crate) type Lost = Pin<Box<dyn Future<Output = Failed> + Send>>;

/// A new connection.
pub(crate) struct Opened<C> {
    pub(crate) client: C,
    pub(crate) lost: Lost,
}

/// Why there is no new connection.
pub(crate) struct Failed {
    why: String,
    /// When the next attempt makes sense. Without it, after a pause.
    until: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl From<String> for Failed {
    fn from(why: String) -> Failed {
        Failed { why, until: None }
    }
}

impl Failed {
    /// The reason.
    #[cfg(feature = "amqp")]
    pub(crate) fn into_text(self) -> String {
        self.why
    }

    /// The connection that this one depends on is lost. The next attempt waits for that one.
    pub(crate) fn with_its_connection() -> Failed {
        Failed::until("the connection is lost".to_owned(), async {})
    }

    /// An attempt that depends on another connection, which is down.
    pub(crate) fn until(why: String, ready: impl Future<Output = ()> + Send + 'static) -> Failed {
        Failed {
            why,
            until: Some(Box::pin(ready)),
        }
    }
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
    /// Lines about connections that are opened and lost in turn.
    opened: Calm,
    lost: Calm,
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
            opened: Calm::after(LINES),
            lost: Calm::after(LINES),
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
        self.current(deadline).await.map(|(client, _)| client)
    }

    /// Also returns a receiver that reports the loss of the connection.
    ///
    /// # Errors
    /// There is no connection. The text says why.
    pub(crate) async fn current(&self, deadline: Instant) -> Result<(C, Connections<C>), Failure> {
        let mut state = self.state.subscribe();
        let tried = state.wait_for(|state| !matches!(state, State::Opening));
        let found = match timeout_at(deadline, tried).await {
            Ok(Ok(found)) => found.clone(),
            _ => State::Opening,
        };
        match found {
            State::Up(client) => Ok((client, Connections(state))),
            State::Opening => Err(self.failure("the connection is not open yet")),
            State::Down(why) => Err(self.failure(&why)),
        }
    }

    fn failure(&self, why: &str) -> Failure {
        let text = format!("cannot connect to {}: {why}", self.name);
        Failure::new(Kind::Connect(ConnectFailure::Other), text)
    }

    /// Waits for the next connection, again after each one that is lost. Ends when the link is dropped.
    pub(crate) fn connections(&self) -> Connections<C> {
        Connections(self.state.subscribe())
    }

    /// Keeps the connection open until the link is dropped.
    pub(crate) async fn keep<F>(link: Weak<Link<C>>, backoff: Backoff, open: impl Fn() -> F + Send)
    where
        F: Future<Output = Result<Opened<C>, Failed>> + Send,
    {
        let Some(mut gone) = link.upgrade().map(|link| link.alive.subscribe()) else {
            return;
        };
        let mut failures: u32 = 0;
        loop {
            let attempt = tokio::select! {
                attempt = open() => attempt,
                _ = gone.changed() => return,
            };
            let (failed, lived) = match attempt {
                Ok(opened) => {
                    let since = Instant::now();
                    let Some(link) = link.upgrade() else { return };
                    link.up(opened.client);
                    drop(link);
                    let failed = tokio::select! {
                        failed = opened.lost => failed,
                        _ = gone.changed() => return,
                    };
                    (failed, Some(since.elapsed()))
                }
                Err(failed) => (failed, None),
            };
            // What another connection is to blame for is no failure of this one.
            if failed.until.is_none() {
                failures = failures_after(failures, lived);
            }
            let Some(link) = link.upgrade() else { return };
            link.down(&failed.why, failed.until.is_none());
            drop(link);
            let ready = failed
                .until
                .unwrap_or_else(|| Box::pin(tokio::time::sleep(spread(backoff.pause(failures)))));
            tokio::select! {
                () = ready => {}
                _ = gone.changed() => return,
            }
        }
    }

    fn up(&self, client: C) {
        self.series.up();
        self.state.send_replace(State::Up(client));
        self.opened
            .info(|| format!("[Queues] connected to {}", self.name));
    }

    fn down(&self, why: &str, is_told: bool) {
        let is_new = match &*self.state.borrow() {
            State::Down(known) => **known != *why,
            State::Opening | State::Up(_) => true,
        };
        // Once for each reason: a broker can be down for long.
        if is_new && is_told {
            self.lost
                .warn(|| format!("[Queues] cannot connect to {}: {why}", self.name));
        }
        self.series.down();
        self.state.send_replace(State::Down(why.into()));
    }
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
        // The state has changed in either case.
        let _ = self.0.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::super::QUICK;
    use super::*;

    /// How many connections are opened in a minute if each is lost after `life`.
    async fn opened_in_a_minute(life: Duration) -> u32 {
        let link: Arc<Link<()>> = Arc::new(Link::new("a broker that closes"));
        let opened = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&opened);
        let open = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                Ok(Opened {
                    client: (),
                    lost: Box::pin(async move {
                        tokio::time::sleep(life).await;
                        Failed::from("closed".to_owned())
                    }),
                })
            }
        };
        tokio::spawn(Link::keep(Arc::downgrade(&link), QUICK, open));
        tokio::time::sleep(Duration::from_secs(60)).await;
        opened.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_unless_connections_work() {
        let closed_at_once = opened_in_a_minute(Duration::from_millis(1)).await;
        assert!((7..=10).contains(&closed_at_once), "{closed_at_once}");
        let worked = opened_in_a_minute(Duration::from_secs(2)).await;
        assert!((29..=31).contains(&worked), "{worked}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_lost_with_its_connection_waits_for_no_pause() {
        let link: Arc<Link<u32>> = Arc::new(Link::new("a channel"));
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&attempts);
        let open = move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                Ok(Opened {
                    client: number,
                    lost: Box::pin(async move {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        Failed::with_its_connection()
                    }),
                })
            }
        };
        tokio::spawn(Link::keep(Arc::downgrade(&link), QUICK, open));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let attempts = attempts.load(Ordering::SeqCst);
        assert!((50..=101).contains(&attempts), "{attempts}");
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
                    return Err(Failed::from("refused".to_owned()));
                }
                let life = tokio::time::sleep(Duration::from_secs(1));
                Ok(Opened {
                    client: number,
                    lost: Box::pin(async move {
                        life.await;
                        Failed::from("lost".to_owned())
                    }),
                })
            }
        };
        let kept = tokio::spawn(Link::keep(Arc::downgrade(&link), QUICK, open));
        let deadline = Instant::now() + Duration::from_secs(60);
        let failure = link.client(deadline).await.unwrap_err();
        assert!(
            failure.text.contains("a broker of a test: refused"),
            "{failure}"
        );
        let mut connections = link.connections();
        assert_eq!(connections.next().await, Some(1));
        connections.lost().await;
        // The next connection is opened at once, and refused.
        let failure = link.client(deadline).await.unwrap_err();
        let text = &failure.text;
        assert!(
            text.contains("lost") || text.contains("refused"),
            "{failure}"
        );
        assert_eq!(connections.next().await, Some(3));
        drop(link);
        kept.await.unwrap();
        connections.lost().await;
        assert!(attempts.load(Ordering::SeqCst) >= 4);
    }
}
