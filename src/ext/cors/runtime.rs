//! CORS around the router.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::Method;
use http::header::ACCESS_CONTROL_REQUEST_METHOD;

use super::policy::Policy;
use super::routes::Routes;
use crate::runtime::answer::Answer;
use crate::runtime::request::{Head, Notes};
use crate::runtime::step::ServiceStep;

/// Answers preflight requests, and marks the answers to others.
#[derive(Debug)]
pub struct Cors {
    /// `None`: only endpoints with a policy of their own.
    service: Option<Policy>,
    own: Arc<Own>,
}

/// The policies of endpoints that have one: collected while the file is compiled, fixed by the first request.
#[derive(Debug, Default)]
pub struct Own {
    collected: Mutex<OwnPolicies>,
    fixed: OnceLock<OwnPolicies>,
}

/// Policies, and where they hold.
#[derive(Debug, Default)]
pub struct OwnPolicies {
    pub routes: Routes,
    pub policies: Vec<Policy>,
}

impl Own {
    /// Changes what is collected; too late once a request was served.
    pub fn collect(&self, change: impl FnOnce(&mut OwnPolicies)) {
        change(
            &mut self
                .collected
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn fixed(&self) -> &OwnPolicies {
        self.fixed.get_or_init(|| {
            let mut collected = self
                .collected
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *collected)
        })
    }
}

impl Cors {
    /// CORS by `service` where no endpoint has rules of its own.
    pub fn new(service: Option<Policy>, own: Arc<Own>) -> Cors {
        Cors { service, own }
    }

    fn decide(&self, policy: &Policy, head: &Head<'_>, notes: &mut Notes) -> Option<Answer> {
        if !is_preflight(head) {
            policy.actual(head, &mut notes.response_fields);
            return None;
        }
        let answer = policy.preflight(head);
        if policy.passthrough {
            notes.response_fields.extend(answer.fields);
            return None;
        }
        Some(answer)
    }
}

impl ServiceStep for Cors {
    fn covers_health(&self) -> bool {
        true
    }

    fn request(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Answer> {
        let own = self.own.fixed();
        if !own.policies.is_empty() {
            let found = own.routes.policy(asked_method(head), head.path);
            if let Some(policy) = found.and_then(|index| own.policies.get(index)) {
                return self.decide(policy, head, notes);
            }
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

/// A preflight is about the method it asks for.
fn asked_method<'a>(head: &Head<'a>) -> &'a str {
    match head.header(&ACCESS_CONTROL_REQUEST_METHOD) {
        Some(method) if is_preflight(head) => method,
        _ => head.method.as_str(),
    }
}
