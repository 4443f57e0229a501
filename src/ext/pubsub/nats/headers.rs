//! The headers of messages: `NATS/1.0`, then lines as in HTTP, then an empty line.

use crate::runtime::failure::Failure;

const VERSION: &[u8] = b"NATS/1.0";

/// The block of headers for this metadata. Empty without any.
///
/// # Errors
/// 400: a name or a value cannot be a header of NATS.
pub(super) fn written(metadata: &[(String, String)]) -> Result<Vec<u8>, Failure> {
    if metadata.is_empty() {
        return Ok(Vec::new());
    }
    let mut block = [VERSION, b"\r\n"].concat();
    for (name, value) in metadata {
        if !is_name(name.as_bytes()) || value.contains(['\r', '\n', '\0']) {
            let text = format!("pubsub: {name} cannot be a header of NATS");
            return Err(Failure::bad_input(http::StatusCode::BAD_REQUEST, text));
        }
        block.extend_from_slice(name.as_bytes());
        block.extend_from_slice(b": ");
        block.extend_from_slice(value.as_bytes());
        block.extend_from_slice(b"\r\n");
    }
    block.extend_from_slice(b"\r\n");
    Ok(block)
}

/// The value of the header `Content-Type`, if there is one.
///
/// # Errors
/// The block cannot be parsed.
pub(super) fn content_type(block: &[u8]) -> Result<Option<&[u8]>, ()> {
    let mut found = None;
    let mut lines = block.split(|byte| *byte == b'\n').map(trimmed);
    let first = lines.next().unwrap_or_default();
    // A status may follow.
    let rest = first.strip_prefix(VERSION).ok_or(())?;
    if rest.first().is_some_and(|byte| *byte != b' ') {
        return Err(());
    }
    for line in lines.filter(|line| !line.is_empty()) {
        // A value may go on in the next line.
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(())?;
        let (name, value) = line.split_at(colon);
        if !is_name(name) {
            return Err(());
        }
        if found.is_none() && name.eq_ignore_ascii_case(b"content-type") {
            found = value.get(1..).map(<[u8]>::trim_ascii);
        }
    }
    Ok(found)
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Printable ASCII without blanks and colons.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_graphic() && *byte != b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let block = written(&[pair("X-A", "a b"), pair("Content-Type", "text/xml")]).unwrap();
        assert_eq!(
            block,
            b"NATS/1.0\r\nX-A: a b\r\nContent-Type: text/xml\r\n\r\n"
        );
        assert_eq!(content_type(&block), Ok(Some(&b"text/xml"[..])));
        assert_eq!(written(&[]).unwrap(), b"");
        for (name, value) in [("X A", "a"), ("", "a"), ("X:A", "a"), ("X-A", "a\r\nb: c")] {
            let failure = written(&[pair(name, value)]).unwrap_err();
            assert_eq!(failure.status, http::StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn odd_blocks_are_errors_and_odd_values_are_not() {
        for block in [
            &b"NATS/1.0\r\n\r\n"[..],
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.0 408 Request Timeout\r\n\r\n",
            b"NATS/1.0\r\nA: \xe9t\xe9\r\n\r\n",
            b"NATS/1.0\r\nA: b\r\n c\r\nB:\r\n\r\n",
        ] {
            assert_eq!(content_type(block), Ok(None), "{block:?}");
        }
        for block in [
            &b""[..],
            b"GARBAGE\r\n\r\n",
            b"NATS/1.00\r\n\r\n",
            b"NATS/1.0\r\nbad\r\n\r\n",
            b"NATS/1.0\r\nA b: x\r\n\r\n",
            b"NATS/1.0\r\n\xc3\xa9: x\r\n\r\n",
            b"NATS/1.0\r\n: x\r\n\r\n",
        ] {
            assert_eq!(content_type(block), Err(()), "{block:?}");
        }
    }
}
