//! Credentials and cache around one call.

use http::header::AUTHORIZATION;
use http::{HeaderValue, StatusCode};

use super::response_cache::{Filling, Opened, cached, opened};
use super::time_limit::TimeLimit;
use super::transport::{OpenResponse, Transport};
use crate::jose::SubjectToken;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::forward::withhold;
use crate::runtime::service::Backend;
use crate::runtime::step::{Credentials, ResponseCache};
use crate::telemetry::observe;
use crate::upstream::{Call, CallOptions, Incoming, Outgoing, Source, Unwatched};

/// Gets a whole response, whatever its status.
pub(super) async fn whole<C: Transport>(
    transport: &C,
    most_bytes: u64,
    backend: &Backend,
    call: Call,
    limit: &TimeLimit,
) -> Result<Incoming, Failure> {
    let how = how(backend, most_bytes);
    // The rare cases are boxed, so that the usual one does not carry their state.
    match (&backend.credentials, &backend.cache) {
        (None, None) if backend.signer.is_none() => {
            transport.call(&backend.hosts, call, &how).await
        }
        (Some(credentials), _) => {
            let make = |call| within(transport, backend, call, &how, limit);
            let status = |incoming: &Incoming| Some(incoming.status);
            Box::pin(with_token(&**credentials, call, limit, make, status)).await
        }
        (None, _) => Box::pin(within(transport, backend, call, &how, limit)).await,
    }
}

/// Makes a call whose body is whole with a token of the gateway, and once more if the upstream rejects the token.
async fn with_token<T, F: Future<Output = Result<T, Failure>>>(
    credentials: &dyn Credentials,
    call: Call,
    limit: &TimeLimit,
    make: impl Fn(Call) -> F,
    status: impl Fn(&T) -> Option<StatusCode>,
) -> Result<T, Failure> {
    let mut token = Token::new(credentials);
    loop {
        let mut call = call.clone();
        token.put_on(&mut call.out, limit).await?;
        let response = make(call).await?;
        if !status(&response).is_some_and(|status| token.is_rejected(status)) {
            return Ok(response);
        }
    }
}

/// Makes the call, through the cache if there is one. The call already has its credentials, so they are part of the
/// cache key.
async fn within<C: Transport>(
    transport: &C,
    backend: &Backend,
    call: Call,
    how: &CallOptions,
    limit: &TimeLimit,
) -> Result<Incoming, Failure> {
    match backend.cache.as_deref() {
        Some(cache) => cached(transport, backend, cache, call, how, limit).await,
        None => send_call(transport, backend, call, how, limit).await,
    }
}

/// Makes the call, signed if configured. The signature is not part of the cache key.
pub(super) async fn send_call<C: Transport>(
    transport: &C,
    backend: &Backend,
    mut call: Call,
    how: &CallOptions,
    limit: &TimeLimit,
) -> Result<Incoming, Failure> {
    sign(backend, &mut call, limit).await?;
    transport.call(&backend.hosts, call, how).await
}

/// Makes the call for a response whose body streams. The body of the call is whole.
pub(super) async fn open<'a, C: Transport>(
    transport: &C,
    backend: &'a Backend,
    mut call: Call,
    how: &CallOptions,
    limit: &TimeLimit,
) -> Result<C::Response<'a>, Failure> {
    sign(backend, &mut call, limit).await?;
    let mut nobody = Unwatched::<Failure>::default();
    transport.send(&backend.hosts, call, how, &mut nobody).await
}

/// Signs a call where the file asks for it.
pub(super) async fn sign(
    backend: &Backend,
    call: &mut Call,
    limit: &TimeLimit,
) -> Result<(), Failure> {
    let Some(signer) = &backend.signer else {
        return Ok(());
    };
    if call.elsewhere.is_some() {
        let text = "a step has sent a signed call to another host";
        return Err(Failure::new(Kind::Request, text));
    }
    let body = call.body;
    signer.sign(&mut call.out, body, limit.remaining()).await
}

