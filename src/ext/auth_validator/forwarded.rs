//! The certificate of a client in a header of a trusted proxy.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderName;
use percent_encoding::percent_decode;

use crate::runtime::request::Head;

/// The thumbprint of the certificate in a header of a trusted proxy: `:base64:` of its DER (RFC 9440), PEM with or
/// without percent encoding (nginx, AWS), only the base64 of its DER (HAProxy, Caddy, Traefik), `Hash=…` (Envoy), or
/// the thumbprint itself, in hexadecimal digits or base64url.
///
/// Proxies join several header lines with a comma, so a comma may mean that the client has sent a header of its own.
/// Such a value is not used.
pub(super) fn in_header(head: &Head<'_>, header: &HeaderName) -> Option<String> {
    let mut lines = head.headers.get_all(header).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let text = percent_decode(line.as_bytes()).decode_utf8().ok()?;
    let text = text.trim();
    let thumbprint = |der: &[u8]| URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der));
    let der = |base64: &str| {
        let base64: String = base64.split_ascii_whitespace().collect();
        let der = STANDARD.decode(base64).ok().filter(|der| !der.is_empty())?;
        Some(thumbprint(&der))
    };
    if let Some(field) = text
        .strip_prefix(':')
        .and_then(|text| text.strip_suffix(':'))
    {
        return der(field);
    }
    if let Some(pem) = text.strip_prefix("-----BEGIN CERTIFICATE-----") {
        // The certificates of its issuers may follow.
        let (certificate, chain) = pem.split_once("-----END CERTIFICATE-----")?;
        return der(certificate).filter(|_| !chain.contains(','));
    }
    if let Some(der) = bare_certificate(text) {
        return Some(thumbprint(&der));
    }
    let hash = match std::str::from_utf8(line.as_bytes()).ok()? {
        // Not the decoded text: an encoded quotation mark does not end a quoted value.
        raw if raw.contains('=') => forwarded_hash(raw)?,
        _ => text.to_owned(),
    };
    let bytes = match hash.len() {
        64 => hex::decode(hash).ok()?,
        _ => URL_SAFE_NO_PAD.decode(hash).ok()?,
    };
    (bytes.len() == 32).then(|| URL_SAFE_NO_PAD.encode(bytes))
}

/// The certificate, if the text is its base64: a DER sequence that is longer than any thumbprint.
fn bare_certificate(text: &str) -> Option<Vec<u8>> {
    const MAX_THUMBPRINT: usize = 64;
    let der = STANDARD.decode(text).ok()?;
    (der.len() > MAX_THUMBPRINT && der.first() == Some(&0x30)).then_some(der)
}

/// The `Hash` of a `X-Forwarded-Client-Cert` of Envoy: pairs of key and value, separated by `;`. A value with `,`, `;` or
/// `=` is quoted, and a client chooses what its certificate says, so quotation marks must be read. `None` if there is
/// more than one element: several elements mean several proxies, and which of them saw the client is not known.
fn forwarded_hash(text: &str) -> Option<String> {
    let mut found = None;
    let mut rest = text.trim();
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = forwarded_value(after)?;
        if key.trim().eq_ignore_ascii_case("hash") && found.replace(value).is_some() {
            return None;
        }
        match after.strip_prefix(';') {
            Some(more) if more.trim().is_empty() => return found,
            Some(more) => rest = more,
            None if after.is_empty() => return found,
            None => return None,
        }
    }
}

/// One value, and what follows it.
fn forwarded_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (!value.contains('"')).then(|| (value.trim().to_owned(), rest));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, quoted.get(at + 1..)?.trim_start())),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::ext::testing::head;

    #[test]
    fn certificates_of_proxies_are_read_in_all_forms() {
        let der = b"certificate";
        let expected = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der));
        let hexadecimal = hex::encode(digest::digest(&digest::SHA256, der));
        let base64 = STANDARD.encode(der);
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-cert", HeaderValue::from_str(value).unwrap());
            }
            let head = head(&Method::GET, "/x", &headers);
            in_header(&head, &HeaderName::from_static("x-cert"))
        };
        for form in [
            format!(":{base64}:"),
            format!("-----BEGIN%20CERTIFICATE-----%0A{base64}%0A-----END%20CERTIFICATE-----%0A"),
            format!("-----BEGIN CERTIFICATE----- {base64} -----END CERTIFICATE-----"),
            format!("By=spiffe://a;Hash={hexadecimal};Subject=\"CN=a\""),
            format!("By=spiffe://a;Hash={hexadecimal};Subject=\"CN=a,OU=b,C=c\";URI=spiffe://c"),
            format!("Subject=\"CN=\\\"a;Hash=b\\\"\";hash=\"{hexadecimal}\";"),
            format!(
                "Subject=\"CN=x;Hash={}\";Hash={hexadecimal}",
                "0".repeat(64)
            ),
            hexadecimal.clone(),
            expected.clone(),
        ] {
            assert_eq!(read(&[&form]).as_ref(), Some(&expected), "{form}");
        }
        for form in [
            "",
            "::",
            ":%%:",
            "abc",
            "Hash=",
            &format!("Hash={hexadecimal},Hash={hexadecimal}"),
            &format!("Hash={hexadecimal};Hash={hexadecimal}"),
            &format!("Hash={hexadecimal},By=a"),
            &format!("By=a;Subject=\"CN=x;Hash={hexadecimal}\""),
            &format!("By=a;Subject=\"CN=x;Hash={hexadecimal}"),
            &format!("By=a;Subject=\"CN=x%22;Hash={hexadecimal};A=%22\""),
            &format!("By=a;Subject=\"CN=x\\\";Hash={hexadecimal}\""),
            &format!("By=a\";Hash={hexadecimal}"),
            &format!("Hash={hexadecimal};x"),
        ] {
            assert_eq!(read(&[form]), None, "{form}");
        }
        assert_eq!(read(&[&expected, &expected]), None);
        // Two header lines that a proxy has joined.
        let pem =
            format!("-----BEGIN%20CERTIFICATE-----%0A{base64}%0A-----END%20CERTIFICATE-----%0A");
        for joined in [
            format!("{pem},{pem}"),
            format!(":{base64}:, :{base64}:"),
            format!("{expected},{expected}"),
        ] {
            assert_eq!(read(&[&joined]), None, "{joined}");
        }
        let chain = format!("{pem}{pem}");
        assert_eq!(read(&[&chain]), Some(expected), "with its issuer");
        let cut = format!("-----BEGIN CERTIFICATE----- {base64}");
        assert_eq!(read(&[&cut]), None);
        // Only the base64 of a certificate.
        let der: Vec<u8> = [0x30, 0x82].into_iter().chain(0..=250).collect();
        let bare = STANDARD.encode(&der);
        let expected = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der));
        let escaped = bare
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        for form in [&bare, &escaped] {
            assert_eq!(read(&[form]).as_ref(), Some(&expected), "{form}");
        }
        let other = STANDARD.encode([7; 100]);
        for form in [format!("{bare},{bare}"), format!("{bare} x"), other] {
            assert_eq!(read(&[&form]), None, "{form}");
        }
    }
}
