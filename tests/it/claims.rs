//! Uses of a token's claims after the validator: limits by header, URLs of backends, and what
//! `token explain` prints about both.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::command;
use crate::support::{Gateway, Response, Signer, Stub, eventually, ports, tokens};

struct Running {
    gateway: Gateway,
    backend: Stub,
    signer: Signer,
    metrics: u16,
}

/// A gateway whose endpoints may use `validator` as their token check, with a key file beside the configuration.
fn start(endpoints: impl Fn(&dyn Fn(Value) -> Value) -> Value) -> Running {
    let signer = Signer::es256("k");
    let backend = Stub::with(
        &json!([{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}])
            .to_string(),
    );
    let metrics = ports::free();
    let config = json!({
        "version": 3, "host": [backend.url()],
        "extra_config": {"portcullis/metrics": {"listen": format!("127.0.0.1:{metrics}")}},
        "endpoints": endpoints(&validator),
    });
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    Running {
        gateway,
        backend,
        signer,
        metrics,
    }
}

fn validator(more: Value) -> Value {
    let mut block = json!({"alg": "ES256", "jwk_local_path": "keys.json"});
    for (key, value) in more.as_object().unwrap() {
        block[key] = value.clone();
    }
    block
}

impl Running {
    fn token(&self, sub: &Value) -> String {
        let mut claims = tokens::claims("api");
        claims["sub"] = sub.clone();
        if sub.is_null() {
            claims.as_object_mut().unwrap().remove("sub");
        }
        self.signer.token(&claims)
    }

    fn get(&self, path: &str, sub: &Value, more: &[(&str, &str)]) -> Response {
        let token = format!("Bearer {}", self.token(sub));
        let mut headers = vec![("Authorization", token.as_str())];
        headers.extend_from_slice(more);
        self.gateway.get_with(path, &headers)
    }

    fn seen(&self) -> Vec<String> {
        let seen = self.backend.take_seen().into_iter();
        seen.map(|one| match one.query.as_str() {
            "" => one.path,
            query => format!("{}?{query}", one.path),
        })
        .collect()
    }

    fn page(&self) -> String {
        let mut client = crate::support::Client::connect(self.metrics).unwrap();
        let request = crate::support::http::request("GET", "/metrics", &[]);
        client.send(request).unwrap();
        client.response("GET").unwrap().text()
    }
}

#[test]
fn a_limit_by_a_propagated_header_counts_by_the_claim() {
    let running = start(|validator| {
        json!([{
            "endpoint": "/limited", "input_headers": ["X-User"], "backend": [{"url_pattern": "/b"}],
            "extra_config": {
                "auth/validator": validator(json!({"propagate_claims": [["sub", "X-User"]]})),
                "qos/ratelimit/router": {"client_max_rate": 1, "client_capacity": 1, "every": "1h",
                    "strategy": "header", "key": "X-User"},
            },
        }])
    });
    let calls = [None, Some("z1"), Some("z2")].map(|sent| {
        let sent: Vec<_> = sent.iter().map(|value| ("X-User", *value)).collect();
        running.get("/limited", &json!("ada"), &sent).status
    });
    assert_eq!(calls, [200, 429, 429]);
    assert_eq!(running.get("/limited", &json!("bob"), &[]).status, 200);
}

fn urls(more: Value) -> Running {
    start(|validator| {
        let extra =
            |proxy: Value| json!({"auth/validator": validator(more.clone()), "proxy": proxy});
        let two = json!([{"url_pattern": "/one"}, {"url_pattern": "/u/{JWT.sub}/x", "group": "u"}]);
        json!([
            {"endpoint": "/single", "extra_config": extra(json!({})), "backend": [{"url_pattern": "/u/{JWT.sub}/x"}]},
            {"endpoint": "/stream", "extra_config": extra(json!({})), "output_encoding": "no-op",
                "backend": [{"url_pattern": "/u/{JWT.sub}/x"}]},
            {"endpoint": "/parallel", "extra_config": extra(json!({})), "backend": two},
            {"endpoint": "/sequential", "extra_config": extra(json!({"sequential": true})), "backend": two},
            {"endpoint": "/query", "extra_config": extra(json!({})), "backend": [{"url_pattern": "/q?s={JWT.sub}"}]},
        ])
    })
}

