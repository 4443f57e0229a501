//! Why a TLS handshake failed, in KrakenD's words.
//!
//! Pingora wraps the error of the TLS library in its own text. An error that is not known here is passed on
//! unchanged.

use std::borrow::Cow;

use pingora_core::Error;

use super::handshake_signature::words;

/// The cause of a failed handshake, for the log and for `return_error_msg`.
pub(super) fn reason(error: &Error) -> Cow<'static, str> {
    let text = error.to_string();
    let said = said(&text);
    if let Some(certificate) = said.strip_prefix("invalid peer certificate: ") {
        let why = invalid(certificate);
        return format!("tls: failed to verify certificate: x509: {why}").into();
    }
    if let Some(alert) = alert(said) {
        return alert.into();
    }
    match said {
        "received corrupt message of type InvalidContentType" => {
            "http: server gave HTTP response to HTTPS client".into()
        }
        said if said.ends_with("handshake eof") => "EOF".into(),
        said => format!("tls: {said}").into(),
    }
}

/// The alert of the peer, which in TLS 1.3 arrives only after the handshake.
pub(super) fn alert(said: &str) -> Option<String> {
    let alert = said.strip_prefix("received fatal alert: ")?;
    Some(format!("remote error: tls: {}", spaced(alert)))
}

/// The text of the TLS library, without Pingora's text around it.
fn said(text: &str) -> &str {
    let inner = match text.split_once("TLS connect() failed: ") {
        Some((_, inner)) => inner.rsplit_once(", SNI: ").map_or(inner, |(said, _)| said),
        None => text,
    };
    match inner.rsplit_once(" cause: ") {
        Some((_, cause)) => cause,
        None => inner.trim(),
    }
}

fn invalid(certificate: &str) -> Cow<'static, str> {
    if let Some(rest) = certificate.strip_prefix("certificate not valid for name ") {
        let (wanted, presented) = rest.split_once("; ").unwrap_or((rest, ""));
        return wrong_name(wanted.trim_matches('"'), presented).into();
    }
    let is = |prefix: &str| certificate.starts_with(prefix);
    if is("UnknownIssuer") || is("BadSignature") {
        "certificate signed by unknown authority".into()
    } else if is("certificate expired") || is("certificate not valid yet") {
        "certificate has expired or is not yet valid".into()
    } else if certificate.contains("CaUsedAsEndEntity") {
        "the certificate is that of a certificate authority: issue another one for the server, or name this one in ca_certs".into()
    } else {
        words(certificate).to_owned().into()
    }
}

fn wrong_name(wanted: &str, presented: &str) -> String {
    // Names have the form `DnsName("a.example")` or `IpAddress(192.0.2.1)`.
    let names: Vec<&str> = presented
        .split(['(', ')'])
        .skip(1)
        .step_by(2)
        .map(|name| name.trim_matches('"'))
        .collect();
    match names.as_slice() {
        _ if !presented.contains("only valid for") => {
            format!("certificate is not valid for any names, but wanted to match {wanted}")
        }
        names => format!(
            "certificate is valid for {}, not {wanted}",
            names.join(", ")
        ),
    }
}

/// `HandshakeFailure` → `handshake failure`.
fn spaced(alert: &str) -> String {
    let mut words = String::with_capacity(alert.len() + 4);
    for c in alert.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    match words.as_str() {
        "protocol version" => "protocol version not supported".to_owned(),
        _ => words,
    }
}

#[cfg(test)]
mod tests {
    use pingora_core::ErrorType::TLSHandshakeFailure;

    use super::*;

    fn told(library: &str) -> String {
        let inner = Error::because(TLSHandshakeFailure, "tls connect error", library.to_owned());
        let text = format!("TLS connect() failed: {inner}, SNI: a.example");
        reason(&Error::explain(TLSHandshakeFailure, text)).into_owned()
    }

    #[test]
    fn common_causes_use_the_words_of_krakend() {
        let x509 = "tls: failed to verify certificate: x509: certificate ";
        for (library, want) in [
            (
                "invalid peer certificate: UnknownIssuer",
                &*format!("{x509}signed by unknown authority"),
            ),
            (
                "invalid peer certificate: certificate expired: verification time 2 (UNIX), but …",
                &format!("{x509}has expired or is not yet valid"),
            ),
            (
                r#"invalid peer certificate: certificate not valid for name "a.example"; certificate is only valid for DnsName("b.example") or DnsName("c.example")"#,
                &format!("{x509}is valid for b.example, c.example, not a.example"),
            ),
            (
                r#"invalid peer certificate: certificate not valid for name "a.example"; certificate is not valid for any names (according to its subjectAltName extension)"#,
                &format!("{x509}is not valid for any names, but wanted to match a.example"),
            ),
            (
                "received fatal alert: HandshakeFailure",
                "remote error: tls: handshake failure",
            ),
            ("something new", "tls: something new"),
        ] {
            assert_eq!(told(library), want);
        }
    }
}
