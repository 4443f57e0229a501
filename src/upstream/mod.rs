//! How we reach a backend.
