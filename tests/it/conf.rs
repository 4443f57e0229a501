//! The files of `conf/` run unchanged, except for ports and the provider's address.

use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::support::gateway::command;
use crate::support::{Gateway, Signer, Stub, ports, tokens};

const NAMES: [&str; 10] = [
    "krakend.json",
    "minimal.json",
    "merge.json",
    "no-op.json",
    "sequential.json",
    "errors.json",
    "jwt.json",
    "lua.json",
    "martian.json",
    "validation.json",
];

/// What stands beside them.
const LIST: &str = include_str!("../../conf/README.md");

/// The schema of configurations, which is not a configuration itself.
const SCHEMA: &str = "portcullis.schema.json";

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Starts one of the files; the gateway is its own backend, as in the file.
fn start(name: &str, change: impl Fn(String) -> String) -> Gateway {
    let port = ports::free();
    let config = change(text(name)).replace("localhost:8080", &format!("localhost:{port}"));
    let gateway = Gateway::spawn(port, &config, &[], &["-p", &port.to_string()]);
    assert!(
        gateway.listens(std::time::Duration::from_secs(20)),
        "{name}:\n{}",
        gateway.output()
    );
    gateway
}

#[test]
fn every_file_is_listed_here_and_passes_check() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == SCHEMA || name == "README.md" {
            continue;
        }
        assert!(NAMES.contains(&&*name), "conf/{name} has no test");
        assert!(
            LIST.contains(&format!("| [{name}]({name}) |")),
            "{name} is not in the list"
        );
        let check = |strict: &[&str]| -> (bool, String) {
            let Output { status, stderr, .. } = command()
                .arg("check")
                .args(strict)
                .arg("-c")
                .arg(&path)
                .output()
                .unwrap();
            (
                status.success(),
                String::from_utf8_lossy(&stderr).into_owned(),
            )
        };
        let (is_good, said) = check(&[]);
        assert!(is_good, "conf/{name}: {said}");
        // The list warns about the one that has a warning.
        let (is_quiet, said) = check(&["--strict"]);
        assert_eq!(is_quiet, name != "krakend.json", "conf/{name}: {said}");
        if !is_quiet {
            assert!(said.contains("no \"issuer\"") && LIST.contains("It has no `issuer`"));
        }
    }
}

#[test]
fn minimal_serves_what_it_allows() {
    let response = start("minimal.json", |s| s).get("/hello");
    assert_eq!(
        (response.status, response.json()),
        (200, json!({"status": "ok"}))
    );
    assert_eq!(response.header("x-krakend-completed"), Some("true"));
}

#[test]
fn martian_changes_requests_and_responses() {
    let gateway = start("martian.json", |s| s);
    let response = gateway.get("/orders/7?page=2&expand=none");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("cache-control"), Some("public, max-age=60"));
    let echoed = response.json();
    assert_eq!(echoed["req_uri"], "/__echo/orders/7?expand=items&page=2");
    assert_eq!(echoed["req_headers"]["X-Api-Version"], json!(["2"]));
    let legacy = gateway.get("/legacy");
    assert_eq!(legacy.json()["req_uri"], "/__echo/old%20api/v1");
}

#[test]
fn merge_combines_three_responses() {
    let response = start("merge.json", |s| s).get("/dashboard/ada?page=2&other=1");
    assert_eq!(response.status, 200);
    assert_eq!(
        response.json(),
        json!({
            "user": {"req_uri": "/__echo/users/ada?page=2", "req_method": "GET"},
            "orders": {"asked": "/__echo/orders?of=ada&page=2"},
            "status": "ok"
        })
    );
}

