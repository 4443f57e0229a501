//! What a streamed (`no-op`) endpoint shares with composed ones: building the call, steps, credentials, the answer to
//! a failure. The copying itself is the server's.

use http::HeaderValue;
use smallvec::SmallVec;

use super::backend::{self, Context, Earlier, Seed};
use super::carrier::Upstream;
use super::client::ClientCall;
use super::fetch::fetch;
use super::finish;
use super::limit::Limit;
use super::merge::Merged;
use super::piped::{self, Entered};
use crate::runtime::answer::Answer;
use crate::runtime::failure::Failure;
use crate::runtime::forward::{self, QueryRules};
use crate::runtime::json::{Object, Value};
use crate::runtime::pipe::{Meta, PipeRequest, PipeResponse, PipeStep, Reply, Sight, Turn};
use crate::runtime::service::{Backend, Endpoint, Options, StreamWork};
use crate::runtime::step::Credentials;
use crate::upstream::{HostSet, Incoming, Outgoing};

/// A call that is ready to be made.
#[derive(Default)]
pub struct Prepared<'a> {
    pub out: Outgoing,
    /// We ask for gzip where the client did not: what comes is decoded for it.
    pub gunzip: bool,
    /// Where a step sends the call instead of the backend's own hosts.
    pub elsewhere: Option<HostSet>,
    /// The answer of a step: nothing is sent.
    pub local: Option<Reply>,
    /// A step put the body in place of the client's, which goes nowhere.
    pub replaced: bool,
    /// The steps around it that wait for the answer.
    pub watch: Option<Box<Watch<'a>>>,
}

/// The steps around a streamed call, between its two ends.
#[derive(Default)]
pub struct Watch<'a> {
    seed: Option<Box<Seed>>,
    /// Around the endpoint's work.
    outer: Option<(PipeRequest, Entered<'a>)>,
    /// Around the call.
    inner: Option<(PipeRequest, Entered<'a>)>,
    on_wire: bool,
    /// A step passed the work over.
    skipped: bool,
}

/// Whether the client's body must be there before the call is made: for a step that looks at it, and where the answer
/// is read whole, which goes with calls that are whole.
pub fn needs_body(work: &StreamWork) -> bool {
    steps(work).any(|step| step.needs_body()) || sight(work) == Sight::Whole
}

/// What the steps must see of the answer.
pub fn sight(work: &StreamWork) -> Sight {
    let on_wire = match &work.backend.on_wire {
        Some(step) if step.sees_answers() => Sight::Head,
        _ => Sight::Nothing,
    };
    let most = steps(work).map(|step| step.sight()).max();
    most.unwrap_or(Sight::Nothing).max(on_wire)
}

fn steps(work: &StreamWork) -> impl Iterator<Item = &dyn PipeStep> {
    let all = work.pipes.iter().chain(&work.backend.pipes);
    all.map(|step| &**step)
}

/// Builds the call of a streamed endpoint, through the steps around the endpoint.
///
/// # Errors
/// A value for its URL is missing or dangerous, the body is not what GraphQL needs, or a step refuses.
pub async fn prepare<'a>(
    options: &Options,
    endpoint: &Endpoint,
    work: &'a StreamWork,
    mut call: ClientCall,
    limit: &Limit,
) -> Result<Prepared<'a>, Failure> {
    if work.pipes.is_empty() {
        return build(options, &endpoint.query, &work.backend, call);
    }
    let mut request = call.request(endpoint, limit);
    let entered = piped::enter(&work.pipes, &mut request).await;
    let entered = entered.map_err(Failure::outside)?;
    let mut prepared = match entered.skip {
        true => Prepared {
            local: Some(piped::nothing()),
            ..Prepared::default()
        },
        false => {
            call = call.replaced(&request);
            build(options, &QueryRules::All, &work.backend, call)?
        }
    };
    let watch = prepared.watch.get_or_insert_default();
    watch.skipped = entered.skip;
    watch.outer = Some((request, entered));
    Ok(prepared)
}

