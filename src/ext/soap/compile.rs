//! Compiles the block.

use crate::config::Node;
use crate::config::template::Escape;
use crate::ext::body_generator::{Defaults, MakeRequest, compile_generator};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;

const DEFAULTS: Defaults = Defaults {
    content_type: "text/xml",
    escape: Escape::Xml,
};

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    BackendPart::pipe(
        compile_generator(node, &DEFAULTS, site.pattern, cx)
            .map(|generator| MakeRequest { generator }),
    )
}
