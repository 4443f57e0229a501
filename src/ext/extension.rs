//! What an extension declares, and what its block contributes. The lists of extensions are in [`super::registry`].

use std::sync::Arc;

use http::HeaderName;

use crate::config::{ConfigError, Key, Node};
use crate::ext::context::{BackendSite, Compile, EndpointSite};
use crate::runtime::condition::When;
use crate::runtime::errors::ErrorBodies;
use crate::runtime::pipe::{CallStep, PipeStep};
use crate::runtime::prerouting::PreroutingPart;
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::{
    BackendStep, CallSigner, Credentials, EndpointStep, ResponseCache, ServiceStep,
};

/// A namespace of the service's `extra_config`.
#[derive(Debug)]
pub(crate) struct ServiceExtension {
    pub namespace: &'static str,
    /// Older names, such as `github_com/devopsfaith/krakend-cors`.
    pub aliases: &'static [&'static str],
    /// Whether it is a guard: it decides who may pass, how much, or from where. An invalid block of a guard stops the
    /// start. An invalid block of any other namespace is ignored with a warning. See [`crate::config::rule`].
    pub guard: bool,
    /// One or two sentences for the documentation.
    pub doc: &'static str,
    pub keys: &'static [Key],
    /// Compiles the block and reports errors. [`ServicePart::Nothing`] means that the block has no effect or is
    /// invalid: a reported error stops the start anyway.
    pub compile: for<'a> fn(&Node<'a>, &mut Compile<'_>) -> ServicePart,
}

/// The result of a service-level block.
#[derive(Debug)]
pub(crate) enum ServicePart {
    Nothing,
    Step(Box<dyn ServiceStep>),
    /// Runs after all steps, and may wait.
    Gate(Box<dyn EndpointStep>),
    /// Bodies of the gateway's own error responses.
    Errors(Box<ErrorBodies>),
    /// What happens to a path before the router.
    Ahead(PreroutingPart),
}

/// A namespace of an endpoint's `extra_config`.
#[derive(Debug)]
pub(crate) struct EndpointExtension {
    pub namespace: &'static str,
    pub aliases: &'static [&'static str],
    pub guard: bool,
    pub doc: &'static str,
    pub keys: &'static [Key],
    pub compile: for<'a> fn(&Node<'a>, &EndpointSite<'_>, &mut Compile<'_>) -> EndpointPart,
}

/// The result of an endpoint-level block.
#[derive(Debug)]
pub(crate) enum EndpointPart {
    Nothing,
    Steps(Vec<Box<dyn EndpointStep>>),
    /// Steps that set these request headers (such as claims), check the credential in one, or let another service
    /// decide by some. Headers of the client that a backend could confuse with them (`X_User` with `X-User`) do not
    /// pass.
    Setting {
        steps: Vec<Box<dyn EndpointStep>>,
        headers: Vec<HeaderName>,
        credential: Option<HeaderName>,
        decisive: Vec<HeaderName>,
    },
    /// Steps that take these request headers from the client's body, before tokens are checked or after. They must not be
    /// those that [`EndpointPart::Setting`] sets.
    Taking {
        steps: Vec<Box<dyn EndpointStep>>,
        headers: Vec<HeaderName>,
        early: bool,
    },
    /// Steps, and wrappers of the endpoint's work. The wrappers also apply where responses are signed.
    Piped {
        steps: Vec<Box<dyn EndpointStep>>,
        pipes: Vec<Box<dyn PipeStep>>,
    },
    /// Signs the response, and replaces the extensions after it in the list. The steps run before the endpoint's
    /// work.
    Signer {
        steps: Vec<Box<dyn EndpointStep>>,
        signer: Arc<dyn ResponseSigner>,
    },
}

impl EndpointPart {
    /// The common case: one step.
    pub(crate) fn step(step: impl EndpointStep + 'static) -> EndpointPart {
        EndpointPart::Steps(vec![Box::new(step)])
    }

    /// A wrapper of the endpoint's work. `None` if its block has errors or no effect.
    pub(crate) fn pipe(pipe: Option<impl PipeStep + 'static>) -> EndpointPart {
        pipe.map_or(EndpointPart::Nothing, |pipe| EndpointPart::Piped {
            steps: Vec::new(),
            pipes: vec![Box::new(pipe)],
        })
    }
}

/// A namespace of a backend's `extra_config`.
#[derive(Debug)]
pub(crate) struct BackendExtension {
    pub namespace: &'static str,
    pub aliases: &'static [&'static str],
    pub guard: bool,
    pub doc: &'static str,
    pub keys: &'static [Key],
    pub compile: for<'a> fn(&Node<'a>, &BackendSite<'_>, &mut Compile<'_>) -> BackendPart,
}

/// The result of a backend-level block.
#[derive(Debug)]
pub(crate) enum BackendPart {
    Nothing,
    Step(Box<dyn BackendStep>),
    Pipe(Box<dyn PipeStep>),
    OnWire(Box<dyn CallStep>),
    Credentials(Arc<dyn Credentials>),
    Cache(Arc<dyn ResponseCache>),
    /// Which requests the backend is called for.
    When(When),
    /// Signs each call, last of all.
    Signer(Arc<dyn CallSigner>),
}

impl BackendPart {
    /// A wrapper of the call. `None` if its block has errors or no effect.
    pub(crate) fn pipe(pipe: Option<impl PipeStep + 'static>) -> BackendPart {
        pipe.map_or(BackendPart::Nothing, |pipe| {
            BackendPart::Pipe(Box::new(pipe))
        })
    }

    /// Reports that this block and `other` would make the response of one backend.
    pub(crate) fn two_on_wire(node: &Node<'_>, other: &str) {
        node.config_error_hint(
            ConfigError::invalid(format!(
                "it cannot be combined with {other:?}: only one of them can create the response"
            )),
            "keep one of the two",
        );
    }

    /// Reports that two blocks would give one backend its token.
    pub(crate) fn two_tokens(node: &Node<'_>) {
        node.config_error_hint(
            ConfigError::invalid(
                "another block also sets the token of this backend: only one of them can be sent",
            ),
            "keep either \"auth/client-credentials\" or \"portcullis/token-exchange\"",
        );
    }
}

/// Called for an endpoint that does not configure the extension.
pub(crate) type Unnamed = fn(&EndpointSite<'_>);
