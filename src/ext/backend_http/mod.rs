//! `backend/http`: read by `compile` itself, because the block is part of what every service is made of.

mod config;

pub(crate) use config::HTTP;
