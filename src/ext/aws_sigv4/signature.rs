//! AWS Signature Version 4, as its documentation describes it ("Create a signed AWS API request").

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use chrono::{DateTime, Utc};
use percent_encoding::percent_decode;

/// The hash of a body that is not signed.
pub(super) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Keys of an identity.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    /// Of temporary keys.
    pub(super) session_token: Option<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a signature is valid for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) region: String,
    pub(super) service: String,
}

impl Scope {
    /// Paths are encoded once for S3, and twice for all other services.
    pub(super) fn is_s3(&self) -> bool {
        matches!(
            self.service.as_str(),
            "s3" | "s3-object-lambda" | "s3express"
        )
    }
}

/// The request that is signed.
#[derive(Debug)]
pub(super) struct Request<'r> {
    pub(super) method: &'r str,
    /// As on the wire.
    pub(super) path: &'r str,
    /// As on the wire, without `?`.
    pub(super) query: &'r str,
    /// Names in lower case, sorted. All of them are signed.
    pub(super) headers: &'r [(String, String)],
    /// The SHA-256 of the body in hexadecimal, or [`UNSIGNED_PAYLOAD`].
    pub(super) payload_hash: &'r str,
}

/// The time of a signature: `20150830T123600Z`, which begins with the date.
pub(super) fn stamp(now: Duration) -> String {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let time = DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or_default();
    time.format("%Y%m%dT%H%M%SZ").to_string()
}

/// The SHA-256 of `bytes` in hexadecimal.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// The value of `Authorization`.
pub(super) fn authorization(
    request: &Request<'_>,
    scope: &Scope,
    keys: &Keys,
    stamp: &str,
) -> String {
    let date = stamp.get(..8).unwrap_or(stamp);
    let place = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let canonical = hash(canonical(request, scope).as_bytes());
    let text = format!("{ALGORITHM}\n{stamp}\n{place}\n{canonical}");
    let signature = hex::encode(mac(&signing_key(&keys.secret, date, scope), &text));
    let id = &keys.id;
    let signed = signed_headers(request.headers);
    format!("{ALGORITHM} Credential={id}/{place}, SignedHeaders={signed}, Signature={signature}")
}

/// The canonical form of a request, of which the signature is made.
pub(super) fn canonical(request: &Request<'_>, scope: &Scope) -> String {
    let path = if scope.is_s3() {
        encoded(
            &percent_decode(request.path.as_bytes()).collect::<Vec<u8>>(),
            true,
        )
    } else {
        encoded(request.path.as_bytes(), true)
    };
    let mut text = format!("{}\n{path}\n{}\n", request.method, query(request.query));
    for (name, value) in request.headers {
        text.push_str(name);
        text.push(':');
        for (index, word) in value.split_ascii_whitespace().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
        text.push('\n');
    }
    let signed = signed_headers(request.headers);
    text.push_str(&format!("\n{signed}\n{}", request.payload_hash));
    text
}

fn signed_headers(headers: &[(String, String)]) -> String {
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.join(";")
}

