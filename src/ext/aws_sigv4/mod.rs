//! `auth/aws-sigv4`, in a backend: signs calls for services of AWS (Signature Version 4).
//!
//! | module | content |
//! |---|---|
//! | `signature` | the signature, as a function of the request |
//! | `credential_source`, `profile` | where the keys come from |
//! | `credential_chain` | the keys, and how they are kept fresh |
//! | `runtime` | signs a call |
//! | `client` | signed calls of the gateway itself, to functions and queues |
//! | `config`, `compile` | the block and its compilation |

mod client;
mod compile;
mod config;
mod credential_chain;
mod credential_source;
mod profile;
mod runtime;
mod signature;
#[cfg(test)]
mod tests;

pub(in crate::ext) use client::{AwsClient, AwsError, Service, element, pause};

use super::extension::BackendExtension;

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "auth/aws-sigv4",
    aliases: &[],
    guard: true,
    doc: "Signs the calls to this backend with AWS Signature Version 4. The keys come from the environment, a web identity, a container, the shared credentials file or the metadata of the machine, in this order. The signature is made last, after all steps that change the call. Redirects are not followed.",
    keys: config::KEYS,
    compile: compile::backend,
};