#[test]
fn no_op_passes_the_body_on() {
    let gateway = start("no-op.json", |s| s);
    let response = gateway.send(
        "POST",
        "POST /upload/a.txt HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nX-Other: 1\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(response.status, 200);
    let echo = response.json();
    assert_eq!(echo["req_uri"], "/__echo/files/a.txt");
    assert_eq!(echo["req_body"], "hello");
    assert_eq!(echo["req_headers"]["Content-Type"], json!(["text/plain"]));
    assert_eq!(echo["req_headers"].get("X-Other"), None);
}

#[test]
fn sequential_uses_the_first_response_in_the_second_call() {
    let response = start("sequential.json", |s| s).get("/chain/7");
    assert_eq!(response.status, 200);
    assert_eq!(
        response.json(),
        json!({"verb": "GET", "req_uri": "/__echo/second/GET"})
    );
}

#[test]
fn errors_show_as_little_or_as_much_as_the_file_says() {
    let gateway = start("errors.json", |s| s);
    let plain = gateway.get("/plain");
    assert_eq!((plain.status, plain.body.len()), (500, 0));
    assert_eq!(gateway.get("/code").status, 404);
    let details = gateway.get("/details");
    assert_eq!(details.status, 200);
    assert_eq!(details.header("x-krakend-completed"), Some("false"));
    let body = details.json();
    assert_eq!(body["status"], "ok");
    assert_eq!(body["error_second"]["http_status_code"], 404);
}

#[test]
#[cfg(all(feature = "cel", feature = "json-schema"))]
fn validation_accepts_valid_requests() {
    let gateway = start("validation.json", |s| s);
    let order = gateway.get("/orders/7");
    assert_eq!(
        (order.status, order.json()),
        (200, json!({"asked": "/__echo/orders/7"}))
    );
    assert_eq!(gateway.get("/orders/seven").status, 500);
    let people = |body: &str| {
        let head = format!(
            "POST /people HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        gateway.send("POST", format!("{head}{body}"))
    };
    let good = people(r#"{"name": "Ann", "age": 3}"#);
    assert_eq!(good.json()["req_body"], r#"{"name": "Ann", "age": 3}"#);
    for bad in [
        "",
        "{",
        "{}",
        r#"{"name": "A"}"#,
        r#"{"name": "Ann", "x": 1}"#,
    ] {
        assert_eq!(people(bad).status, 400, "{bad}");
    }
}

#[test]
#[cfg(feature = "lua")]
fn lua_rejects_and_changes_requests_and_changes_responses() {
    let gateway = start("lua.json", |s| s);
    let rejected = gateway.get("/members");
    assert_eq!((rejected.status, rejected.body.len()), (403, 0));
    let member = gateway.get_with("/members", &[("X-Member", "1"), ("X-Plan", "free")]);
    assert_eq!(member.status, 200, "{}", gateway.output());
    assert_eq!(member.json()["req_headers"]["X-Plan"], json!(["gold"]));
    let sum = gateway.get("/sum/4/2");
    assert_eq!(sum.json(), json!({"path": "/__echo/40/2"}));
}

#[test]
fn jwt_accepts_valid_tokens_and_forwards_their_claims() {
    let signer = Signer::rs256("k");
    let provider = Stub::with(&json!([{"path": "/jwks", "headers": {"Content-Type": "application/json"}, "body": signer.jwks()}]).to_string());
    let gateway = start("jwt.json", |text| {
        text.replace(
            "\"https://YOUR-TENANT.auth0.com/.well-known/jwks.json\"",
            &format!(
                "\"{}/jwks\", \"disable_jwk_security\": true",
                provider.url()
            ),
        )
    });
    let bearer = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut claims = tokens::claims("https://api.example.com");
        claims["iss"] = json!("https://YOUR-TENANT.auth0.com/");
        claims["roles"] = json!(["admin", "user"]);
        claims["scope"] = json!("read write");
        change(&mut claims);
        format!("Bearer {}", signer.token(&claims))
    };
    let get = |path: &str, token: &str| {
        gateway.get_with(path, &[("Authorization", token), ("X-User", "mallory")])
    };
    let good = bearer(&|_| {});
    let me = get("/me", &good);
    assert_eq!(me.status, 200, "{}", gateway.output());
    let headers = &me.json()["req_headers"];
    assert_eq!(headers["X-User"], json!(["ada"]));
    assert_eq!(headers["X-Roles"], json!(["admin,user"]));
    assert_eq!(get("/admin", &good).status, 200);
    assert_eq!(
        get("/admin", &bearer(&|c| c["roles"] = json!(["user"]))).status,
        403
    );
    assert_eq!(
        get("/admin", &bearer(&|c| c["scope"] = json!("write"))).status,
        403
    );
    assert_eq!(
        get("/me", &bearer(&|c| c["aud"] = json!("other"))).status,
        401
    );
    assert_eq!(
        get("/me", &bearer(&|c| c["iss"] = json!("other"))).status,
        401
    );
    assert_eq!(
        get("/me", &bearer(&|c| c["exp"] = json!(tokens::now() - 60))).status,
        401
    );
    assert_eq!(
        get("/me", &bearer(&|c| c["nbf"] = json!(tokens::now() + 600))).status,
        401
    );
    assert_eq!(get("/me", &tokens::tampered(&good)).status, 401);
}

#[test]
fn the_schema_is_the_one_that_the_program_prints() {
    let Output { stdout, .. } = command().arg("schema").output().unwrap();
    let printed = String::from_utf8(stdout).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(SCHEMA);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let shipped = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shipped == printed,
        "conf/{SCHEMA} is out of date: UPDATE_DOCS=1 cargo test --test it conf::"
    );
}

#[cfg(feature = "json-schema")]
#[test]
fn every_file_and_every_example_fits_the_schema() {
    let schema = serde_json::from_str(&portcullis::internals::compile::schema::text()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut wrong = Vec::new();
    let mut judge = |name: String, text: &str| {
        let file: serde_json::Value = serde_json::from_str(text).unwrap();
        let found: Vec<String> = validator
            .iter_errors(&file)
            .map(|error| format!("{name}: {}: {error}", error.instance_path()))
            .collect();
        wrong.extend(found);
    };
    for name in NAMES {
        judge(name.to_owned(), &text(name));
    }
    for (name, text) in crate::docs::configurations() {
        judge(name, &text);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for bad in [
        r#"{"endpoints": []}"#,
        r#"{"version": 3, "endpoint": []}"#,
        r#"{"version": 3, "timeout": "2 sec"}"#,
        r#"{"version": 3, "endpoints": [{"backend": [{"url_patern": "/"}]}]}"#,
        r#"{"version": 3, "endpoints": [{"extra_config": {"auth/validator": {"audience": "a"}}}]}"#,
    ] {
        assert!(
            !validator.is_valid(&serde_json::from_str(bad).unwrap()),
            "{bad}"
        );
    }
}
