//! Signs a call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::credential_chain::Chain;
use super::signature::{Request, Scope, UNSIGNED_PAYLOAD, authorization, canonical, hash, stamp};
use crate::runtime::clock::Clock;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::forward::remove_alike;
use crate::runtime::step::CallSigner;
use crate::upstream::{CallBody, Outgoing};

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Headers of a signature. The client's own headers with these names, in any similar spelling (`X_Amz_Date`), are
/// removed.
const OF_SIGNATURES: [HeaderName; 8] = [
    AUTHORIZATION,
    DATE,
    TOKEN,
    CONTENT_HASH,
    HeaderName::from_static("x-amz-algorithm"),
    HeaderName::from_static("x-amz-credential"),
    HeaderName::from_static("x-amz-signature"),
    HeaderName::from_static("x-amz-signedheaders"),
];

/// Signs the calls to one host.
#[derive(Debug)]
pub(super) struct Signer {
    pub(super) scope: Scope,
    pub(super) chain: Arc<Chain>,
    /// As in `Host`.
    pub(super) authority: HeaderValue,
    /// Bodies that stream are not signed: for S3 over TLS, which guards them.
    pub(super) streams: bool,
    pub(super) debug: bool,
    pub(super) clock: Clock,
}

#[async_trait]
impl CallSigner for Signer {
    fn needs_body(&self) -> bool {
        !self.streams
    }

    async fn sign(
        &self,
        out: &mut Outgoing,
        body: CallBody,
        limit: Duration,
    ) -> Result<(), Failure> {
        let keys = self.chain.keys(limit).await.map_err(|why| {
            Failure::new(Kind::Credentials, format!("no keys to sign with: {why}"))
        })?;
        for name in OF_SIGNATURES {
            remove_alike(&mut out.headers, &name);
        }
        // A plus sign means a blank to some services and itself to others.
        if let Some((path, query)) = out.target.split_once('?')
            && query.contains('+')
        {
            out.target = format!("{path}?{}", query.replace('+', "%20")).into();
        }
        let payload_hash = match body {
            CallBody::Whole => hash(&out.body),
            CallBody::Streamed(_) => UNSIGNED_PAYLOAD.to_owned(),
        };
        let stamp = stamp(self.clock.wall());
        insert(&mut out.headers, HOST, self.authority.clone());
        insert(&mut out.headers, DATE, value(&stamp)?);
        if let Some(token) = &keys.session_token {
            let mut token = value(token)?;
            token.set_sensitive(true);
            insert(&mut out.headers, TOKEN, token);
        }
        if self.scope.is_s3() {
            insert(&mut out.headers, CONTENT_HASH, value(&payload_hash)?);
        }
        let signed = signed(&out.headers);
        let (path, query) = out.target.split_once('?').unwrap_or((&out.target, ""));
        let request = Request {
            method: out.method.as_str(),
            path,
            query,
            headers: &signed,
            payload_hash: &payload_hash,
        };
        if self.debug {
            self.tell(&request);
        }
        let mut signature = value(&authorization(&request, &self.scope, &keys, &stamp))?;
        signature.set_sensitive(true);
        insert(&mut out.headers, AUTHORIZATION, signature);
        Ok(())
    }
}

impl Signer {
    fn tell(&self, request: &Request<'_>) {
        let text = canonical(request, &self.scope);
        let shown: Vec<&str> = text
            .lines()
            .map(|line| match line.split_once(':') {
                Some(("x-amz-security-token", _)) => "x-amz-security-token:***",
                _ => line,
            })
            .collect();
        log::debug!("[SERVICE: SigV4] signed {:?}", shown.join("\n"));
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    headers.insert(name, value);
}

fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text)
        .map_err(|_| Failure::new(Kind::Credentials, "a part of the signature is not text"))
}

/// The headers that are signed: `Host`, `Content-Type` and all of AWS, sorted, each with all of its lines.
fn signed(headers: &HeaderMap) -> Vec<(String, String)> {
    let is_signed = |name: &&HeaderName| {
        **name == HOST || **name == CONTENT_TYPE || name.as_str().starts_with("x-amz-")
    };
    let mut signed: Vec<(String, String)> = headers
        .keys()
        .filter(is_signed)
        .map(|name| {
            let lines = headers.get_all(name).iter();
            let lines: Vec<String> = lines
                .map(|line| String::from_utf8_lossy(line.as_bytes()).trim().to_owned())
                .collect();
            (name.as_str().to_owned(), lines.join(","))
        })
        .collect();
    signed.sort();
    signed
}
