//! Fan out, collect, merge, under one deadline.
//!
//! Everything runs in the task of the request: a client that goes away drops the future, and with it every call.
//! Only shadow calls are tasks of their own.
//!
//! | module | what lives there |
//! |---|---|
//! | `client` | [`ClientCall`]: what the pipeline needs to know of a request, owned |
//! | `run` | [`run`]: from a request to an [`Outcome`] |
//! | `parallel`, `sequential` | several backends, at once or one after the other |
//! | `backend` | one backend: build the call, make it, read what comes back |
//! | `piped` | scripts, expressions and schemas around all of it, or around one call |
//! | `guard` | the steps around one call; what was begun is ended exactly once |
//! | `fetch` | credentials and cache around one exchange |
//! | `cached` | the cache, and equal calls at the same time |
//! | `carrier` | who carries a call to its backend: the upstream client, or a test |
//! | `limit` | how long a group of calls may take, and whether it took too long |
//! | `merge` | parts of an answer become one |
//! | `finish` | static data, signature, encoding, the answer to a failure |
//! | `shadow` | calls that nobody waits for |
//! | [`stream`] | what streamed endpoints share with composed ones |

mod backend;
mod cached;
mod carrier;
mod client;
mod fetch;
mod finish;
mod guard;
mod limit;
mod merge;
mod parallel;
mod piped;
mod run;
mod sequential;
mod shadow;
pub mod stream;

#[cfg(test)]
mod tests;

pub use carrier::{Carrier, Upstream};
pub use client::{ClientCall, RequestLine};
pub use guard::Guard;
pub use limit::Limit;
pub use run::{Ended, Outcome, run, run_with};
