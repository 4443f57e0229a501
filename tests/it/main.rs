//! All integration tests, in one binary so that the gateway is linked once.
//!
//! `cargo test --test it NAME` runs the tests whose path contains NAME, such as `reload::`.

// A panic is how a test fails, in helper functions too.
#![allow(clippy::unwrap_used)]

mod support;

mod architecture;
mod calm_logs;
mod claims;
mod cli;
mod cluster;
mod collectors;
mod conf;
mod config;
mod dashboards;
mod demo;
#[cfg(feature = "json-schema")]
mod deploy;
mod docs;
mod e2e_oauth2;
mod e2e_oidc;
mod e2e_signer;
mod edge;
mod embed;
mod enterprise_file;
mod enterprise_guards;
mod enterprise_modifiers;
mod enterprise_paths;
mod errors;
mod framing;
mod h2;
mod health;
mod hostile;
mod http_cache;
mod identity;
mod late_backends;
mod lenient;
mod logs;
#[cfg(feature = "lua")]
mod lua;
mod martian;
mod metrics;
mod metrics_listener;
#[cfg(feature = "json-schema")]
mod openapi;
mod process;
mod queues;
mod redis;
mod release;
mod reload;
mod reports;
mod request_id;
mod state_metrics;
mod stats;
mod steps;
mod streaming;
mod target;
mod telemetry;
mod tls;
mod troubleshooting;
mod upgrade;
mod upstream_care;
#[cfg(all(feature = "cel", feature = "json-schema"))]
mod validation;
mod vault;
mod walkthrough;
mod websocket;
mod wire;
mod wire_h2;
mod wycheproof;
