//! Signed calls of the gateway itself, to functions and queues.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::time::Instant;

use super::compile::{chain, session};
use super::credential_chain::Chain;
pub(in crate::ext) use super::credential_chain::element;
use super::credential_source::Origin;
use super::signature::{Request, Scope, authorization, hash, stamp};
use crate::backoff::Backoff;
use crate::config::{ConfigError, Node};
use crate::ext::context::{Compile, ServiceFacts};
use crate::runtime::clock::Clock;
use crate::runtime::failure::{Failure, Kind};
use crate::upstream::{OUR_USER_AGENT, SideClient, SideError, SideResponse};

/// A service of AWS, as a configuration names it.
#[derive(Debug)]
pub(in crate::ext) struct Service {
    /// `lambda`
    pub name: &'static str,
    /// `None`: that of the environment.
    pub region: Option<String>,
    /// `None`: that of the region.
    pub endpoint: Option<String>,
    /// A profile of the shared credentials file, which replaces all other sources of keys.
    pub profile: Option<String>,
    /// Calls are not signed.
    pub anonymous: bool,
}

/// Calls one service of AWS.
#[derive(Debug)]
pub(in crate::ext) struct AwsClient {
    scope: Scope,
    /// `https://lambda.eu-west-1.amazonaws.com`
    base: String,
    /// As in `Host`.
    authority: String,
    /// The path of `base`, which is empty for AWS itself.
    prefix: String,
    keys: Keys,
    http: SideClient,
    clock: Clock,
}

#[derive(Debug)]
enum Keys {
    Chain(Arc<Chain>),
    Anonymous,
}

/// Why a call gave no response.
#[derive(Debug)]
pub(in crate::ext) struct AwsError {
    pub text: String,
    pub kind: Kind,
    /// Nothing of the call was sent.
    pub unsent: bool,
}

impl From<AwsError> for Failure {
    fn from(error: AwsError) -> Failure {
        Failure::new(error.kind, error.text)
    }
}

impl AwsClient {
    /// A client of `service`. `None` after an error was reported. Missing keys and a missing region are warnings, since
    /// both depend on the machine: each call fails then.
    pub(in crate::ext) fn open(
        node: &Node<'_>,
        service: Service,
        cx: &mut Compile<'_>,
    ) -> Option<AwsClient> {
        let of_environment = |name: &str| cx.environment.get(name).filter(|text| !text.is_empty());
        let region = service
            .region
            .or_else(|| of_environment("AWS_REGION").map(str::to_owned))
            .or_else(|| of_environment("AWS_DEFAULT_REGION").map(str::to_owned));
        if region.is_none() {
            node.warn_hint(
                ConfigError::invalid("there is no region, here or in AWS_REGION: every call fails"),
                "\"region\": \"eu-west-1\"",
            );
        }
        let region = region.unwrap_or_default();
        if !is_region(&region) {
            node.config_error_hint(
                ConfigError::invalid(format!("{region:?} is not a region")),
                "\"region\": \"eu-west-1\"",
            );
            return None;
        }
        let base = match service.endpoint {
            Some(endpoint) if endpoint.contains("://") => endpoint,
            Some(endpoint) => format!("https://{endpoint}"),
            None => format!("https://{}.{region}.{}", service.name, suffix(&region)),
        };
        let base = base.trim_end_matches('/').to_owned();
        let (authority, prefix) = place(node, &base)?;
        let keys = if service.anonymous {
            Keys::Anonymous
        } else {
            keys(node, &region, service.profile, cx)?
        };
        let http = match SideClient::pooled(&cx.client_tls(), &OUR_USER_AGENT) {
            Ok(http) => http,
            Err(error) => {
                node.invalid(error.to_string());
                return None;
            }
        };
        Some(AwsClient {
            scope: Scope {
                region,
                service: service.name.to_owned(),
            },
            base,
            authority,
            prefix,
            keys,
            http,
            clock: Clock::system(),
        })
    }

    /// Makes one signed call, whose response may have any status.
    ///
    /// # Errors
    /// There are no keys, no connection, or no response until `deadline`.
    pub(in crate::ext) async fn post(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
        deadline: Instant,
    ) -> Result<SideResponse, AwsError> {
        if self.scope.region.is_empty() {
            return Err(AwsError {
                text: "MissingRegion: there is no region in the configuration or in AWS_REGION"
                    .to_owned(),
                kind: Kind::Credentials,
                unsent: true,
            });
        }
        let headers = self.headers(path, headers, &body, deadline).await?;
        let url = format!("{}{path}", self.base);
        let limit = deadline.saturating_duration_since(Instant::now());
        let call = self.http.call(Method::POST, &url, headers, body, limit);
        call.await.map_err(|error| AwsError {
            kind: match error {
                SideError::Connect { failure, .. } => Kind::Connect(failure),
                SideError::Late { .. } | SideError::Time { .. } => Kind::Deadline,
                SideError::Size { .. } => Kind::TooLarge,
                SideError::Full(_) => Kind::Full,
                _ => Kind::Broken,
            },
            unsent: matches!(error, SideError::Connect { .. }),
            text: error.to_string(),
        })
    }

