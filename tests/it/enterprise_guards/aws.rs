//! Calls signed for AWS, and where the keys come from.

use serde_json::{Value, json};

use super::{OK, checked, file};
use crate::support::{Gateway, Stub};

/// A gateway that signs its calls to `stub`, with this environment.
fn signing(stub: &Stub, variables: &[(&str, &str)], more: Value) -> Gateway {
    let mut block = json!({ "region": "eu-west-1", "service": "execute-api" });
    for (key, value) in more.as_object().unwrap() {
        block[key] = value.clone();
    }
    let signed = |path: &str, encoding: &str, method: &str| {
        json!({ "endpoint": path, "method": method, "timeout": "10s", "output_encoding": encoding,
            "input_headers": ["*"], "input_query_strings": ["*"],
            "backend": [{ "host": [stub.url()], "url_pattern": "/prod/x", "extra_config": { "auth/aws-sigv4": block } }] })
    };
    let endpoints = [
        signed("/json", "json", "GET"),
        signed("/stream", "no-op", "GET"),
        signed("/post", "no-op", "POST"),
    ];
    let mut all = vec![("HOME", "/nowhere"), ("AWS_EC2_METADATA_DISABLED", "true")];
    all.extend(variables);
    let extra = json!({ "router": { "return_error_msg": true } });
    Gateway::start_in(&all, &file(&endpoints, &extra))
}

const STATIC_KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
];

#[test]
fn calls_are_signed_in_place_of_the_clients_own_signature() {
    let stub = Stub::with(OK);
    let gateway = signing(&stub, &STATIC_KEYS, json!({}));
    let sent = [
        ("Authorization", "AWS4-HMAC-SHA256 Credential=EVIL"),
        ("X-Amz-Date", "20000101T000000Z"),
        ("X-Amz-Security-Token", "evil"),
        ("X_Amz_Security_Token", "evil"),
        ("X.Amz.Date", "evil"),
        ("X-Amz_Signature", "evil"),
        ("X-Amz-Target", "Service.Action"),
    ];
    for path in ["/json?b=2+3&a=1", "/stream"] {
        let response = gateway.get_with(path, &sent);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        let seen = stub.take_seen().pop().unwrap();
        let authorization = seen.header("authorization").unwrap();
        let date = seen.header("x-amz-date").unwrap();
        assert!(date > "20200101T000000Z" && date.len() == 16, "{date}");
        let start = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDTEST/{}/eu-west-1/execute-api/aws4_request, SignedHeaders=",
            &date[..8]
        );
        assert!(authorization.starts_with(&start), "{authorization}");
        assert!(
            authorization.contains("host;x-amz-date;x-amz-target, Signature="),
            "{authorization}"
        );
        let all = format!("{:?}", seen.headers).to_lowercase();
        assert!(!all.contains("evil"), "{all}");
        assert!(!seen.query.contains('+'), "{}", seen.query);
    }
    let mut client = gateway.client();
    let body = "{\"a\": 1}";
    let length = body.len().to_string();
    let head = [
        ("Content-Length", length.as_str()),
        ("Content-Type", "application/json"),
    ];
    client
        .send(
            [
                crate::support::http::request("POST", "/post", &head).as_bytes(),
                body.as_bytes(),
            ]
            .concat(),
        )
        .unwrap();
    assert_eq!(client.response("POST").unwrap().status, 200);
    let seen = stub.take_seen().pop().unwrap();
    assert_eq!(seen.body, body.as_bytes());
    assert!(
        seen.header("authorization")
            .unwrap()
            .contains("SignedHeaders=content-type;host;x-amz-date,")
    );
}

#[test]
fn redirects_of_a_signed_call_are_not_followed() {
    let routes = json!([{ "path": "/prod/x", "status": 307, "headers": { "Location": "/other" }, "body": "" }]);
    let stub = Stub::with(&routes.to_string());
    let gateway = signing(&stub, &STATIC_KEYS, json!({}));
    assert_eq!(gateway.get("/stream").status, 307);
    assert_eq!(stub.take_seen().len(), 1);
}

/// An answer with temporary keys, as containers and machines give it.
fn lent() -> Value {
    json!({ "AccessKeyId": "ASIALENT", "SecretAccessKey": "s", "Token": "the-token",
        "Expiration": "2999-01-01T00:00:00Z" })
}

/// The answer of the token service.
fn assumed(action: &str) -> String {
    format!(
        "<{action}Response><{action}Result><Credentials><AccessKeyId>ASIASTS</AccessKeyId>\
         <SecretAccessKey>s</SecretAccessKey><SessionToken>sts-token</SessionToken>\
         <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></{action}Result></{action}Response>"
    )
}

/// Whether calls are signed with these keys and this session token.
fn signs_with(gateway: &Gateway, stub: &Stub, id: &str, token: &str) {
    let response = gateway.get("/json");
    assert_eq!(
        response.status,
        200,
        "{}\n{}",
        response.text(),
        gateway.output()
    );
    let seen = stub.take_seen().pop().unwrap();
    let authorization = seen.header("authorization").unwrap();
    assert!(
        authorization.contains(&format!("Credential={id}/")),
        "{authorization}"
    );
    assert!(
        authorization.contains("x-amz-security-token"),
        "{authorization}"
    );
    assert_eq!(seen.header("x-amz-security-token"), Some(token));
}

