//! `portcullis/upstream`: read by `compile` itself, because the block configures core features.

mod config;
mod resilience;
mod sticky;

pub(crate) use config::{UPSTREAM, UPSTREAM_SERVICE};
pub(crate) use resilience::{Asked, Blocks, read as read_resilience};
pub(crate) use sticky::{
    Rules as StickyRules, add as add_sticky, begin as begin_sticky, step as sticky_step,
};
