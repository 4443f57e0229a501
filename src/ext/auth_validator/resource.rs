//! Protected resource metadata (RFC 9728): where clients get a token.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};

use super::binding::{Binding, Demand};
use super::config::ResourceMetadata;
use crate::config::ConfigError;
use crate::jose::Algorithm;
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::step::ServiceStep;

/// RFC 9728 §3.1. The path of an endpoint is appended.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The settings of the service's block. The endpoints add themselves.
#[derive(Debug)]
pub(in crate::ext) struct Resource {
    about: Arc<About>,
    documents: Arc<ArcSwap<Documents>>,
}

/// What all documents say.
#[derive(Debug)]
struct About {
    /// `https://api.example.com`
    origin: String,
    servers: Vec<String>,
    name: Option<String>,
    documentation: Option<String>,
}

/// Documents by path, without [`WELL_KNOWN`]. A path may have several methods. The document of the whole gateway
/// describes all.
type Documents = BTreeMap<String, Document>;

/// A document is written for its first request: each endpoint adds to that of the whole gateway.
#[derive(Debug, Default, Clone)]
struct Document {
    terms: Terms,
    written: OnceLock<Bytes>,
}

/// The issuers of tokens for a resource and the scopes of these tokens, in the order of the file, and how tokens are
/// bound.
#[derive(Debug, Default, Clone)]
struct Terms {
    issuers: Listed,
    scopes: Listed,
    proof_algorithms: Listed,
    /// Whether every endpoint requires proofs. `None` without an endpoint.
    requires_proofs: Option<bool>,
    /// Whether any endpoint checks that a token comes with its certificate.
    checks_certificates: bool,
}

/// Different texts, in the order of the file.
#[derive(Debug, Default, Clone)]
struct Listed {
    texts: Vec<String>,
    known: HashSet<String>,
}

impl Listed {
    fn include<'t>(&mut self, more: impl IntoIterator<Item = &'t str>) {
        for text in more {
            if !self.known.contains(text) {
                self.known.insert(text.to_owned());
                self.texts.push(text.to_owned());
            }
        }
    }
}

/// What one endpoint requires of tokens.
#[derive(Debug)]
pub(super) struct Demands<'d> {
    pub(super) issuers: &'d [String],
    pub(super) scopes: &'d [Box<str>],
    pub(super) binding: &'d Binding,
}

impl Terms {
    fn add(&mut self, demands: &Demands<'_>) {
        let binding = demands.binding;
        let dpop = binding.dpop.as_ref();
        self.issuers
            .include(demands.issuers.iter().map(|one| &**one));
        self.scopes.include(demands.scopes.iter().map(|one| &**one));
        let algorithms = dpop.into_iter().flat_map(|dpop| dpop.algorithms.iter());
        self.proof_algorithms
            .include(algorithms.map(Algorithm::as_str));
        let requires = dpop.is_some_and(|dpop| dpop.required);
        self.requires_proofs = Some(requires && self.requires_proofs != Some(false));
        self.checks_certificates |= binding.certificate != Demand::Off;
    }
}

/// Responds to requests for the documents.
#[derive(Debug)]
pub(super) struct Metadata {
    about: Arc<About>,
    documents: Arc<ArcSwap<Documents>>,
}

impl ServiceStep for Metadata {
    fn request(&self, head: &Head<'_>, _notes: &mut Notes) -> Option<Response> {
        let path = head.path.strip_prefix(WELL_KNOWN)?;
        if !matches!(*head.method, Method::GET | Method::HEAD) {
            return None;
        }
        let documents = self.documents.load();
        let Document { terms, written } = documents.get(path)?;
        let document = written.get_or_init(|| self.about.document(path, terms));
        let mut response = Response::empty(StatusCode::OK)
            .with(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .with(
                CACHE_CONTROL,
                HeaderValue::from_static("public, max-age=3600"),
            );
        response.body = document.clone();
        Some(response)
    }
}

impl Resource {
    /// Reads `resource_metadata`.
    pub(super) fn read(file: ResourceMetadata<'_>) -> Option<Resource> {
        let (written, node) = file.resource;
        let origin = written.trim_end_matches('/');
        let uri: Option<http::Uri> = origin.parse().ok();
        let is_origin = uri.is_some_and(|uri| {
            uri.scheme().is_some()
                && uri.host().is_some()
                && uri.path() == "/"
                && uri.query().is_none()
                && !origin.contains('#')
        });
        if !is_origin {
            node.config_error_hint(
                ConfigError::invalid(format!("{written:?} is not a public address")),
                "scheme and host, no path: \"https://api.example.com\"",
            );
            return None;
        }
        Some(Resource {
            about: Arc::new(About {
                origin: origin.to_owned(),
                servers: file.authorization_servers,
                name: file.resource_name,
                documentation: file.resource_documentation,
            }),
            documents: Arc::default(),
        })
    }

    pub(super) fn step(&self) -> Metadata {
        Metadata {
            about: Arc::clone(&self.about),
            documents: Arc::clone(&self.documents),
        }
    }

    /// Adds an endpoint, and returns the URL of the document that its challenges name.
    pub(super) fn add(&self, pattern: &str, demands: &Demands<'_>) -> String {
        // No request uses them yet, so they are taken and not copied.
        let mut documents = Arc::unwrap_or_clone(self.documents.swap(Arc::default()));
        let mut add = |path: &str| match documents.get_mut(path) {
            Some(document) => document.terms.add(demands),
            None => {
                let document = documents.entry(path.to_owned()).or_default();
                document.terms.add(demands);
            }
        };
        add("");
        // An endpoint with parameters is many resources; the document of the whole gateway describes them.
        let path = if pattern.contains(['{', '*', ':']) || pattern == "/" {
            ""
        } else {
            pattern
        };
        if !path.is_empty() {
            add(path);
        }
        self.documents.store(Arc::new(documents));
        format!("{}{WELL_KNOWN}{path}", self.about.origin)
    }
}

impl About {
    fn document(&self, path: &str, terms: &Terms) -> Bytes {
        let servers = if self.servers.is_empty() {
            &terms.issuers.texts
        } else {
            &self.servers
        };
        let mut document = Map::new();
        document.insert("resource".into(), format!("{}{path}", self.origin).into());
        if !servers.is_empty() {
            document.insert("authorization_servers".into(), servers.clone().into());
        }
        document.insert("bearer_methods_supported".into(), vec!["header"].into());
        for (key, values) in [
            ("scopes_supported", &terms.scopes),
            ("dpop_signing_alg_values_supported", &terms.proof_algorithms),
        ] {
            if !values.texts.is_empty() {
                document.insert(key.into(), values.texts.clone().into());
            }
        }
        for (key, is_so) in [
            (
                "dpop_bound_access_tokens_required",
                terms.requires_proofs == Some(true),
            ),
            (
                "tls_client_certificate_bound_access_tokens",
                terms.checks_certificates,
            ),
        ] {
            // Both are false if they are absent (RFC 9728 §2).
            if is_so {
                document.insert(key.into(), true.into());
            }
        }
        for (key, value) in [
            ("resource_name", &self.name),
            ("resource_documentation", &self.documentation),
        ] {
            if let Some(value) = value {
                document.insert(key.into(), value.as_str().into());
            }
        }
        Bytes::from(Value::Object(document).to_string())
    }
}
