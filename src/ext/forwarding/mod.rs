//! `portcullis/forwarding`: read by `compile` itself, because the block configures core features.

mod config;

pub(crate) use config::FORWARDING;
