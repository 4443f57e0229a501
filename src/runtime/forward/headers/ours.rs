//! The headers that clients cannot set.

use http::HeaderName;

/// Headers that a list cannot let through: the gateway sets them, or they concern only one connection. The same holds
/// for other spellings (`Transfer_Encoding`), which CGI and its relatives read as the same name, and for `Proxy`, from
/// which they make the variable `HTTP_PROXY`.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is_odd = |byte: u8| !byte.is_ascii_alphanumeric() && byte != b'-';
    if name.bytes().any(is_odd) {
        let usual = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        is_ours_exactly(&usual) || is_ours_beside(&usual)
    } else {
        is_ours_exactly(name)
    }
}

/// Headers that the gateway sets if the client does not, or that describe the body: they pass under this name only.
fn is_ours_beside(name: &str) -> bool {
    matches!(
        name,
        "accept-encoding"
            | "content-encoding"
            | "content-type"
            | "forwarded"
            | "traceparent"
            | "tracestate"
            | "user-agent"
            | "x-forwarded-proto"
            | "x-forwarded-via"
    )
}

fn is_ours_exactly(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "connection"
            | "content-length"
            | "expect"
            | "http2-settings"
            | "keep-alive"
            | "proxy"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "x-forwarded-for"
            | "x-forwarded-host"
    )
}
