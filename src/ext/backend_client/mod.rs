//! `backend/http/client`: read by `compile` itself, because the block configures core features.

mod config;

pub(crate) use config::HTTP_CLIENT;
