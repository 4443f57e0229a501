//! The CORS step around the router.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use http::Method;
use http::header::ACCESS_CONTROL_REQUEST_METHOD;

use super::policy::Policy;
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::router::{Match, Router};
use crate::runtime::service::Endpoint;
use crate::runtime::step::ServiceStep;

/// Responds to preflight requests, and adds headers to other responses.
#[derive(Debug)]
pub(crate) struct Cors {
    /// `None` if only endpoints have a policy.
    service: Option<Policy>,
    own: Arc<Own>,
}

/// The policies of endpoints: collected during compilation, and fixed when the router is built.
#[derive(Debug, Default)]
pub(crate) struct Own {
    collected: Mutex<Vec<(Method, Arc<str>, Policy)>>,
    fixed: OnceLock<OwnPolicies>,
}

/// The policies by [`Endpoint::id`], and the router that finds the endpoint of a request.
#[derive(Debug)]
struct OwnPolicies {
    router: Arc<Router<Arc<Endpoint>>>,
    policies: HashMap<usize, Policy>,
}

impl Own {
    /// Adds the policy of an endpoint. It must be called before [`Own::fix`].
    pub(super) fn add(&self, method: Method, pattern: Arc<str>, policy: Policy) {
        self.locked().push((method, pattern, policy));
    }

    /// Sets the finished router.
    pub(crate) fn fix(&self, router: &Arc<Router<Arc<Endpoint>>>, endpoints: &[Arc<Endpoint>]) {
        let collected = std::mem::take(&mut *self.locked());
        if collected.is_empty() {
            return;
        }
        let ids: HashMap<_, _> = endpoints
            .iter()
            .map(|one| ((&one.method, &one.pattern), one.id))
            .collect();
        let policies = collected
            .into_iter()
            .filter_map(|(method, pattern, policy)| {
                let id = ids.get(&(&method, &pattern))?;
                Some((*id, policy))
            })
            .collect();
        let router = Arc::clone(router);
        // There is only one router per configuration.
        let _ = self.fixed.set(OwnPolicies { router, policies });
    }

    /// The policy of the endpoint that a request or a preflight is for.
    fn policy(&self, head: &Head<'_>) -> Option<&Policy> {
        let fixed = self.fixed.get()?;
        let method = asked_method(head)?;
        match fixed.router.route(&method, head.path, None, None) {
            Match::Found { endpoint, .. } => fixed.policies.get(&endpoint.id),
            _ => None,
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<(Method, Arc<str>, Policy)>> {
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cors {
    /// CORS with `service` for endpoints without their own policy.
    pub(crate) fn new(service: Option<Policy>, own: Arc<Own>) -> Cors {
        Cors { service, own }
    }

    fn decide(&self, policy: &Policy, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
        if !is_preflight(head) {
            policy.actual(head, &mut notes.response_fields);
            return None;
        }
        let response = policy.preflight(head);
        if policy.passthrough {
            notes.response_fields.extend(response.fields);
            return None;
        }
        Some(response)
    }
}

impl ServiceStep for Cors {
    fn covers_health(&self) -> bool {
        true
    }

    fn is_silent(&self) -> bool {
        true
    }

    fn request(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
        // The endpoint is that of the rewritten path.
        if let Some(policy) = self.own.policy(&notes.head(head)) {
            return self.decide(policy, head, notes);
        }
        self.decide(self.service.as_ref()?, head, notes)
    }
}

fn is_preflight(head: &Head<'_>) -> bool {
    *head.method == Method::OPTIONS
        && head
            .headers
            .get(ACCESS_CONTROL_REQUEST_METHOD)
            .is_some_and(|method| !method.is_empty())
}

/// A preflight concerns the method that it names. `None` if that is not a valid method.
fn asked_method<'a>(head: &Head<'a>) -> Option<Cow<'a, Method>> {
    match head.headers.get(ACCESS_CONTROL_REQUEST_METHOD) {
        Some(asked) if is_preflight(head) => {
            let asked = Method::from_bytes(asked.as_bytes()).ok();
            asked.map(Cow::Owned)
        }
        _ => Some(Cow::Borrowed(head.method)),
    }
}
