//! Request processing: match the route, call the backends, merge, filter, and encode the response.
//!
//! | module | content |
//! |---|---|
//! | [`router`] | finds endpoint and parameters for path and method; redirects, 404, 405 |
//! | [`prerouting`] | what happens to a path before the router |
//! | [`request`] | the view of a request for steps and pipeline, and the notes that steps leave |
//! | [`step`] | the interfaces of extensions at service, endpoint and backend level |
//! | [`pipe`] | steps that inspect a request and its response: scripts, expressions, schemas |
//! | [`service`] | the compiled service: endpoints and backends |
//! | [`forward`], [`template`] | which headers and query strings pass; the URL of a backend call |
//! | [`pipeline`] | calls backends, collects and merges their responses, within one deadline |
//! | [`inputs`] | headers and query parameters in the URLs of backends |
//! | [`json`] | values that keep the text of their numbers, unparsed slices, a writer compatible with KrakenD |
//! | [`decode`], [`shape`], [`flatmap`], [`encode`] | from an upstream's body to the body of the response |
//! | [`grpc`] | rejections for gRPC clients |
//! | [`graphql`], [`signing`] | GraphQL operations; signed responses |
//! | [`address`], [`response`], [`failure`] | the client's address; a response made by the gateway; why a request failed |
//! | [`errors`] | the bodies of the gateway's own error responses |
//! | [`condition`] | whether a backend is called at all |
//! | [`heavy`] | work whose duration depends on a request: limited in time, and moved off the worker thread |
//! | [`files`] | files of a folder, as responses |
//! | [`compression`], [`response_edits`] | compression of responses; the last changes of every response |
//! | [`agents`] | consumers of queues: their health, and what a stop waits for |
//! | [`listen`] | the settings of the listener |
//! | [`methods`] | the registered methods |
//! | [`own_listener`] | a listening socket that a part of the service serves itself |
//! | [`readiness`], [`upgrade_state`] | the conditions of `GET /__ready`; what an upgrade passes to the new process |
//! | [`single_flights`] | single-flight for equal concurrent calls |
//! | [`clock`] | the clock of limits and caches |
//! | [`boxed`] | futures in boxes, without a copy |
//!
//! Nothing here depends on Pingora or the configuration: `server` delivers requests, and `compile` builds the
//! service.

pub(crate) mod address;
pub(crate) mod agents;
pub(crate) mod boxed;
pub(crate) mod clock;
pub(crate) mod compression;
pub(crate) mod condition;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod errors;
pub(crate) mod failure;
pub(crate) mod files;
pub(crate) mod flatmap;
pub(crate) mod forward;
pub(crate) mod graphql;
pub(crate) mod grpc;
pub(crate) mod heavy;
pub(crate) mod inputs;
pub(crate) mod json;
pub(crate) mod listen;
pub(crate) mod methods;
pub(crate) mod own_listener;
pub(crate) mod pipe;
pub(crate) mod pipeline;
pub(crate) mod prerouting;
pub(crate) mod readiness;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod response_edits;
pub(crate) mod router;
pub(crate) mod service;
pub(crate) mod shape;
pub(crate) mod signing;
pub(crate) mod single_flights;
pub(crate) mod step;
pub(crate) mod template;
pub(crate) mod upgrade_state;
