//! Compiles the block to a store, which is passed to the endpoints that are compiled later.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::client::Server;
use super::config::Block;
use super::runtime::{OnFailure, Shared, Store, StoreOptions};
use crate::config::Node;
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::ext::reload_state::Task;
use crate::runtime::clock::Clock;

const TIMEOUT: Duration = Duration::from_millis(5);
const CONNECTIONS: i64 = 4;
/// The default of `namespace`.
const NAMESPACE: &str = "default";

/// Characters that are escaped in keys: braces mark the part that a cluster hashes, and spaces make keys hard to
/// type.
const IN_KEYS: &AsciiSet = &CONTROLS.add(b'{').add(b'}').add(b'%').add(b' ').add(b':');

/// A Redis, for the blocks that count there.
#[derive(Debug, Clone)]
pub(crate) struct SharedStore {
    pub store: Arc<dyn Shared>,
    pub on_failure: OnFailure,
    namespace: Box<str>,
}

impl SharedStore {
    /// A store with this `on_failure`.
    pub(in crate::ext) fn new(store: Arc<dyn Shared>, on_failure: OnFailure) -> SharedStore {
        SharedStore {
            store,
            on_failure,
            namespace: NAMESPACE.into(),
        }
    }

    /// The same store with another `on_failure`.
    pub(in crate::ext) fn with(&self, on_failure: OnFailure) -> SharedStore {
        SharedStore {
            on_failure,
            ..self.clone()
        }
    }

    /// The prefix of all keys of one block. `place` names the kind of the block, and `name` the block itself. A cluster
    /// keeps these keys on one node.
    pub(in crate::ext) fn keys(&self, place: &str, name: &str) -> String {
        let namespace = utf8_percent_encode(&self.namespace, IN_KEYS);
        let name = utf8_percent_encode(name, IN_KEYS);
        format!("portcullis:{{{namespace}:{place}:{name}}}:")
    }

    /// The prefix of the names of session ticket keys, which are on one node of a cluster.
    pub(super) fn tickets(&self) -> String {
        let namespace = utf8_percent_encode(&self.namespace, IN_KEYS);
        format!("portcullis:{{{namespace}:session-tickets}}:")
    }

    /// The key of the list of revoked tokens.
    pub(crate) fn revoked(&self) -> String {
        let namespace = utf8_percent_encode(&self.namespace, IN_KEYS);
        format!("portcullis:{{{namespace}:revoked}}")
    }

    /// The prefix of all keys of one endpoint. It is unique, and a cluster keeps these keys on one node, so that one
    /// script may access all of them.
    pub(crate) fn prefix(&self, method: &Method, pattern: &str) -> String {
        let namespace = utf8_percent_encode(&self.namespace, IN_KEYS);
        let pattern = utf8_percent_encode(pattern, IN_KEYS);
        format!("portcullis:{{{namespace}:{method}:{pattern}}}:")
    }
}

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = Block::read(node) else {
        return ServicePart::Nothing;
    };
    let server = match Server::from_url(&block.url) {
        Ok(server) => server,
        Err(error) => {
            block.url_at.invalid(error.to_string());
            return ServicePart::Nothing;
        }
    };
    let connections = usize::try_from(block.pool_size.unwrap_or(CONNECTIONS)).unwrap_or(1);
    let options = StoreOptions::new(connections, block.timeout.unwrap_or(TIMEOUT));
    let store = Arc::new(Store::new(server, options, Clock::system()));
    let key = format!("portcullis/redis {}", node.value().to_json());
    let store = cx.carry_over(key, |tasks| {
        let connecting = Arc::clone(&store);
        tasks.push(Task::new(
            "redis",
            async move { connecting.connect().await },
        ));
        store
    });
    cx.set_fact(Arc::new(SharedStore {
        store,
        on_failure: match block.on_failure {
            Some("open") => OnFailure::Open,
            Some("closed") => OnFailure::Closed,
            _ => OnFailure::Local,
        },
        namespace: block
            .namespace
            .unwrap_or_else(|| NAMESPACE.to_owned())
            .into(),
    }));
    ServicePart::Nothing
}
