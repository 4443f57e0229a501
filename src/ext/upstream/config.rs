//! The keys of the block.

use crate::config::{Key, Kind, Namespace, key};

/// The failures after which a call is made again, unless the file says otherwise.
pub(super) const ON_DEFAULT: &[&str] = &["connect", "reset", "502", "503", "504"];

pub(crate) const UPSTREAM: Namespace = Namespace {
    name: "portcullis/upstream",
    aliases: &[],
    guard: true,
    doc: "How one backend is called: protocol, health checks, weights, retries, sticky hosts. See [Hosts of backends](upstream.md).",
    keys: &[
        key(
            "http_version",
            Kind::Choice(&["h1", "h2", "auto"]),
            "h1",
            "`h2` is always HTTP/2, without TLS with prior knowledge. `auto` is what the TLS handshake negotiates.",
        ),
        REDIRECTS,
        BODY_TO_OTHER_ORIGINS,
        PROXY_FROM_ENV,
        HEALTH_CHECK,
        PANIC_THRESHOLD,
        EJECTION,
        WEIGHTS,
        SLOW_START,
        RETRIES,
        HEDGE,
        STICKY,
    ],
};

pub(crate) const UPSTREAM_SERVICE: Namespace = Namespace {
    name: "portcullis/upstream",
    aliases: &[],
    guard: true,
    doc: "Defaults for calls to backends; a key in a backend replaces the one here. See [Hosts of backends](upstream.md).",
    keys: &[
        REDIRECTS,
        BODY_TO_OTHER_ORIGINS,
        PROXY_FROM_ENV,
        HEALTH_CHECK,
        PANIC_THRESHOLD,
        EJECTION,
        WEIGHTS,
        SLOW_START,
        RETRIES,
        HEDGE,
        STICKY,
    ],
};

const REDIRECTS: Key = key(
    "redirects",
    Kind::Choice(&["follow", "same-origin", "none"]),
    "follow",
    "Which redirects of a backend the gateway follows itself; `same-origin` is the same scheme, host and port. Other redirects are treated like any other response. Another origin gets only headers of the client, without credentials.",
);

const BODY_TO_OTHER_ORIGINS: Key = key(
    "send_body_to_other_origins",
    Kind::Bool,
    "false",
    "With `send_body_on_redirect`: also send it to another origin.",
);

const PROXY_FROM_ENV: Key = key(
    "proxy_from_env",
    Kind::Bool,
    "true",
    "Use the proxies of the environment variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
);

const ENABLED: Key = key(
    "enabled",
    Kind::Bool,
    "true",
    "`false` in a backend disables what the service configures.",
);

const HEALTH_CHECK: Key = key(
    "health_check",
    Kind::Block(&[
        ENABLED,
        key(
            "protocol",
            Kind::Choice(&["http", "grpc"]),
            "http",
            "`grpc` calls `grpc.health.v1.Health/Check` over HTTP/2.",
        ),
        key(
            "path",
            Kind::Text,
            "/",
            "The path to request, with its query.",
        ),
        key("method", Kind::Text, "GET", "The method of the check."),
        key(
            "expected_statuses",
            Kind::List,
            "[\"200-399\"]",
            "The statuses of a healthy host: `200`, `\"2xx\"` or `\"200-399\"`.",
        ),
        key(
            "service",
            Kind::Text,
            "",
            "With `grpc`: the name of the service. Empty for the whole server.",
        ),
        key(
            "host",
            Kind::Text,
            "",
            "The value of `Host`, instead of the host's own.",
        ),
        key("headers", Kind::TextMap, "–", "More headers of the check."),
        key(
            "interval",
            Kind::Duration,
            "10s",
            "The time between two checks of a host, with a random deviation of a tenth.",
        ),
        key(
            "timeout",
            Kind::Duration,
            "2s",
            "A check without a response within this time has failed.",
        ),
        key(
            "healthy_threshold",
            Kind::Integer,
            "2",
            "How many checks in a row must succeed before an unhealthy host is used again.",
        ),
        key(
            "unhealthy_threshold",
            Kind::Integer,
            "3",
            "How many checks in a row must fail before a host is left out. The result of the very first check takes effect at once.",
        ),
    ]),
    "–",
    "Health checks of each host, in the background.",
);

