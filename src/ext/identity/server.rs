//! A configured server for introspection, token exchange or forward authentication: its [`Inquiry`] and its client.

use std::sync::Arc;
use std::time::Duration;

use super::answer_cache::CacheSize;
use super::inquiry::Inquiry;
use crate::config::Node;
use crate::ext::context::Compile;
use crate::runtime::clock::Clock;
use crate::telemetry::mask::without_values;
use crate::upstream::{OUR_USER_AGENT, SideClient, SideTls};

/// The maximum number of results that are kept for one server.
const ENTRIES: usize = 100_000;

/// What a block says about the server.
#[derive(Debug)]
pub(crate) struct Server<'s> {
    /// For the log: `introspection`.
    pub kind: &'static str,
    pub url: &'s str,
    /// Blocks with the same definition share the server's state, and a reload keeps it.
    pub definition: String,
    /// How long a call may last before it counts as a failure of the server.
    pub timeout: Duration,
    /// How many bytes of results are kept.
    pub cache_bytes: u64,
    pub tls: &'s SideTls,
}

impl Server<'_> {
    /// The state of the server, and a client that does not follow redirects: tokens and secrets are meant for this
    /// server only. `None` after an error, which is reported at `node`: the TLS settings are not usable, or the system
    /// has no random numbers.
    pub(crate) fn open<A: Clone + Send + 'static>(
        self,
        node: &Node<'_>,
        cx: &mut Compile<'_>,
    ) -> Option<(Arc<Inquiry<A>>, SideClient)> {
        let opened = self.opened(cx);
        opened.map_err(|error| node.invalid(error)).ok()
    }

    fn opened<A: Clone + Send + 'static>(
        self,
        cx: &mut Compile<'_>,
    ) -> Result<(Arc<Inquiry<A>>, SideClient), String> {
        let size = CacheSize {
            entries: ENTRIES,
            bytes: usize::try_from(self.cache_bytes).unwrap_or(usize::MAX),
        };
        let inquiry = cx.try_carry_over(self.definition, |_| {
            let name = format!("{} {}", self.kind, without_values(self.url));
            Inquiry::new(name, size, self.timeout, Clock::system()).map(Arc::new)
        });
        let inquiry = inquiry.map_err(|error| error.to_string())?;
        let client = SideClient::without_redirects(self.tls, &OUR_USER_AGENT);
        Ok((inquiry, client.map_err(|error| error.to_string())?))
    }
}
