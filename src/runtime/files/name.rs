//! The path of a URL as names of files.

use percent_encoding::percent_decode_str;

use crate::runtime::template::escape;

/// The names that a path consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// Joined with slashes, decoded once. Empty for the folder itself.
    pub relative: Vec<u8>,
    /// Whether the path ends in a slash, as that of a folder does.
    pub slash: bool,
}

/// The names in the raw path `rest`, which is what follows a prefix. `None` if one of them is not to be served: a dot
/// segment, a hidden name, a name with a separator or a NUL in it, an empty name, or a broken escape.
pub(crate) fn names(rest: &str) -> Option<Name> {
    if !escape::is_well_formed(rest) {
        return None;
    }
    let slash = rest.ends_with('/');
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    if rest == "/" {
        return None;
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let mut relative = Vec::with_capacity(rest.len());
    if rest.is_empty() {
        return Some(Name { relative, slash });
    }
    for segment in rest.split('/') {
        if !relative.is_empty() {
            relative.push(b'/');
        }
        let start = relative.len();
        relative.extend(percent_decode_str(segment));
        if !is_visible(&relative[start..]) {
            return None;
        }
    }
    Some(Name { relative, slash })
}

/// Whether a file with this name may be served. Names that begin with a dot are hidden: `.git`, `.env`, `.htpasswd`.
pub(super) fn is_visible(name: &[u8]) -> bool {
    let is_odd = |byte: &u8| matches!(byte, b'/' | b'\\') || byte.is_ascii_control();
    let is_hidden = name.starts_with(b".") && name != b".well-known";
    !name.is_empty() && !is_hidden && !name.iter().any(is_odd)
}
