//! The parts that tests, benchmarks and fuzz targets of this crate use. No stable interface.
//!
//! The rest of the crate is private, so the compiler reports code that nothing uses.
//! The modules repeat the paths of the crate.

pub mod compile {
    pub use crate::compile::{Inputs, Outcome, text};
    pub mod docs {
        pub use crate::compile::docs::page;
    }
    pub mod schema {
        pub use crate::compile::schema::text;
    }
}
pub mod config {
    pub use crate::config::{ConfigError, Environment, Finding, Node, Report, Service, Severity};
    pub mod json {
        pub use crate::config::json::parse;
    }
    pub mod load {
        pub use crate::config::load::{Format, parse};
    }
    pub mod re2 {
        pub use crate::config::re2::{PatternError, sized};
    }
    pub mod template {
        pub use crate::config::template::{Host, Source, function_names, render};
    }
}
pub mod ext {
    pub use crate::ext::ReloadState;
    pub mod auth_revoker {
        pub use crate::ext::auth_revoker::read_anything;
    }
    #[cfg(feature = "cel")]
    pub mod cel {
        pub use crate::ext::cel::judge_anything;
    }
    #[cfg(feature = "lua")]
    pub mod lua {
        pub use crate::ext::lua::Matcher;
    }
    pub mod martian {
        pub use crate::ext::martian::{below, range};
    }
    pub mod redis {
        pub use crate::ext::redis::parse_anything;
    }
}
pub mod jose {
    pub use crate::jose::{
        Algorithm, Algorithms, CacheLimits, KeyIdStrategy, KeySet, Origin, Reason, Rules,
        Serialization, Signer, Token, TokenCache, Verifier, install_crypto,
    };
    pub mod dpop {
        pub use crate::jose::dpop::parse_anything;
    }
    pub mod key_set {
        pub use crate::jose::key_set::parse_anything;
    }
    pub mod sealed {
        pub use crate::jose::sealed::TransitKey;
    }
    pub mod token {
        pub use crate::jose::token::parse_anything;
    }
}
pub mod runtime {
    pub mod decode {
        pub use crate::runtime::decode::{Decoder, Kind, decode_anything};
    }
    pub mod encode {
        pub use crate::runtime::encode::Encoding;
    }
    pub mod flatmap {
        pub use crate::runtime::flatmap::Flatmap;
    }
    pub mod forward {
        pub use crate::runtime::forward::{HeaderRules, QueryRules, complete, outgoing};
    }
    pub mod json {
        pub use crate::runtime::json::{Depth, Object, Style, Value, parse, to_bytes};
    }
    pub mod listen {
        pub use crate::runtime::listen::MAX_FIELDS;
    }
    pub mod pipe {
        pub use crate::runtime::pipe::{PipeRequest, PipeResponse, PipeStep};
    }
    pub mod pipeline {
        pub use crate::runtime::pipeline::{ClientCall, Ending, Upstream, run_with};
    }
    pub mod request {
        pub use crate::runtime::request::{Head, Host, Notes, Params};
    }
    pub mod router {
        pub use crate::runtime::router::{Options, Pattern, Router, route_anything};
    }
    pub mod service {
        pub use crate::runtime::service::{
            Backend, Composition, Endpoint, ErrorMode, Options, Order, Service, Work,
        };
    }
    pub mod shape {
        pub use crate::runtime::shape::{Shape, ShapeSpec};
    }
    pub mod step {
        pub use crate::runtime::step::{EndpointStep, Gate};
    }
    pub mod template {
        pub use crate::runtime::template::{Template, render_anything};
    }
}
pub mod server {
    pub mod chunks {
        pub use crate::server::chunks::Chunks;
    }
    pub mod head {
        pub use crate::server::head::HeadReader;
    }
    pub mod proxy_protocol {
        pub use crate::server::proxy_protocol::parse;
    }
    pub mod rewrite {
        pub use crate::server::rewrite::usual_form;
    }
}
pub mod upstream {
    pub use crate::telemetry::observe::Wait;
    pub use crate::upstream::{
        Call, CallErrorKind, CallOptions, CertificatePair, Client, ClientCredentials, Clients,
        ConnectFailure, DnsTable, HostRules, HostSet, HttpVersion, Outgoing, Proxies, Redirects,
        RequestBody, Settings, SideClient, SideTls, TlsPolicy, TokenSource, TokenStore,
        VaultSecret, VaultServer,
    };
    pub mod keys {
        pub use crate::upstream::keys::{
            KeyDocument, KeySetStore, KeySource, Location, Schedule, SealedFile, SourceSpec,
        };
    }
}
