//! Removes the client's token from a call that carries another one in its place.

use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use percent_encoding::percent_decode_str;

use crate::upstream::Outgoing;

/// Removes `token` from all headers, cookies and query parameters. The backend could use it elsewhere, and MCP forbids
/// to pass it on.
pub(crate) fn withhold(out: &mut Outgoing, token: &str) {
    let needle = memmem::Finder::new(token.as_bytes());
    let has = |value: &HeaderValue| needle.find(value.as_bytes()).is_some();
    let names: Vec<HeaderName> = out
        .headers
        .keys()
        .filter(|name| out.headers.get_all(*name).iter().any(has))
        .cloned()
        .collect();
    for name in names {
        let values: Vec<HeaderValue> = out.headers.get_all(&name).iter().cloned().collect();
        out.headers.remove(&name);
        for value in values {
            if !has(&value) {
                out.headers.append(&name, value);
            } else if name == COOKIE {
                append_other_cookies(&mut out.headers, &value, &needle);
            }
        }
    }
    if let Some(target) = without_parameter(&out.target, token) {
        out.target = target.into();
    }
}

/// The pairs of a `Cookie` header (RFC 6265 §4.2.1) that do not have the token.
fn append_other_cookies(headers: &mut HeaderMap, value: &HeaderValue, token: &memmem::Finder<'_>) {
    let pairs = value.as_bytes().split(|byte| *byte == b';');
    let kept: Vec<&[u8]> = pairs
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty() && token.find(pair).is_none())
        .collect();
    if let (false, Ok(value)) = (
        kept.is_empty(),
        HeaderValue::from_bytes(&kept.join(&b"; "[..])),
    ) {
        headers.append(COOKIE, value);
    }
}

/// The target without the query parameters that have the token. `None` if there are none.
fn without_parameter(target: &str, token: &str) -> Option<String> {
    let (path, query) = target.split_once('?')?;
    let has = |pair: &&str| {
        let decoded: Vec<u8> = percent_decode_str(pair).collect();
        memmem::find(&decoded, token.as_bytes()).is_some()
    };
    if !query.split('&').any(|pair| has(&pair)) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !has(pair)).collect();
    Some(if kept.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", kept.join("&"))
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;

    use super::*;

    const TOKEN: &str = "eyJ.a-b.c_d";

    fn withheld(target: &str, headers: &[(&'static str, &str)]) -> (String, Vec<String>) {
        let mut out = Outgoing {
            method: Method::GET,
            target: target.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            subject: None,
            affinity: None,
        };
        for (name, value) in headers {
            out.headers
                .append(*name, HeaderValue::from_str(value).unwrap());
        }
        withhold(&mut out, TOKEN);
        let left = out.headers.iter();
        let mut left: Vec<String> = left
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        left.sort();
        (out.target.to_string(), left)
    }

    #[test]
    fn the_token_leaves_headers_cookies_and_query() {
        let bearer = format!("Bearer {TOKEN}");
        let cookies = format!("a=1; access_token={TOKEN}; b=2");
        let quoted = format!("access_token=\"{TOKEN}\"");
        let target = format!("/x?a=1&access_token={TOKEN}&t=eyJ%2ea-b%2Ec_d&b=");
        let (target, headers) = withheld(
            &target,
            &[
                ("authorization", &bearer),
                ("x-token", TOKEN),
                ("x-token", "other"),
                ("x-user", "ada"),
                ("cookie", &cookies),
                ("cookie", &quoted),
            ],
        );
        assert_eq!(target, "/x?a=1&b=");
        assert_eq!(
            headers,
            ["cookie: a=1; b=2", "x-token: other", "x-user: ada"]
        );
        assert_eq!(withheld(&format!("/x?t={TOKEN}"), &[]).0, "/x");
    }

    #[test]
    fn other_values_stay_as_they_are() {
        let given = [("cookie", "a=1;b=2;"), ("x-token", "eyJ.a-b")];
        let (target, headers) = withheld("/x?a=%41&&b", &given);
        assert_eq!(target, "/x?a=%41&&b");
        assert_eq!(headers, ["cookie: a=1;b=2;", "x-token: eyJ.a-b"]);
    }
}