fn build<'a>(
    options: &Options,
    query: &QueryRules,
    backend: &'a Backend,
    mut call: ClientCall,
) -> Result<Prepared<'a>, Failure> {
    let headers = std::mem::take(&mut call.headers);
    let body = std::mem::take(&mut call.body);
    let cx = Context {
        carrier: &Upstream,
        options,
        query,
        call: &call,
        concurrent_calls: 1,
        propagated: &[],
        watched: false,
    };
    let built = backend::prepare_with(&cx, backend, Earlier::default(), headers, body)?;
    Ok(Prepared {
        out: built.out,
        gunzip: built.gzip,
        watch: built.seed.map(|seed| {
            Box::new(Watch {
                seed: Some(seed),
                ..Watch::default()
            })
        }),
        ..Prepared::default()
    })
}

impl<'a> Prepared<'a> {
    /// Shows the call to the steps around it. What they make of it is what goes out.
    ///
    /// # Errors
    /// A step refuses.
    pub async fn pass(&mut self, backend: &'a Backend, limit: &Limit) -> Result<(), Failure> {
        let Some(watch) = self.watch.as_deref_mut() else {
            return Ok(());
        };
        let Some(seed) = watch.seed.take() else {
            return Ok(());
        };
        let call = backend::Prepared {
            out: std::mem::take(&mut self.out),
            gzip: self.gunzip,
            seed: Some(seed),
        };
        let mut request = call.request(backend, limit).await;
        let had_body = !request.body.is_empty();
        let entered = piped::enter(&backend.pipes, &mut request).await?;
        if entered.skip {
            watch.skipped = true;
            self.local = Some(piped::nothing());
        } else if let Some(step) = &backend.on_wire {
            watch.on_wire = step.sees_answers();
            let turn = step.request(&mut request)?;
            self.replaced = matches!(turn, Turn::Replace);
            self.local = turn.answer().await?;
        }
        // A step took the body away: nothing of what was announced is sent.
        self.replaced |= had_body && request.body.is_empty();
        if self.local.is_none() {
            self.elsewhere = piped::elsewhere(&backend.hosts, &request);
        }
        self.out = piped::outgoing(&request);
        self.gunzip = self.gunzip && forward::keeps_gzip(&mut self.out);
        match watch.on_wire || !backend.pipes.is_empty() || watch.outer.is_some() {
            true => watch.inner = Some((request, entered)),
            // Nobody waits for the answer.
            false => self.watch = None,
        }
        Ok(())
    }
}

impl Watch<'_> {
    /// Shows the answer to the steps, innermost first.
    ///
    /// # Errors
    /// A step refuses it.
    pub async fn answered(self, backend: &Backend, reply: &mut Reply) -> Result<(), Failure> {
        if let (true, Some(step), Some((request, _))) =
            (self.on_wire, &backend.on_wire, &self.inner)
        {
            piped::change(&**step, request, reply)?;
        }
        let mut response = PipeResponse {
            data: Value::Object(Object::new()),
            complete: !self.skipped,
            reply: Some(reply.clone()),
            meta: Meta::default(),
        };
        if let Some((request, entered)) = self.inner {
            entered.leave(&request, &mut response).await?;
        }
        if let Some((request, entered)) = self.outer {
            let left = entered.leave(&request, &mut response).await;
            left.map_err(Failure::outside)?;
        }
        if let Some(changed) = response.reply {
            *reply = changed;
        }
        Ok(())
    }
}

/// The `Authorization` of a backend call, waited for until `limit` at the longest.
///
/// # Errors
/// No token could be had.
pub async fn authorization(
    credentials: &dyn Credentials,
    limit: &Limit,
) -> Result<HeaderValue, Failure> {
    match credentials.ready() {
        Some(value) => Ok(value),
        None => credentials.fetch(limit.remaining()).await,
    }
}

/// Gets a whole answer through the backend's cache and credentials, for endpoints that cannot stream.
///
/// # Errors
/// As a composed endpoint's call fails.
pub async fn whole(
    options: &Options,
    backend: &Backend,
    hosts: &HostSet,
    out: Outgoing,
    limit: &Limit,
) -> Result<Incoming, Failure> {
    fetch(
        &Upstream,
        options.max_upstream_body_bytes,
        backend,
        hosts,
        out,
        limit,
    )
    .await
}

/// The answer when the one backend gave none; only `return_error_msg` shows why.
pub fn failed(options: &Options, failure: Failure) -> Answer {
    finish::failed(
        options,
        &Merged {
            data: None,
            complete: false,
            failures: SmallVec::from_elem(failure, 1),
            group: false,
            passed: None,
            meta: None,
        },
    )
}