#[test]
fn a_claim_that_cannot_be_a_segment_reaches_no_backend() {
    let running = urls(json!({}));
    let mut rejected = 0;
    for path in ["/single", "/stream", "/parallel", "/sequential"] {
        for sub in ["..", ".", "", "a\nb"] {
            let response = running.get(path, &json!(sub), &[]);
            assert_eq!(
                (response.status, response.body.len()),
                (401, 0),
                "{path} {sub:?}"
            );
            let challenge = response.header("www-authenticate").unwrap();
            assert!(challenge.contains("invalid_token"), "{challenge}");
            rejected += 1;
        }
        assert_eq!(running.seen(), <[&str; 0]>::default(), "{path}");
    }
    assert_eq!(running.get("/query", &json!("a\nb"), &[]).status, 401);
    assert_eq!(running.get("/query", &json!(""), &[]).status, 200);
    assert_eq!(running.seen(), ["/q?s="]);
    eventually("the metric", Duration::from_secs(30), || {
        total(&running.page()) == rejected + 1
    });
    running.gateway.tells("[ENDPOINT: /single][JWTValidator] Token rejected: claim \"sub\" cannot be part of a backend's URL");
    let log = running.gateway.output();
    assert!(
        !log.contains("[ERROR]") && !log.contains("▶ ERROR"),
        "{log}"
    );
}

/// How many tokens were rejected for a bad claim, over all endpoints.
fn total(page: &str) -> u32 {
    page.lines()
        .filter(|line| {
            line.starts_with("portcullis_jwt_rejected_total") && line.contains("bad_claim")
        })
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u32)
        .sum()
}

#[test]
fn a_claim_that_is_missing_leaves_its_placeholder_unless_it_is_required() {
    let missing = Value::Null;
    let lenient = urls(json!({}));
    for path in ["/single", "/stream", "/query"] {
        assert_eq!(lenient.get(path, &missing, &[]).status, 200, "{path}");
    }
    assert_eq!(
        lenient.seen(),
        [
            "/u/%7B%7B.JWT.sub%7D%7D/x",
            "/u/%7B%7B.JWT.sub%7D%7D/x",
            "/q?s=%7B%7B.JWT.sub%7D%7D"
        ]
    );
    let strict = urls(json!({"require_url_claims": true, "optional": true}));
    for path in ["/single", "/stream", "/query", "/parallel"] {
        let response = strict.get(path, &missing, &[]);
        assert_eq!(response.status, 401, "{path}");
        let challenge = response.header("www-authenticate").unwrap();
        assert!(challenge.contains("invalid_token"), "{challenge}");
        let anonymous = strict.gateway.get(path);
        assert_eq!(anonymous.status, 401, "{path}");
        assert_eq!(anonymous.header("www-authenticate"), Some("Bearer"));
        assert_eq!(strict.seen(), <[&str; 0]>::default(), "{path}");
        assert_eq!(strict.get(path, &json!("ada"), &[]).status, 200, "{path}");
        strict.seen();
    }
}

#[test]
fn without_a_validator_a_claim_in_a_url_is_warned_of() {
    let running =
        start(|_| json!([{"endpoint": "/open", "backend": [{"url_pattern": "/u/{JWT.sub}"}]}]));
    assert_eq!(running.gateway.get("/open").status, 200);
    assert_eq!(running.seen(), ["/u/%7B%7B.JWT.sub%7D%7D"]);
    running.gateway.tells("{JWT.sub} has no value");
    let log = running.gateway.output();
    assert!(
        log.contains("/endpoints/0/backend/0/url_pattern")
            && log.contains("{JWT.sub} has no value"),
        "{log}"
    );
    assert!(
        log.contains("[ENDPOINT: /open][JWTValidator] Validator disabled for this endpoint"),
        "{log}"
    );
}

