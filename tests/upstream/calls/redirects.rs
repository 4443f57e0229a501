//! Redirects, and hosts that fail.

use std::time::Duration;

use http::Method;
use portcullis::internals::upstream::{CallErrorKind, CallOptions, HostSet, Settings, Wait};

use crate::stub::{OPTIONS, Reply, Stub, call, client, dead_port, get, ok, response};

#[tokio::test]
async fn redirects_are_followed_and_secrets_stay_with_their_host() {
    let stub = Stub::start(|seen| {
        let port = seen
            .head
            .lines()
            .find_map(|line| line.strip_prefix("Host: "));
        let port = port.unwrap().rsplit_once(':').unwrap().1;
        Reply::Keep(match seen.path() {
            "/a" => response(302, "Location: b\r\n", "moved"),
            "/b" => response(301, &format!("Location: http://localhost:{port}/c\r\n"), ""),
            _ => ok("arrived"),
        })
    })
    .await;
    let hosts = stub.hosts();
    let out = call(
        Method::GET,
        "/a",
        &[("authorization", "Bearer x"), ("x-a", "1")],
        "",
    );
    let incoming = hosts.call(out, &OPTIONS).await.unwrap();
    assert_eq!(&*incoming.body, b"arrived");
    let seen = stub.seen();
    assert!(seen[1].has("Authorization: Bearer x"));
    assert!(seen[1].has(&format!("Referer: {}/a", stub.url())));
    assert!(
        !seen[2].head.contains("Authorization") && seen[2].has("X-A: 1"),
        "{}",
        seen[2].head
    );
    assert!(seen[2].has(&format!("Host: localhost:{}", stub.address.port())));
}

#[tokio::test]
async fn a_loop_of_redirects_ends_after_ten_requests() {
    let stub = Stub::start(|_| Reply::Keep(response(302, "Location: /loop\r\n", ""))).await;
    let error = stub.hosts().call(get("/loop"), &OPTIONS).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"/loop\": stopped after 10 redirects"
    );
    assert_eq!(stub.seen().len(), 10);
}