/// Gets the head of a response, whose body streams.
pub(super) async fn streamed<'a, C: Transport, S: Source<Error = Failure>>(
    transport: &C,
    backend: &'a Backend,
    mut call: Call,
    limit: &TimeLimit,
    source: &mut S,
) -> Result<C::Response<'a>, Failure> {
    let how = how(backend, u64::MAX);
    if backend.signer.is_some() {
        sign(backend, &mut call, limit).await?;
    }
    let Some(credentials) = &backend.credentials else {
        return transport.send(&backend.hosts, call, &how, source).await;
    };
    let mut token = Token::new(&**credentials);
    token.put_on(&mut call.out, limit).await?;
    let response = transport.send(&backend.hosts, call, &how, source).await?;
    // This response is passed on even if the token was rejected: the body of the request may already be consumed.
    if let Some((status, _)) = response.head() {
        token.is_rejected(status);
    }
    Ok(response)
}

/// Makes a call whose body is whole, through the cache of the backend.
pub(super) async fn through_cache<'a, C: Transport>(
    transport: &C,
    backend: &'a Backend,
    cache: &'a dyn ResponseCache,
    call: Call,
    limit: &TimeLimit,
) -> Result<Opened<'a, C::Response<'a>>, Failure> {
    let how = how(backend, u64::MAX);
    let Some(credentials) = &backend.credentials else {
        return opened(transport, backend, cache, call, &how, limit).await;
    };
    let make = |call| opened(transport, backend, cache, call, &how, limit);
    let status = |opened: &Opened<'_, C::Response<'a>>| match opened {
        Opened::Stored(incoming) => Some(incoming.status),
        Opened::Live(response, _) => response.head().map(|(status, _)| status),
    };
    with_token(&**credentials, call, limit, make, status).await
}

/// Reads a response to its end for the cache only, because the client gets another body.
pub(super) async fn fill<R: OpenResponse>(
    response: R,
    mut filling: Filling<'_>,
    backend: &Backend,
    most_bytes: u64,
) {
    if let Ok(incoming) = response.collect(&how(backend, most_bytes)).await {
        filling.push(&incoming.body);
        filling.complete();
    }
}

fn how(backend: &Backend, max_body_bytes: u64) -> CallOptions {
    CallOptions {
        max_body_bytes,
        send_body_on_redirect: backend.send_body_on_redirect,
        gunzip: true,
        // A signature is for one target.
        follows: backend.signer.is_none(),
    }
}

/// The gateway's token for one call. If the upstream rejects the token, it is not used again; a call whose response is
/// collected is then repeated once with a new token.
struct Token<'c> {
    credentials: &'c dyn Credentials,
    value: Option<HeaderValue>,
    /// The client's token, if this one was issued for it.
    subject: Option<SubjectToken>,
    renewed: bool,
}

impl<'c> Token<'c> {
    fn new(credentials: &'c dyn Credentials) -> Token<'c> {
        Token {
            credentials,
            value: None,
            subject: None,
            renewed: false,
        }
    }

    /// Waits for a token, at most until `limit`.
    async fn put_on(&mut self, out: &mut Outgoing, limit: &TimeLimit) -> Result<(), Failure> {
        let subject = out.subject.take();
        let value = match self.credentials.ready(subject.as_ref()) {
            Some(value) => value,
            None => {
                let fetch = self.credentials.fetch(subject.as_ref(), limit.remaining());
                observe::step("auth/client-credentials", fetch).await?
            }
        };
        if let Some(subject) = subject
            .as_ref()
            .filter(|_| self.credentials.replaces_subject())
        {
            withhold(out, subject.as_str());
        }
        out.headers.insert(AUTHORIZATION, value.clone());
        self.value = Some(value);
        self.subject = subject;
        Ok(())
    }

    /// Whether the call must be repeated with a new token.
    fn is_rejected(&mut self, status: StatusCode) -> bool {
        let Some(value) = &self.value else {
            return false;
        };
        if status != StatusCode::UNAUTHORIZED || self.renewed {
            return false;
        }
        self.renewed = true;
        self.credentials.rejected(self.subject.as_ref(), value)
    }
}

/// The value for a WebSocket, which is not an exchange of messages.
pub(super) async fn authorize(
    credentials: Option<&dyn Credentials>,
    out: &mut Outgoing,
    limit: &TimeLimit,
) -> Result<(), Failure> {
    match credentials {
        Some(credentials) => Token::new(credentials).put_on(out, limit).await,
        None => Ok(()),
    }
}
