//! The tree of modifiers.

use super::change::Change;
use super::condition::Condition;
use super::files::Files;
use crate::runtime::failure::Failure;
use crate::runtime::pipe::{PipeRequest, Reply};

/// One definition, including nested ones.
#[derive(Debug)]
pub(crate) struct Modifier {
    /// The union of the scopes in it.
    pub scope: Scope,
    pub what: What,
}

/// Whether a modifier applies to requests and responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Scope {
    pub request: bool,
    pub response: bool,
}

/// The kind of a modifier.
#[derive(Debug)]
pub(crate) enum What {
    Change(Change),
    Filter {
        condition: Condition,
        then: Box<Modifier>,
        otherwise: Option<Box<Modifier>>,
    },
    Group {
        /// In the order in which they run.
        modifiers: Box<[Modifier]>,
        /// A failure of one does not stop the others.
        aggregate: bool,
    },
    /// A verifier, which has no effect here.
    Nothing,
}

/// An outgoing request.
#[derive(Debug)]
pub(crate) struct Sending<'m, 'r> {
    pub request: &'r mut PipeRequest,
    /// The client's body was replaced.
    pub replaced: bool,
    /// The files that provide the response instead of the network. The last of several counts.
    pub files: Option<&'m Files>,
}

impl Scope {
    pub(crate) const BOTH: Scope = Scope {
        request: true,
        response: true,
    };
    pub(crate) const REQUEST: Scope = Scope {
        request: true,
        response: false,
    };
    pub(crate) const RESPONSE: Scope = Scope {
        request: false,
        response: true,
    };

    pub(crate) fn and(self, other: Scope) -> Scope {
        Scope {
            request: self.request && other.request,
            response: self.response && other.response,
        }
    }

    pub(crate) fn or(self, other: Scope) -> Scope {
        Scope {
            request: self.request || other.request,
            response: self.response || other.response,
        }
    }
}

impl Modifier {
    /// Changes a request.
    ///
    /// # Errors
    /// The request cannot be sent.
    pub(crate) fn request<'m>(&'m self, sending: &mut Sending<'m, '_>) -> Result<(), Failure> {
        if !self.scope.request {
            return Ok(());
        }
        match &self.what {
            What::Change(change) => change.request(sending),
            What::Filter {
                condition,
                then,
                otherwise,
            } => {
                if condition.of_request(sending.request) {
                    then.request(sending)
                } else {
                    otherwise
                        .as_deref()
                        .map_or(Ok(()), |modifier| modifier.request(sending))
                }
            }
            What::Group {
                modifiers,
                aggregate,
            } => {
                let mut failures = Failures::default();
                for modifier in modifiers {
                    match modifier.request(sending) {
                        Err(failure) if *aggregate => failures.add(failure),
                        result => result?,
                    }
                }
                failures.end()
            }
            What::Nothing => Ok(()),
        }
    }

    /// Changes a response.
    pub(crate) fn response(&self, request: &PipeRequest, reply: &mut Reply) {
        if !self.scope.response {
            return;
        }
        match &self.what {
            What::Change(change) => change.response(request, reply),
            What::Filter {
                condition,
                then,
                otherwise,
            } => {
                if condition.of_response(request, &reply.headers) {
                    then.response(request, reply)
                } else {
                    if let Some(modifier) = otherwise {
                        modifier.response(request, reply);
                    }
                }
            }
            What::Group { modifiers, .. } => {
                for modifier in modifiers {
                    modifier.response(request, reply);
                }
            }
            What::Nothing => {}
        }
    }
}

/// The failures of a group that continued.
#[derive(Default)]
struct Failures(Option<Failure>);

impl Failures {
    fn add(&mut self, failure: Failure) {
        match &mut self.0 {
            None => self.0 = Some(failure),
            Some(first) => first.text = format!("{}\n{}", first.text, failure.text).into(),
        }
    }

    fn end(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}