#[tokio::test]
async fn an_error_after_a_redirect_shows_no_credential_of_the_call() {
    let dead = dead_port().await;
    let to = dead;
    let stub = Stub::start(move |seen| {
        let place = seen.path().trim_start_matches('/');
        let place = place.replace("TOKEN", "opaque-0123456789");
        Reply::Keep(response(
            302,
            &format!("Location: http://{to}/{place}\r\n"),
            "",
        ))
    })
    .await;
    let hosts = stub.hosts();
    let fields = [
        ("authorization", "Bearer opaque-0123456789"),
        ("cookie", "lang=de; sid=cookie-9876543210=="),
    ];
    for (place, is_shown) in [
        ("plain", true),
        ("a/TOKEN/b", false),
        ("a?x=TOKEN", false),
        ("a?x=opaque%2D0123456789", false),
        ("cookie-9876543210", false),
    ] {
        let out = call(Method::GET, &format!("/{place}"), &fields, "");
        let error = hosts.call(out, &OPTIONS).await.unwrap_err().to_string();
        assert!(error.contains("connection refused"), "{error}");
        assert_eq!(
            error.contains(&format!("http://{dead}/{place}")),
            is_shown,
            "{error}"
        );
        assert!(
            !error.contains("0123456789") && !error.contains("9876543210"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_body_is_sent_again_only_when_the_file_says_so() {
    let stub = Stub::start(|seen| {
        Reply::Keep(match seen.path() {
            "/307" => response(307, "Location: /v\r\n", ""),
            "/302" => response(302, "Location: /v\r\n", ""),
            _ => ok("v"),
        })
    })
    .await;
    let hosts = stub.hosts();
    let post = |path: &str| call(Method::POST, path, &[], "body");
    let incoming = hosts.call(post("/307"), &OPTIONS).await.unwrap();
    assert_eq!(incoming.status.as_u16(), 307);
    let options = CallOptions {
        send_body_on_redirect: true,
        ..OPTIONS
    };
    hosts.call(post("/307"), &options).await.unwrap();
    hosts.call(post("/302"), &options).await.unwrap();
    let seen = stub.seen();
    assert!(seen[2].head.starts_with("POST /v") && seen[2].body == b"body");
    assert!(seen[4].head.starts_with("GET /v") && seen[4].body.is_empty());
}

#[tokio::test]
async fn a_dead_host_costs_time_but_no_responses() {
    let stub = Stub::saying("alive").await;
    let dead = format!("http://{}", dead_port().await);
    let hosts = HostSet::fixed(&client(Settings::default()), &[dead, stub.url()]);
    for _ in 0..4 {
        assert!(hosts.call(get("/"), &OPTIONS).await.is_ok());
    }
    // Known to be dead by now, it is passed over by calls that must not be tried twice, too.
    for _ in 0..4 {
        assert!(
            hosts
                .call(call(Method::POST, "/", &[], "x"), &OPTIONS)
                .await
                .is_ok()
        );
    }
}

#[tokio::test]
async fn a_call_that_names_one_of_the_hosts_still_has_the_others() {
    let stub = Stub::saying("alive").await;
    let dead = format!("http://{}", dead_port().await);
    let client = client(Settings::default());
    let hosts = HostSet::fixed(&client, &[dead.clone(), stub.url()]);
    for _ in 0..2 {
        assert!(
            hosts
                .elsewhere(&dead)
                .call(get("/"), &OPTIONS)
                .await
                .is_ok()
        );
    }
    assert_eq!(hosts.elsewhere(&dead).name(), hosts.name());
    // One that is not among them has nobody to stand in.
    let other = HostSet::fixed(&client, &[stub.url()]).elsewhere(&dead);
    assert!(other.call(get("/"), &OPTIONS).await.is_err());
    // Behind a base path is another place.
    let based = format!("{}/base", stub.url());
    let based = HostSet::fixed(&client, &[dead.clone(), based]).elsewhere(&dead);
    assert!(based.call(get("/"), &OPTIONS).await.is_err());
}

#[tokio::test]
async fn failures_have_the_text_of_krakend() {
    let dead = dead_port().await;
    let client = client(Settings::default());
    let text = async |hosts: &[&str]| {
        let hosts = HostSet::fixed(&client, hosts);
        hosts
            .call(get("/x"), &OPTIONS)
            .await
            .unwrap_err()
            .to_string()
    };
    assert_eq!(text(&[]).await, "no hosts available");
    assert_eq!(
        text(&[&format!("http://{dead}")]).await,
        format!("Get \"http://{dead}/x\": dial tcp {dead}: connect: connection refused")
    );
    assert_eq!(
        text(&["h:1"]).await,
        "Get \"h:1/x\": unsupported protocol scheme \"h\""
    );
    assert_eq!(
        text(&["http://no-such-host.invalid"]).await,
        "Get \"http://no-such-host.invalid/x\": dial tcp: lookup no-such-host.invalid: no such host"
    );
}

#[tokio::test]
async fn the_call_to_a_silent_upstream_ends_at_the_header_timeout() {
    let stub = Stub::start(|_| Reply::Hang).await;
    let settings = Settings {
        response_header_timeout: Some(Duration::from_millis(50)),
        ..Settings::default()
    };
    let hosts = HostSet::fixed(&client(settings), &[stub.url()]);
    let error = hosts.call(get("/"), &OPTIONS).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Late(Wait::Header));
    assert!(
        error
            .to_string()
            .ends_with("net/http: timeout awaiting response headers")
    );
}

#[tokio::test]
async fn localhost_is_reached_in_either_family() {
    let v4 = Stub::saying("four").await;
    let url = format!("http://localhost:{}", v4.address.port());
    let hosts = HostSet::fixed(&client(Settings::default()), &[url]);
    assert_eq!(
        &*hosts.call(get("/"), &OPTIONS).await.unwrap().body,
        b"four"
    );
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        return; // no IPv6 here
    };
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 512];
        let _ = stream.read(&mut head).await.unwrap();
        stream.write_all(&ok("six")).await.unwrap();
    });
    let hosts = HostSet::fixed(&client(Settings::default()), &[url]);
    assert_eq!(&*hosts.call(get("/"), &OPTIONS).await.unwrap().body, b"six");
}

#[tokio::test]
async fn a_verbatim_host_keeps_its_base_path() {
    let stub = Stub::saying("x").await;
    let url = format!("{}/base", stub.url());
    let hosts = HostSet::fixed(&client(Settings::default()), &[url]);
    hosts.call(get("/x"), &OPTIONS).await.unwrap();
    assert_eq!(stub.seen()[0].path(), "/base/x");
}
