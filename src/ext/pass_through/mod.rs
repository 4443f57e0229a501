//! `portcullis/pass-through`: read by `compile` itself, because the block configures core features.

mod config;

pub(crate) use config::PASS_THROUGH;
