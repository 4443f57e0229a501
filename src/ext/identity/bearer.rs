/// Whether a text has the syntax of a bearer token: `b64token` of RFC 6750 §2.1.
pub(crate) fn is_bearer_token(token: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    let end = token.iter().position(|byte| !is_allowed(byte));
    let (start, padding) = token.split_at(end.unwrap_or(token.len()));
    !start.is_empty() && padding.iter().all(|byte| *byte == b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_has_the_characters_of_rfc_6750() {
        for (token, fits) in [
            ("abc", true),
            ("a-._~+/9==", true),
            ("", false),
            ("=", false),
            ("a=b", false),
            ("a b", false),
            ("a ", false),
            ("a,b", false),
            ("a\"", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(is_bearer_token(token.as_bytes()), fits, "{token:?}");
        }
    }
}
