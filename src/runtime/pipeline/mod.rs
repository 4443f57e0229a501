//! Processes a request: calls the backends, merges or streams their responses, under one deadline.
//!
//! Everything runs in the task of the request: if the client closes its connection, the future is dropped with every call.
//! Only shadow calls are separate tasks.
//!
//! | module | content |
//! |---|---|
//! | `client` | [`ClientCall`]: what the pipeline needs of a request, as owned values |
//! | `road` | [`stream()`] and [`compose`]: from a request to an [`Outcome`] |
//! | `downstream` | [`Downstream`]: the client side; implemented by the server, and by tests in memory |
//! | `run` | a composed endpoint: the calls, merged |
//! | `stream` | a streamed endpoint: one call, whose response is copied while it arrives |
//! | `begin`, `seeing` | a streamed request up to its call; the steps that see its response |
//! | `client_head`, `copy`, `trailers` | the three parts of a streamed response |
//! | `tunnel` | the handshake of a WebSocket |
//! | `parallel`, `sequential`, `fallback` | several backends: at once, one after the other, or until one succeeds |
//! | `backend` | one backend: builds the call, makes it, reads the response |
//! | `race` | several equal calls at once |
//! | `piped` | scripts, expressions and schemas around the endpoint or around one call |
//! | `guard` | the steps around one call; each is ended exactly once |
//! | `fetch` | credentials and cache around one call |
//! | `cached` | the cache, and equal calls at the same time |
//! | `carrier` | sends calls to backends: the upstream client, or a test |
//! | `limit` | the time limit of a group of calls |
//! | `merge` | merges the parts of a response |
//! | `finish` | static data, signature, encoding, the response to a failure |
//! | `shadow` | calls whose responses are ignored |

mod backend;
mod begin;
mod cached;
mod carrier;
mod chosen;
mod client;
mod client_head;
mod copy;
mod downstream;
mod fallback;
mod fetch;
mod finish;
mod guard;
mod limit;
mod merge;
mod parallel;
mod piped;
mod race;
mod road;
mod run;
mod seeing;
mod sequential;
mod shadow;
mod stream;
mod trailers;
mod tunnel;

#[cfg(test)]
mod tests;

pub use carrier::Upstream;
pub use client::ClientCall;
pub(crate) use downstream::Downstream;
pub use road::Ending;
pub(crate) use road::{Ended, Outcome, Request, compose, stream};
#[cfg(feature = "amqp")]
pub(crate) use run::deliver;
pub use run::run_with;
pub(crate) use tunnel::{declined, open_tunnel};