const PANIC_THRESHOLD: Key = key(
    "panic_threshold",
    Kind::Integer,
    "0",
    "If less than this percentage of the hosts is healthy, all are used. 0: only if none is healthy.",
);

const EJECTION: Key = key(
    "ejection",
    Kind::Block(&[
        key(
            "consecutive_5xx",
            Kind::Integer,
            "5",
            "This many consecutive responses of 500 and above eject a host. 0 disables this.",
        ),
        key(
            "base_time",
            Kind::Duration,
            "5s",
            "The first ejection time, also for hosts that refuse connections. Then one call tries the host, and each failure doubles the time.",
        ),
        key("max_time", Kind::Duration, "60s", "The longest time."),
        key(
            "max_percent",
            Kind::Integer,
            "50",
            "How many of the hosts may be ejected by their statuses at the same time. At least one host may be ejected, and never all of them.",
        ),
    ]),
    "–",
    "Leaves out hosts that respond with errors.",
);

const WEIGHTS: Key = key(
    "weights",
    Kind::Object,
    "–",
    "Hosts and their weights, from 0 to 1000. A host that is not listed has the weight 1; one with 0 is called only if no other can be.",
);

const SLOW_START: Key = key(
    "slow_start",
    Kind::Duration,
    "–",
    "The time in which the share of a host that has come back grows from a tenth to the whole.",
);

const RETRIES: Key = key(
    "retries",
    Kind::Block(&[
        key(
            "attempts",
            Kind::Integer,
            "1",
            "How often a failed call is made again, 10 times at most.",
        ),
        key(
            "on",
            Kind::List,
            "[\"connect\", \"reset\", \"502\", \"503\", \"504\"]",
            "The failures: no connection, a connection or a `per_try_timeout` that ended before the response, statuses from 400 to 599.",
        ),
        key(
            "per_try_timeout",
            Kind::Duration,
            "–",
            "The time for the head of the response in one attempt. The timeout of the endpoint limits all together.",
        ),
        key(
            "non_idempotent",
            Kind::Bool,
            "false",
            "Also repeat POST and PATCH, which may then be done twice.",
        ),
        key(
            "budget_percent",
            Kind::Integer,
            "20",
            "Retries and hedged requests are at most this percentage of the calls, …",
        ),
        key(
            "budget_min_per_second",
            Kind::Integer,
            "3",
            "… but at least this many per second are allowed.",
        ),
    ]),
    "–",
    "Makes failed calls again, on another host if there is one.",
);

const HEDGE: Key = key(
    "hedge",
    Kind::Block(&[
        key(
            "after",
            Kind::Duration,
            "–",
            "How long a call waits for the head of its response before the next one is made. Required.",
        ),
        key(
            "max",
            Kind::Integer,
            "1",
            "How many more calls are made, 3 at most.",
        ),
    ]),
    "–",
    "Sends a slow call to another host, too. The first good response is used, and the other call is cancelled. Only for idempotent methods, and not for `no-op` endpoints.",
);

const STICKY: Key = key(
    "sticky",
    Kind::Block(&[
        ENABLED,
        key(
            "header",
            Kind::Text,
            "–",
            "Requests with the same value of this header go to the same host.",
        ),
        key("cookie", Kind::Text, "–", "The same for a cookie."),
        key(
            "set",
            Kind::Bool,
            "false",
            "Clients without the cookie get one, with a random value.",
        ),
        key(
            "max_age",
            Kind::Duration,
            "–",
            "The `Max-Age` of that cookie. Without it, it is a session cookie.",
        ),
        key("path", Kind::Text, "/", "Its path."),
        key(
            "same_site",
            Kind::Choice(&["Lax", "Strict", "None"]),
            "Lax",
            "Its `SameSite`.",
        ),
        key("secure", Kind::Bool, "true", "Send it over HTTPS only."),
    ]),
    "–",
    "Requests with the same key go to the same host. If a host is lost, only its own keys move.",
);
