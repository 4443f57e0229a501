//! How we reach backends.

use std::sync::Arc;

use crate::config::{Backend, Mistake, Service};
use crate::ext::Compile;
use crate::upstream::HostSet;

/// Makes the client that all backends share.
pub fn client(file: &Service<'_>, cx: &mut Compile<'_>) {
    let _ = (file, cx);
}

/// The hosts of a backend as something that calls can be sent to.
pub fn hosts(
    file: &Backend<'_>,
    hosts: &[String],
    service: &Service<'_>,
    cx: &mut Compile<'_>,
) -> Option<Arc<HostSet>> {
    let _ = (hosts, service, cx);
    if file.sd.as_deref() == Some("dns") && hosts.is_empty() {
        file.block.node().mistake(Mistake::Missing("host"));
    }
    Some(Arc::new(HostSet))
}