    /// The headers of a call, with its signature.
    async fn headers(
        &self,
        path: &str,
        given: &[(&'static str, &str)],
        body: &Bytes,
        deadline: Instant,
    ) -> Result<HeaderMap, AwsError> {
        let failed = |text: String| AwsError {
            text,
            kind: Kind::Credentials,
            unsent: true,
        };
        let stamp = stamp(self.clock.wall());
        let mut signed: Vec<(String, String)> = given
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut headers = HeaderMap::new();
        let keys = match &self.keys {
            Keys::Chain(chain) => {
                let limit = deadline.saturating_duration_since(Instant::now());
                let keys = chain.keys(limit).await;
                Some(keys.map_err(|why| failed(format!("NoCredentialProviders: {why}")))?)
            }
            Keys::Anonymous => None,
        };
        if let Some(keys) = keys {
            signed.push(("host".to_owned(), self.authority.clone()));
            signed.push(("x-amz-date".to_owned(), stamp.clone()));
            if let Some(token) = &keys.session_token {
                signed.push(("x-amz-security-token".to_owned(), token.clone()));
            }
            signed.sort();
            let path = format!("{}{path}", self.prefix);
            let request = Request {
                method: "POST",
                path: &path,
                query: "",
                headers: &signed,
                payload_hash: &hash(body),
            };
            let value = authorization(&request, &self.scope, &keys, &stamp);
            headers.insert(AUTHORIZATION, sensitive(&value).map_err(failed)?);
            signed.retain(|(name, _)| name != "host");
        }
        for (name, value) in &signed {
            let name = HeaderName::try_from(name).map_err(|error| failed(error.to_string()))?;
            let value = match name.as_str() {
                "x-amz-security-token" => sensitive(value),
                _ => HeaderValue::from_str(value).map_err(|error| error.to_string()),
            };
            headers.insert(name, value.map_err(failed)?);
        }
        Ok(headers)
    }
}

/// The keys of the environment, or of a profile.
fn keys(
    node: &Node<'_>,
    region: &str,
    profile: Option<String>,
    cx: &mut Compile<'_>,
) -> Option<Keys> {
    let name = cx
        .fact::<ServiceFacts>()
        .and_then(|facts| facts.name.clone());
    let session = session(name.as_deref());
    let found = match profile {
        Some(profile) => Ok(Origin::of_profile(cx.environment, &profile)),
        None => Origin::find(cx.environment, region, &session),
    };
    let origin = match found {
        Ok(origin) => origin,
        Err(why) => {
            node.warn(ConfigError::invalid(format!("{why}: every call fails")));
            return chain(node, Origin::Nowhere, None, cx).map(Keys::Chain);
        }
    };
    if matches!(origin, Origin::Nowhere) {
        node.warn_hint(
            ConfigError::invalid("the environment names no source of AWS keys: every call fails"),
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity, a container, a profile, or the metadata of the machine",
        );
    }
    chain(node, origin, None, cx).map(Keys::Chain)
}

/// Authority and path of a base address.
fn place(node: &Node<'_>, base: &str) -> Option<(String, String)> {
    let url = base.parse::<Uri>().ok();
    let scheme = url.as_ref().and_then(Uri::scheme_str);
    let authority = url.as_ref().and_then(Uri::authority);
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (scheme, authority) else {
        node.config_error_hint(
            ConfigError::invalid("the endpoint is not an http address"),
            "such as \"https://localhost:4566\"",
        );
        return None;
    };
    let path = url.as_ref().map_or("", Uri::path).trim_end_matches('/');
    let usual = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    let text = authority.as_str();
    let text = text.strip_suffix(usual).unwrap_or(text);
    Some((text.to_owned(), path.to_owned()))
}

/// Whether a text can be a region, which is a part of the host. It may be missing.
fn is_region(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    text.len() <= 63 && text.bytes().all(allowed)
}

/// The domain of a region.
fn suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The pauses between attempts.
const PAUSES: Backoff = Backoff::doubling(Duration::from_millis(50), Duration::from_millis(3200));

/// The pause before attempt `number` (from 1), half of it by chance.
pub(in crate::ext) fn pause(number: u32) -> Duration {
    let whole = PAUSES.pause(number.max(1));
    whole / 2 + whole * u32::from(chance()) / 512
}

/// A number from 0 to 255.
fn chance() -> u8 {
    let mut byte = [0];
    // Without chance the pause is the shortest.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    byte[0]
}