#[test]
fn the_log_lists_the_checks_of_each_endpoint_at_start() {
    let config = json!({
        "version": 3, "host": ["http://127.0.0.1:1"],
        "extra_config": {"telemetry/logging": {"level": "DEBUG", "stdout": true}},
        "endpoints": [
            {"endpoint": "/open", "backend": [{"url_pattern": "/"}]},
            {"endpoint": "/flat", "backend": [{"url_pattern": "/"}],
                "extra_config": {"auth/validator": validator(json!({"roles_key": "a.b"}))}},
            {"endpoint": "/nested", "backend": [{"url_pattern": "/"}],
                "extra_config": {"auth/validator": validator(json!({"roles_key": "a.b", "roles_key_is_nested": true}))}},
        ],
    });
    let keys = Signer::es256("k").jwks();
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &keys)]);
    for line in [
        "[ENDPOINT: /open][JWTSigner] Signer disabled",
        "[ENDPOINT: /open][JWTValidator] Validator disabled for this endpoint",
        "[ENDPOINT: /flat][JWTSigner] Signer disabled",
        "[ENDPOINT: /flat][JWTValidator] Roles will be matched against the key: 'a.b'",
        "[ENDPOINT: /nested][JWTValidator] Roles will be matched against the nested key: 'a.b'",
        "[ENDPOINT: /nested][JWTValidator] Validator enabled for this endpoint",
    ] {
        gateway.tells(line);
    }
}

#[test]
fn explain_follows_the_claims_to_where_they_go() {
    let running = start(|validator| {
        json!([
            {"endpoint": "/header", "backend": [{"url_pattern": "/b"}],
                "extra_config": {"auth/validator": validator(json!({"propagate_claims": [["sub", "X-User"]]}))}},
            {"endpoint": "/url", "backend": [{"url_pattern": "/u/{JWT.sub}"}],
                "extra_config": {"auth/validator": validator(json!({"require_url_claims": true}))}},
        ])
    });
    let explain = |endpoint: &str, sub: Value| {
        let output = command()
            .args(["token", "explain", "-c", "krakend.json", "-e", endpoint])
            .arg(running.token(&sub))
            .current_dir(running.gateway.dir())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    for (endpoint, sub) in [
        ("/header", json!("a\nb")),
        ("/url", json!("..")),
        ("/url", Value::Null),
    ] {
        let status = running.get(endpoint, &sub, &[]).status;
        let (code, text) = explain(endpoint, sub);
        assert_eq!((status, code), (401, Some(1)), "{text}");
        assert!(text.contains("=> 401 bad_claim"), "{text}");
    }
    for endpoint in ["/header", "/url"] {
        let (code, text) = explain(endpoint, json!("ada"));
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("found \"ada\""), "{text}");
    }
}

