//! What the file means: defaults applied, names resolved, every mistake found and reported.
//!
//! | module | what lives there |
//! |---|---|
//! | [`service`] | the whole file: [`file`] and [`text`] |
//! | [`endpoint`], [`backend`], [`graphql`], [`data`] | one endpoint, one call |
//! | [`claims`] | what URLs take from tokens; endpoints without a block |
//! | [`listen`], [`options`], [`client`] | towards clients; switches; towards backends |
//! | `certificates` | what is inside the certificate and key files |
//! | [`namespaces`] | which extension reads which block |
//! | [`output`] | what comes out |
//! | [`docs`] | the tables of keys as `docs/configuration.md` |

mod backend;
mod certificates;
mod claims;
mod client;
mod data;
pub mod docs;
mod endpoint;
mod files;
mod graphql;
mod listen;
mod namespaces;
mod options;
pub mod output;
mod service;
mod summary;

pub use listen::any_address;
pub use output::{Compiled, Metrics, Outcome};
pub use service::{Inputs, file, text};
