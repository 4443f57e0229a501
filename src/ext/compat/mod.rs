//! `portcullis/compat`: read by `compile` itself, because the block configures core features.

mod config;

pub(crate) use config::{COMPAT, COMPAT_BACKEND};