#[test]
fn explain_names_the_expression_that_is_not_true_and_why() {
    let running = start(|validator| {
        json!([{"endpoint": "/cel", "backend": [{"url_pattern": "/b"}], "extra_config": {
        "auth/validator": validator(json!({})),
        "validation/cel": [
            {"check_expr": "JWT.sub != ''"},
            {"check_expr": "JWT.tenant == 'acme'"}
        ]}}])
    });
    let output = command()
        .args(["token", "explain", "-c", "krakend.json", "-e", "/cel"])
        .arg(running.token(&json!("ada")))
        .current_dir(running.gateway.dir())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = "FAIL expressions  validation/cel #1  JWT.tenant == 'acme': no such key: tenant";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_claim_of_a_wrong_type_is_named_in_the_log() {
    let running = start(|validator| {
        let endpoint = |path: &str, more: Value| {
            json!({"endpoint": path, "backend": [{"url_pattern": "/b"}],
                "extra_config": {"auth/validator": validator(more)}})
        };
        json!([
            endpoint("/quiet", json!({})),
            endpoint("/debug", json!({"operation_debug": true}))
        ])
    });
    for (claim, value, told) in [
        ("iss", json!(5), "expected a string, found a number"),
        ("sub", json!(12345), "expected a string, found a number"),
        ("jti", json!(true), "expected a string, found a boolean"),
        (
            "aud",
            json!(["api", 7]),
            "expected a string or a list of strings, found a list with a number in it",
        ),
        (
            "exp",
            json!("4102444800"),
            "expected a number, found a string",
        ),
        ("exp", Value::Null, "expected a number, found null"),
        ("nbf", json!({}), "expected a number, found an object"),
        ("iat", json!([1]), "expected a number, found a list"),
    ] {
        let mut claims = tokens::claims("api");
        claims[claim] = value;
        let bearer = format!("Bearer {}", running.signer.token(&claims));
        for path in ["/quiet", "/debug"] {
            let response = running
                .gateway
                .get_with(path, &[("Authorization", &bearer)]);
            assert_eq!((response.status, response.body.len()), (401, 0), "{claim}");
            let line = format!("claim {claim:?}: {told}");
            let place = format!("[ENDPOINT: {path}][JWTValidator]");
            eventually("the line", Duration::from_secs(30), || {
                let log = running.gateway.output();
                log.lines()
                    .any(|one| one.contains(&place) && one.contains(&line))
            });
        }
    }
    for claim in ["nbf", "iat", "sub", "jti"] {
        let mut claims = tokens::claims("api");
        claims[claim] = Value::Null;
        let bearer = format!("Bearer {}", running.signer.token(&claims));
        let response = running
            .gateway
            .get_with("/quiet", &[("Authorization", &bearer)]);
        assert_eq!(response.status, 200, "null says nothing: {claim}");
    }
}

#[test]
fn a_backend_sees_the_verified_identity_and_no_other() {
    let running = start(|validator| {
        let propagate = json!([
            ["sub", "X-User"],
            ["groups", "X.Grp"],
            ["tenant", "X_Tenant"]
        ]);
        let endpoint = |path: &str, encoding: &str| {
            json!({"endpoint": path, "input_headers": ["*"], "input_query_strings": ["*"],
                "output_encoding": encoding,
                "backend": [{"url_pattern": "/b", "encoding": encoding}],
                "extra_config": {"auth/validator": validator(json!({"propagate_claims": propagate}))}})
        };
        json!([endpoint("/json", "json"), endpoint("/stream", "no-op")])
    });
    let ask = |path: &str, change: &[(&str, Value)], more: &[(&str, &str)]| {
        let mut claims = tokens::claims("api");
        claims["sub"] = json!("ada");
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        let bearer = format!("Bearer {}", running.signer.token(&claims));
        let mut headers = vec![("Authorization", bearer.as_str())];
        headers.extend_from_slice(more);
        let status = running.gateway.get_with(path, &headers).status;
        (status, running.backend.take_seen())
    };
    let forged = [
        ("x_user", "eve"),
        ("X.User", "eve"),
        ("x-grp", "root"),
        ("x_grp", "root"),
        ("X-Tenant", "all"),
        ("X-User", "eve"),
        ("Cookie", "a=1; access_token=forged"),
    ];
    for path in ["/json", "/stream"] {
        let groups = ("groups", json!(["a", "b"]));
        let (status, seen) = ask(path, &[groups, ("tenant", json!("t1"))], &forged);
        assert_eq!((status, seen.len()), (200, 1), "{path}");
        for (name, value) in [
            ("x-user", Some("ada")),
            ("x.grp", Some("a,b")),
            ("x_tenant", Some("t1")),
            ("cookie", Some("a=1")),
            ("x_user", None),
            ("x.user", None),
            ("x-grp", None),
            ("x_grp", None),
            ("x-tenant", None),
        ] {
            assert_eq!(seen[0].header(name), value, "{path} {name}");
        }
        // Neither does a second token in the query.
        for (query, kept) in [
            ("access_token=forged&x=1", "x=1"),
            ("x=1&%61ccess_token=forged", "x=1"),
            ("Access.Token=forged", ""),
            ("access_token&token=t", "token=t"),
        ] {
            let (status, seen) = ask(&format!("{path}?{query}"), &[], &[]);
            assert_eq!((status, seen.len()), (200, 1), "{path} {query}");
            assert_eq!(seen[0].query, kept, "{path} {query}");
        }
        for (claim, value) in [
            ("sub", json!(" ada")),
            ("sub", json!("ada\t")),
            ("sub", json!("ada\u{a0}")),
            ("sub", json!("\u{3000}ada")),
            ("sub", json!("\u{feff}ada")),
            ("groups", json!(["user,admin"])),
            ("groups", json!(["user", " admin"])),
        ] {
            let (status, seen) = ask(path, &[(claim, value)], &[]);
            assert_eq!((status, seen.len()), (401, 0), "{path} {claim}");
        }
    }
    for told in [
        "claim \"sub\" cannot be sent in the header x-user: it has blanks at its start or end",
        "claim \"groups\" cannot be sent in the header x.grp: an item of the list has a comma in it",
    ] {
        running.gateway.tells(told);
    }
}
