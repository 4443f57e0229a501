//! Evaluates policies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::ext::cel::{Denied, Path, Policy, PolicyFacts, open_reads};
use crate::ext::geoip::Locator;
use crate::ext::identity::Requirement;
use crate::jose::Claims;
use crate::runtime::clock::Clock;
use crate::runtime::failure::{Failure, Guard, Kind};
use crate::runtime::heavy::Overload;
use crate::runtime::pipe::{Passed, PipeRequest, PipeResponse, PipeStep, ResponseAccess, State};

/// The maximum time of the policies on a token.
const TOKEN_TIME: Duration = Duration::from_secs(2);

/// The policies of one moment, in the configured order.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) log: Box<str>,
    pub(super) policies: Box<[Policy]>,
    pub(super) rejection: Rejection,
    pub(super) debug: bool,
}

/// The response to what a policy rejects.
#[derive(Debug, Default)]
pub(super) struct Rejection {
    /// `None` means 500.
    pub(super) status: Option<StatusCode>,
    pub(super) body: Bytes,
    pub(super) content_type: Option<HeaderValue>,
}

impl Stage {
    /// The index of the first policy that is not true.
    ///
    /// # Errors
    /// The process holds too much.
    fn rejected_by(
        &self,
        scene: &PolicyFacts<'_>,
        deadline: Instant,
    ) -> Result<Option<usize>, Overload> {
        for (index, policy) in self.policies.iter().enumerate() {
            let log = &self.log;
            match policy.judge(scene, deadline) {
                Ok(()) if self.debug => log::debug!("{log} #{index}: true"),
                Ok(()) => {}
                Err(denied) => {
                    log::info!("{log} #{index}: {denied}");
                    return match denied {
                        Denied::Overload(overload) => Err(overload),
                        Denied::For(_) => Ok(Some(index)),
                    };
                }
            }
        }
        Ok(None)
    }

    fn judge(&self, scene: &PolicyFacts<'_>, deadline: Instant, kind: Kind) -> Result<(), Failure> {
        let index = match self.rejected_by(scene, deadline) {
            Err(overload) => return Err(overload.into()),
            Ok(None) => return Ok(()),
            Ok(Some(index)) => index,
        };
        let Rejection {
            status,
            body,
            content_type,
        } = &self.rejection;
        let kind = match kind {
            Kind::Guarded(_) if scene.lacks_place() => Kind::Guarded(Guard::GeoIp),
            kind => kind,
        };
        let failure = Failure::new(kind, format!("rejected by policy #{index}"));
        Err(Failure {
            status: status.unwrap_or(failure.status),
            body: (!body.is_empty()).then(|| (body.clone(), content_type.clone())),
            ..failure
        })
    }
}

/// A step around an endpoint's work or around a call.
#[derive(Debug)]
pub(super) struct Policies {
    before: Option<Stage>,
    after: Option<Stage>,
    /// The parts of the response's data that the policies read.
    reads: Box<[Path]>,
    locator: Option<Arc<Locator>>,
    clock: Clock,
}

impl Policies {
    pub(super) fn new(
        before: Option<Stage>,
        after: Option<Stage>,
        locator: Option<Arc<Locator>>,
        clock: Clock,
    ) -> Policies {
        let later = after.iter().flat_map(|stage| &*stage.policies);
        Policies {
            reads: later.flat_map(Policy::reads).collect(),
            before,
            after,
            locator,
            clock,
        }
    }
}

#[async_trait]
impl PipeStep for Policies {
    fn response_access(&self) -> ResponseAccess {
        match self.after {
            Some(_) => ResponseAccess::Head,
            None => ResponseAccess::Nothing,
        }
    }

    async fn before(&self, request: &mut PipeRequest) -> Result<Passed, Failure> {
        if let Some(stage) = &self.before {
            let now = self.clock.wall();
            let scene = PolicyFacts::request(now, request, self.locator.as_deref());
            let deadline = request.deadline.into_std();
            stage.judge(&scene, deadline, Kind::Guarded(Guard::Policy))?;
        }
        Ok(Passed::default())
    }

    async fn after(
        &self,
        _state: State,
        request: &PipeRequest,
        response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        let Some(stage) = &self.after else {
            return Ok(());
        };
        let _held = open_reads(&self.reads, response)?;
        let now = self.clock.wall();
        let scene = PolicyFacts::response(now, request, response, self.locator.as_deref());
        // It may depend on the client, such as on who owns the data.
        let judged = stage.judge(&scene, request.deadline.into_std(), Kind::Rejected);
        judged.map_err(Failure::by_step)
    }
}

/// The policies on a token, in addition to the checks of the validator.
#[derive(Debug)]
pub(super) struct OnToken {
    pub(super) stage: Stage,
    pub(super) clock: Clock,
}

impl Requirement for OnToken {
    fn admits(&self, claims: &Claims) -> Result<bool, Overload> {
        let scene = PolicyFacts::token(self.clock.wall(), claims);
        let deadline = Instant::now() + TOKEN_TIME;
        Ok(self.stage.rejected_by(&scene, deadline)?.is_none())
    }

    fn refusal(&self, claims: &Claims) -> Option<String> {
        let scene = PolicyFacts::token(self.clock.wall(), claims);
        let deadline = Instant::now() + TOKEN_TIME;
        let mut policies = self.stage.policies.iter().enumerate();
        policies.find_map(|(index, policy)| {
            let why = policy.judge(&scene, deadline).err()?;
            Some(format!(
                "security/policies #{index}  {}: {why}",
                policy.text()
            ))
        })
    }
}