#[test]
fn keys_come_from_the_metadata_of_the_machine_with_a_token() {
    let metadata = Stub::with(
        &json!([
            { "path": "/latest/api/token", "body": "md-token" },
            { "path": "/latest/meta-data/iam/security-credentials/", "body": "my-role" },
            { "path": "/latest/meta-data/iam/security-credentials/my-role", "body": lent() }
        ])
        .to_string(),
    );
    let stub = Stub::with(OK);
    let url = metadata.url();
    let variables = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
    ];
    let gateway = signing(&stub, &variables, json!({}));
    signs_with(&gateway, &stub, "ASIALENT", "the-token");
    let seen = metadata.take_seen();
    assert_eq!(seen[0].method, "PUT");
    assert_eq!(
        seen[0].header("x-aws-ec2-metadata-token-ttl-seconds"),
        Some("21600")
    );
    assert_eq!(seen[2].header("x-aws-ec2-metadata-token"), Some("md-token"));
}

#[test]
fn keys_come_from_a_container_a_web_identity_and_an_assumed_role() {
    let stub = Stub::with(OK);
    let agent = Stub::with(&json!([{ "path": "/keys", "body": lent() }]).to_string());
    let url = format!("{}/keys", agent.url());
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "agent-token"),
    ];
    let gateway = signing(&stub, &variables, json!({}));
    signs_with(&gateway, &stub, "ASIALENT", "the-token");
    assert_eq!(
        agent.take_seen()[0].header("authorization"),
        Some("agent-token")
    );

    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "web-token\n").unwrap();
    let sts = Stub::with(
        &json!([{ "path": "/", "headers": { "Content-Type": "text/xml" }, "body": assumed("AssumeRoleWithWebIdentity") }]).to_string(),
    );
    let url = sts.url();
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/web"),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let gateway = signing(&stub, &variables, json!({}));
    signs_with(&gateway, &stub, "ASIASTS", "sts-token");
    let form = String::from_utf8(sts.take_seen()[0].body.clone()).unwrap();
    assert!(
        form.contains("WebIdentityToken=web-token")
            && form.contains("Action=AssumeRoleWithWebIdentity"),
        "{form}"
    );

    let mut variables = STATIC_KEYS.to_vec();
    variables.push(("AWS_ENDPOINT_URL_STS", url.as_str()));
    let role = json!({ "assume_role_arn": "arn:aws:iam::1:role/other", "sts_region": "us-east-1" });
    let gateway = signing(&stub, &variables, role);
    signs_with(&gateway, &stub, "ASIASTS", "sts-token");
    let asked = sts.take_seen().pop().unwrap();
    let form = String::from_utf8(asked.body.clone()).unwrap();
    assert!(form.contains("Action=AssumeRole&"), "{form}");
    assert!(
        asked
            .header("authorization")
            .unwrap()
            .contains("/us-east-1/sts/aws4_request")
    );
}

#[test]
fn without_keys_the_gateway_starts_and_calls_fail_with_the_reason() {
    let stub = Stub::with(OK);
    let agent = Stub::with(&json!([{ "path": "/keys", "status": 403, "body": "" }]).to_string());
    let url = format!("{}/keys", agent.url());
    let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str())];
    let gateway = signing(&stub, &variables, json!({}));
    let failed = gateway.get("/json");
    assert_eq!(failed.status, 500);
    assert!(failed.text().contains("403"), "{}", failed.text());
    assert!(stub.take_seen().is_empty());
    let gateway = signing(&stub, &[], json!({}));
    let failed = gateway.get("/json");
    assert_eq!(failed.status, 500);
    assert!(
        failed.text().contains("no source of keys"),
        "{}",
        failed.text()
    );
    assert!(stub.take_seen().is_empty());
}

#[test]
fn two_credentials_for_one_backend_stop_the_start() {
    let token =
        json!({ "client_id": "a", "client_secret": "b", "token_url": "https://t.example/t" });
    let backend = json!({ "host": ["https://b.example"], "url_pattern": "/", "extra_config": {
        "auth/client-credentials": token, "portcullis/token-exchange": token } });
    let validator =
        json!({ "auth/validator": { "alg": "RS256", "jwk_url": "https://a.example/k" } });
    let endpoint = json!({ "endpoint": "/a", "backend": [backend], "extra_config": validator });
    let (good, text) = checked(&file(&[endpoint], &json!({})));
    assert!(
        !good && text.contains("only one of them can be sent"),
        "{text}"
    );
}

#[test]
fn unclear_signing_stops_the_start() {
    let whole = json!({ "region": "eu-west-1", "service": "sqs" });
    let backend = |hosts: Value, block: Value, more: Value| {
        let mut backend = json!({ "host": hosts, "extra_config": { "auth/aws-sigv4": block } });
        for (key, value) in more.as_object().unwrap() {
            backend["extra_config"][key] = value.clone();
        }
        file(
            &[json!({ "endpoint": "/a", "backend": [backend] })],
            &json!({}),
        )
    };
    let one = json!(["https://sqs.eu-west-1.amazonaws.com"]);
    let token = json!({ "auth/client-credentials": { "client_id": "a", "client_secret": "b", "token_url": "https://t.example/t" } });
    for (config, hint) in [
        (
            backend(one.clone(), json!({ "service": "sqs" }), json!({})),
            "region",
        ),
        (
            backend(one.clone(), json!({ "region": "eu-west-1" }), json!({})),
            "service",
        ),
        (
            backend(
                json!(["https://a.example", "https://b.example"]),
                whole.clone(),
                json!({}),
            ),
            "exactly one host",
        ),
        (backend(one, whole, token), "keep one"),
    ] {
        let (good, text) = checked(&config);
        assert!(!good && text.contains(hint), "{text}");
    }
}
