//! The names of plugins that are built in, and the namespaces that do their work.

use super::shape::Shape;

/// The namespaces of plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PluginKind {
    /// Around the router.
    Server,
    /// Instead of the HTTP client of a backend.
    Client,
    /// Around an endpoint or a backend.
    Modifier,
    /// Around an endpoint or a backend. None is built in.
    Middleware,
}

impl PluginKind {
    /// All kinds.
    pub(crate) const ALL: [PluginKind; 4] = [
        PluginKind::Server,
        PluginKind::Client,
        PluginKind::Modifier,
        PluginKind::Middleware,
    ];

    /// The namespace of the kind.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            PluginKind::Server => "plugin/http-server",
            PluginKind::Client => "plugin/http-client",
            PluginKind::Modifier => "plugin/req-resp-modifier",
            PluginKind::Middleware => "plugin/middleware",
        }
    }

    /// The name of the namespace in files of KrakenD 1.
    fn old_namespace(self) -> Option<&'static str> {
        match self {
            PluginKind::Server => {
                Some("github_com/devopsfaith/krakend/transport/http/server/handler")
            }
            PluginKind::Client => {
                Some("github.com/devopsfaith/krakend/transport/http/client/executor")
            }
            PluginKind::Modifier => Some("github.com/devopsfaith/krakend/proxy/plugin"),
            PluginKind::Middleware => None,
        }
    }

    /// Both names of the namespace.
    pub(crate) fn spellings(self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.namespace()).chain(self.old_namespace())
    }

    /// The kind that has this namespace. `github.com` and `github_com` mean the same.
    pub(crate) fn of(namespace: &str) -> Option<PluginKind> {
        let dotted = |name: &str| name.replacen("github_com/", "github.com/", 1);
        let mut kinds = PluginKind::ALL.into_iter();
        kinds.find(|kind| {
            let old = kind.old_namespace();
            kind.namespace() == namespace || old.is_some_and(|old| dotted(old) == dotted(namespace))
        })
    }
}

/// A plugin that is built in.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    pub kind: PluginKind,
    pub name: &'static str,
    /// The namespace that does its work.
    pub namespace: &'static str,
    /// Whether it decides who may pass, or how much.
    pub guard: bool,
    /// How its block becomes that of the namespace.
    pub shape: Shape,
}

/// The table.
pub(crate) const BUILT_IN: &[BuiltIn] = &[
    server("geoip", "portcullis/geoip", false),
    server("ip-filter", "security/ip-filter", true),
    server("url-rewrite", "portcullis/url-rewrite", false),
    server("jwk-aggregator", "portcullis/jwk-aggregator", true),
    server("virtualhost", "server/virtualhost", false),
    server("static-filesystem", "server/static-filesystem", false),
    server("wildcard", "portcullis/wildcard", false),
    server("redis-ratelimit", "portcullis/redis-ratelimit", true),
    server("basic-auth", "portcullis/basic-auth", true),
    client("no-redirect", "backend/http/client", Shape::NoRedirect),
    client("http-proxy", "backend/http/client", Shape::Proxy),
    client(
        "static-filesystem",
        "backend/static-filesystem",
        Shape::Same,
    ),
    client(
        "wildcard",
        "",
        Shape::Nothing("a backend needs nothing for it"),
    ),
    client(
        "http-logger",
        "",
        Shape::Nothing("calls to backends are in the traces, and in the log at level DEBUG"),
    ),
    modifier("ip-filter", "security/ip-filter", true, Shape::Same),
    modifier(
        "content-replacer",
        "modifier/response-body",
        false,
        Shape::Replacer,
    ),
    modifier(
        "response-schema-validator",
        "validation/response-json-schema",
        false,
        Shape::Same,
    ),
];

/// The built-in of this kind and name. Files of KrakenD 1 write `krakend-` before the name.
pub(crate) fn built_in(kind: PluginKind, name: &str) -> Option<&'static BuiltIn> {
    let of = |name: &str| {
        let mut all = BUILT_IN.iter();
        all.find(|known| known.kind == kind && known.name == name)
    };
    of(name).or_else(|| of(name.strip_prefix("krakend-")?))
}

/// The built-in that is meant by a namespace of its name: `ip-filter`, `plugin/ip-filter`, `krakend-ip_filter`.
pub(crate) fn meant(namespace: &str) -> Option<&'static BuiltIn> {
    let last = namespace.rsplit('/').next()?;
    let name = last.trim().to_ascii_lowercase().replace('_', "-");
    PluginKind::ALL
        .into_iter()
        .find_map(|kind| built_in(kind, &name))
}

const fn server(name: &'static str, namespace: &'static str, guard: bool) -> BuiltIn {
    BuiltIn {
        kind: PluginKind::Server,
        name,
        namespace,
        guard,
        shape: Shape::Same,
    }
}

const fn client(name: &'static str, namespace: &'static str, shape: Shape) -> BuiltIn {
    BuiltIn {
        kind: PluginKind::Client,
        name,
        namespace,
        guard: false,
        shape,
    }
}

const fn modifier(
    name: &'static str,
    namespace: &'static str,
    guard: bool,
    shape: Shape,
) -> BuiltIn {
    BuiltIn {
        kind: PluginKind::Modifier,
        name,
        namespace,
        guard,
        shape,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_kind_is_known() {
        for (name, kind) in [
            ("plugin/http-server", Some(PluginKind::Server)),
            (
                "github_com/devopsfaith/krakend/transport/http/server/handler",
                Some(PluginKind::Server),
            ),
            (
                "github.com/devopsfaith/krakend/transport/http/client/executor",
                Some(PluginKind::Client),
            ),
            (
                "github.com/devopsfaith/krakend/proxy/plugin",
                Some(PluginKind::Modifier),
            ),
            ("plugin/middleware", Some(PluginKind::Middleware)),
            ("plugin/http-servers", None),
            ("github.com/devopsfaith/krakend-cors", None),
        ] {
            assert_eq!(PluginKind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn a_namespace_of_the_name_of_a_plugin_is_recognised() {
        for name in [
            "ip-filter",
            "krakend-ip-filter",
            "plugin/ip-filter",
            "IP_Filter",
            "github.com/x/krakend-ip-filter",
        ] {
            let found = meant(name).map(|known| known.namespace);
            assert_eq!(found, Some("security/ip-filter"), "{name}");
        }
        assert!(meant("some/unknown").is_none());
    }

    #[test]
    fn a_name_belongs_to_one_kind_and_may_have_the_old_prefix() {
        let target = |kind, name| built_in(kind, name).map(|known| known.namespace);
        assert_eq!(
            target(PluginKind::Server, "krakend-virtualhost"),
            Some("server/virtualhost")
        );
        assert_eq!(
            target(PluginKind::Client, "static-filesystem"),
            Some("backend/static-filesystem")
        );
        assert_eq!(target(PluginKind::Modifier, "static-filesystem"), None);
        assert_eq!(target(PluginKind::Middleware, "ip-filter"), None);
    }
}
