//! Verifies AWS signatures, independently of the gateway: "Create a signed AWS API request" of AWS's documentation.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

use crate::support::stub::Seen;

pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes())
        .as_ref()
        .to_vec()
}

/// Panics unless the request is signed with [`SECRET`] for this region and service, headers and body included.
pub(crate) fn verify(seen: &Seen, region: &str, service: &str) {
    let value = seen.header("authorization").expect("a signature");
    let rest = value.strip_prefix("AWS4-HMAC-SHA256 ").unwrap();
    let part = |name: &str| {
        let mut parts = rest.split(", ");
        let found = parts.find_map(|part| part.strip_prefix(name));
        found.unwrap_or_else(|| panic!("{name} in {value}"))
    };
    let (signed, signature) = (part("SignedHeaders="), part("Signature="));
    let date = seen.header("x-amz-date").unwrap();
    let scope = format!("{}/{region}/{service}/aws4_request", &date[..8]);
    assert_eq!(part("Credential="), format!("AKIDTEST/{scope}"));
    for name in seen.headers.keys() {
        let must = name.starts_with("x-amz-") || name == "host" || name == "content-type";
        assert!(
            !must || signed.split(';').any(|known| known == name),
            "{name} is not signed: {value}"
        );
    }
    // Each segment of a path is encoded again.
    let path: String = seen.path.replace('%', "%25");
    let mut canonical = format!("{}\n{path}\n{}\n", seen.method, seen.query);
    for name in signed.split(';') {
        canonical += &format!("{name}:{}\n", seen.header(name).unwrap());
    }
    canonical += &format!("\n{signed}\n{}", hex::encode(digest(&SHA256, &seen.body)));
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex::encode(digest(&SHA256, canonical.as_bytes()))
    );
    let key = mac(format!("AWS4{SECRET}").as_bytes(), &date[..8]);
    let key = mac(&mac(&mac(&key, region), service), "aws4_request");
    assert_eq!(signature, hex::encode(mac(&key, &text)), "{canonical}");
}
