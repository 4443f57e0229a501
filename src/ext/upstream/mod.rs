//! `portcullis/upstream`: read by `compile` itself, because the block configures core features.

mod care;
mod config;
mod sticky;

pub(crate) use care::{Asked, Blocks, read as care};
pub(crate) use config::{UPSTREAM, UPSTREAM_SERVICE};
pub(crate) use sticky::{
    Rules as StickyRules, add as add_sticky, begin as begin_sticky, step as sticky_step,
};