/// The parameters, encoded and sorted.
fn query(written: &str) -> String {
    let again = |text: &str| {
        let bytes: Vec<u8> = percent_decode(text.as_bytes()).collect();
        encoded(&bytes, false)
    };
    let mut pairs: Vec<(String, String)> = written
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (again(name), again(value))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Percent-encoding with the unreserved characters of RFC 3986 §2.3 and upper-case digits.
fn encoded(bytes: &[u8], is_path: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            b'/' if is_path => text.push('/'),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The key that is derived from the secret, for one day, region and service.
fn signing_key(secret: &str, date: &str, scope: &Scope) -> Vec<u8> {
    let start = format!("AWS4{secret}").into_bytes();
    [date, &scope.region, &scope.service, "aws4_request"]
        .iter()
        .fold(start, |key, text| mac(&key, text))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = Key::new(HMAC_SHA256, key);
    sign(&key, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inputs of AWS's published test suite and examples.
    fn suite() -> (Keys, Scope) {
        let keys = Keys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        };
        let scope = Scope {
            region: "us-east-1".to_owned(),
            service: "service".to_owned(),
        };
        (keys, scope)
    }

    const STAMP: &str = "20150830T123600Z";

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_published_test_suite_is_signed_as_published() {
        let (keys, scope) = suite();
        let plain = [("host", "example.amazonaws.com"), ("x-amz-date", STAMP)];
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", "example.amazonaws.com"),
            ("x-amz-date", STAMP),
        ];
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let with_token = [
            ("host", "example.amazonaws.com"),
            ("x-amz-date", STAMP),
            ("x-amz-security-token", token),
        ];
        for (name, method, path, query, sent, body, want) in [
            (
                "get-vanilla",
                "GET",
                "/",
                "",
                &plain[..],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-vanilla-empty-query-key",
                "GET",
                "/",
                "Param1=value1",
                &plain,
                "",
                "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
            ),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                "/",
                "Param2=value2&Param1=value1",
                &plain,
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-vanilla-query-unreserved",
                "GET",
                "/",
                "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                &plain,
                "",
                "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            ),
            (
                "get-utf8",
                "GET",
                "/ሴ",
                "",
                &plain,
                "",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "post-vanilla",
                "POST",
                "/",
                "",
                &plain,
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "post-vanilla-query",
                "POST",
                "/",
                "Param1=value1",
                &plain,
                "",
                "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                "/",
                "",
                &form,
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "post-sts-header-before",
                "POST",
                "/",
                "",
                &with_token,
                "",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            let headers = headers(sent);
            let payload_hash = hash(body.as_bytes());
            let request = Request {
                method,
                path,
                query,
                headers: &headers,
                payload_hash: &payload_hash,
            };
            let value = authorization(&request, &scope, &keys, STAMP);
            assert!(
                value.ends_with(&format!("Signature={want}")),
                "{name}: {value}\n{}",
                canonical(&request, &scope)
            );
        }
    }

    #[test]
    fn the_documented_example_of_iam_is_signed_as_documented() {
        let (keys, _) = suite();
        let scope = Scope {
            region: "us-east-1".to_owned(),
            service: "iam".to_owned(),
        };
        assert_eq!(
            hex::encode(signing_key(&keys.secret, "20150830", &scope)),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
        let headers = headers(&[
            (
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            ),
            ("host", "iam.amazonaws.com"),
            ("x-amz-date", STAMP),
        ]);
        let request = Request {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &headers,
            payload_hash: &hash(b""),
        };
        assert_eq!(
            hash(canonical(&request, &scope).as_bytes()),
            "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
        );
        assert_eq!(
            authorization(&request, &scope, &keys, STAMP),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn the_documented_examples_of_s3_are_signed_as_documented() {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        };
        let scope = Scope {
            region: "us-east-1".to_owned(),
            service: "s3".to_owned(),
        };
        let stamp = "20130524T000000Z";
        let empty = hash(b"");
        for (path, query, range, want) in [
            (
                "/test.txt",
                "",
                Some("bytes=0-9"),
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "/",
                "lifecycle",
                None,
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "/",
                "max-keys=2&prefix=J",
                None,
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let mut sent = vec![("host", "examplebucket.s3.amazonaws.com")];
            sent.extend(range.map(|range| ("range", range)));
            sent.extend([
                ("x-amz-content-sha256", empty.as_str()),
                ("x-amz-date", stamp),
            ]);
            let headers = headers(&sent);
            let request = Request {
                method: "GET",
                path,
                query,
                headers: &headers,
                payload_hash: &empty,
            };
            let value = authorization(&request, &scope, &keys, stamp);
            assert!(
                value.ends_with(&format!("Signature={want}")),
                "{query}: {value}"
            );
        }
    }

    #[test]
    fn paths_are_encoded_once_for_s3_and_twice_for_others() {
        let (_, service) = suite();
        let s3 = Scope {
            service: "s3".to_owned(),
            ..service.clone()
        };
        let path = |scope: &Scope| {
            let request = Request {
                method: "GET",
                path: "/a%20b/c+d",
                query: "",
                headers: &[],
                payload_hash: UNSIGNED_PAYLOAD,
            };
            canonical(&request, scope)
                .lines()
                .nth(1)
                .unwrap()
                .to_owned()
        };
        assert_eq!(path(&s3), "/a%20b/c%2Bd");
        assert_eq!(path(&service), "/a%2520b/c%2Bd");
    }
}
