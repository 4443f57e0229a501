//! Fan out, collect, merge, under one deadline.
//!
//! Everything runs in the task of the request: a client that goes away drops the future, and with it every call.
//! Only shadow calls are tasks of their own.
//!
//! | module | what lives there |
//! |---|---|
//! | `client` | [`ClientCall`]: what the pipeline needs to know of a request, owned |
//! | `road` | [`stream`] and [`compose`]: from a request to an [`Outcome`], the two endings of one road |
//! | `downstream` | [`Downstream`]: the client's side; the server implements it for its sessions, tests for memory |
//! | `run` | a composed endpoint: calls, merged |
//! | `stream` | a streamed endpoint: one call, its response copied as it comes |
//! | `begin`, `seeing` | a streamed request up to its call; the steps that see its response |
//! | `client_head`, `copy`, `trailers` | the three parts of a streamed response |
//! | `tunnel` | the handshake of a WebSocket |
//! | `parallel`, `sequential`, `fallback` | several backends: at once, one after the other, or until one succeeds |
//! | `backend` | one backend: build the call, make it, read what comes back |
//! | `race` | several equal calls at once |
//! | `piped` | scripts, expressions and schemas around all of it, or around one call |
//! | `guard` | the steps around one call; what was begun is ended exactly once |
//! | `fetch` | credentials and cache around one call |
//! | `cached` | the cache, and equal calls at the same time |
//! | `carrier` | who carries a call to its backend: the upstream client, or a test |
//! | `limit` | how long a group of calls may take, and whether it took too long |
//! | `merge` | parts of a response become one |
//! | `finish` | static data, signature, encoding, the response to a failure |
//! | `shadow` | calls that nobody waits for |

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

pub use carrier::{Answered, Carrier, Upstream};
pub use client::{ClientCall, RequestLine};
pub use downstream::Downstream;
pub use road::{Ended, Ending, Outcome, Request, compose, stream, stream_with};
pub use run::run_with;
pub use tunnel::{declined, open_tunnel};
