//! What happens to a request: match it, fan out, merge, filter, encode the answer.
//!
//! | module | what lives there |
//! |---|---|
//! | [`router`] | path and method in, endpoint and parameters out; redirects, 404, 405 |
//! | [`request`] | what the steps and the pipeline see of a request, and what they leave for later |
//! | [`step`] | what an extension may do, at service, endpoint and backend level |
//! | [`pipe`] | steps that look into a request and its answer: scripts, expressions, schemas |
//! | [`service`] | the compiled service: endpoints and backends with nothing left to decide |
//! | [`forward`], [`template`] | which headers and query strings pass; the URL of a backend call |
//! | [`pipeline`] | fan out, collect, merge, under one deadline |
//! | [`json`] | values with the text of their numbers, raw slices, the reference's way of writing them |
//! | [`decode`], [`shape`], [`flatmap`], [`encode`] | an upstream's body in, a client's body out |
//! | [`graphql`], [`signing`] | the two guests of the pipeline |
//! | [`address`], [`answer`], [`failure`] | the client's address; an answer made here; why a request failed, in the words of the log |
//! | [`heavy`] | work whose length depends on a request: bounded in time, and off the worker |
//! | [`listen`] | what the server needs to know before the first byte |
//! | [`readiness`] | what `GET /__ready` waits for |
//! | [`flights`] | equal calls at the same time are made once |
//! | [`clock`] | the time that limits and caches live by |
//!
//! Nothing here names Pingora or the configuration: `server` brings requests in, `compile` built the service.

pub mod address;
pub mod answer;
pub mod clock;
pub mod decode;
pub mod encode;
pub mod failure;
pub mod flatmap;
pub mod flights;
pub mod forward;
pub mod graphql;
pub mod heavy;
pub mod json;
pub mod listen;
pub mod pipe;
pub mod pipeline;
pub mod readiness;
pub mod request;
pub mod router;
pub mod service;
pub mod shape;
pub mod signing;
pub mod step;
pub mod template;
