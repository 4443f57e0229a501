//! `portcullis/forward-auth`: another service decides.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{echo, get, one};
use crate::support::{Gateway, Stub, Upstream};

/// An endpoint that asks `service`.
fn guarded(service: &str, backend: &Stub, more: &Value) -> Gateway {
    let mut block = json!({"url": format!("{service}/verify"), "response_headers": ["X-User"]});
    for (key, value) in more.as_object().unwrap() {
        block[key] = value.clone();
    }
    Gateway::start(&one(&backend.url(), &json!({"portcullis/forward-auth": block})).to_string())
}

fn decide(head: &str) -> String {
    let lower = head.to_lowercase();
    let answer = |status: &str, fields: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    if lower.contains("authorization: bearer ada") {
        answer("200 OK", "X-User: ada\r\n", "")
    } else if lower.contains("authorization: bearer nameless") {
        answer("204 No", "", "")
    } else if lower.contains("authorization: bearer broken") {
        answer("500 X", "X-User: ada\r\n", "")
    } else if lower.contains("cookie:") {
        answer(
            "302 Found",
            "Location: https://login.example/\r\nX-Secret: a\r\n",
            "go",
        )
    } else {
        answer("401 Unauthorized", "WWW-Authenticate: Basic\r\n", "who?")
    }
}

#[test]
fn a_service_decides_and_names_the_user() {
    let service = Upstream::start(|mut call| {
        let answer = decide(&call.head);
        call.send(answer)
    });
    let backend = echo();
    let gateway = guarded(&service.url(), &backend, &json!({}));
    let forged = |token: &str| {
        let value = format!("Bearer {token}");
        gateway.get_with(
            "/x?q=1",
            &[
                ("Authorization", value.as_str()),
                ("X-User", "root"),
                ("X-Forwarded-Uri", "/open"),
            ],
        )
    };
    assert_eq!(forged("ada").status, 200);
    assert_eq!(forged("nameless").status, 200);
    let sent = backend.take_seen();
    assert_eq!(sent[0].headers["x-user"], ["ada"]);
    assert_eq!(
        sent[1].header("x-user"),
        None,
        "the client's own is removed"
    );
    let head = service.heads()[0].to_lowercase();
    for field in [
        "get /verify ",
        "x-forwarded-method: get",
        "x-forwarded-uri: /x?q=1",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "authorization: bearer ada",
    ] {
        assert!(head.contains(field), "{field} in {head}");
    }
    assert!(
        !head.contains("/open") && !head.contains("x-user"),
        "{head}"
    );
    let rejected = forged("bob");
    assert_eq!((rejected.status, rejected.text().as_str()), (401, "who?"));
    assert_eq!(rejected.header("www-authenticate"), Some("Basic"));
    let sent_away = gateway.get_with("/x", &[("Cookie", "a=b")]);
    assert_eq!(
        (sent_away.status, sent_away.header("location")),
        (302, Some("https://login.example/"))
    );
    assert_eq!(sent_away.header("x-secret"), None);
    assert_eq!(forged("broken").status, 503);
    assert!(backend.take_seen().is_empty());
}

#[test]
fn decisions_are_cached_by_everything_sent_or_by_the_cache_key() {
    let service = Upstream::start(|mut call| {
        let answer = decide(&call.head);
        call.send(answer)
    });
    let backend = echo();
    let whole = guarded(&service.url(), &backend, &json!({"cache_duration": "60s"}));
    let calls = |gateway: &Gateway, requests: &[(&str, &str)]| {
        let before = service.calls();
        for (path, token) in requests {
            get(gateway, path, token);
        }
        service.calls() - before
    };
    assert_eq!(
        calls(
            &whole,
            &[("/x", "ada"), ("/x", "ada"), ("/x", "bob"), ("/x", "bob")]
        ),
        2
    );
    assert_eq!(
        calls(&whole, &[("/x?admin", "ada")]),
        1,
        "another URI is another question"
    );
    assert_eq!(get(&whole, "/x", "bob").status, 401);
    let keyed = json!({"cache_duration": "60s", "cache_key": ["Authorization"]});
    let keyed = guarded(&service.url(), &backend, &keyed);
    assert_eq!(
        calls(&keyed, &[("/x", "ada"), ("/x?a", "ada"), ("/x", "bob")]),
        2
    );
    assert_eq!(get(&keyed, "/x", "bob").status, 401);
}

#[test]
fn a_silent_or_stopped_service_rejects_all_requests() {
    let service = Upstream::start(|_| {
        crate::support::pause(Duration::from_secs(60));
        Ok(())
    });
    let backend = echo();
    let gateway = guarded(
        &service.url(),
        &backend,
        &json!({"timeout": "200ms", "cache_duration": "60s"}),
    );
    let began = Instant::now();
    assert_eq!(get(&gateway, "/x", "ada").status, 503);
    assert!(began.elapsed() < Duration::from_secs(15));
    let gone = guarded("http://127.0.0.1:1", &backend, &json!({}));
    for _ in 0..10 {
        assert_eq!(get(&gone, "/x", "ada").status, 503);
    }
    assert!(backend.take_seen().is_empty());
}

#[test]
fn an_answer_for_one_client_is_not_given_to_another() {
    for (name, fields) in [
        ("a cookie", "Set-Cookie: session="),
        ("no-store", "Cache-Control: no-store\r\nX-Session: "),
        (
            "private",
            "Cache-Control: private, max-age=60\r\nX-Session: ",
        ),
    ] {
        let sessions = AtomicUsize::new(0);
        let service = Upstream::start(move |mut call| {
            let session = sessions.fetch_add(1, Ordering::SeqCst);
            call.send(format!(
                "HTTP/1.1 302 Found\r\n{fields}{session}\r\nLocation: /login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ))
        });
        let backend = echo();
        let more = json!({"cache_duration": "60s", "cache_key": ["Authorization", "Cookie"],
            "client_headers": ["Set-Cookie", "X-Session", "Location"]});
        let gateway = guarded(&service.url(), &backend, &more);
        let mut found: Vec<String> = (0..3)
            .map(|_| {
                let answer = gateway.get("/x");
                assert_eq!(answer.status, 302, "{name}");
                let cookie = answer.header("set-cookie");
                cookie.or(answer.header("x-session")).unwrap().to_owned()
            })
            .collect();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 3, "{name}: {found:?}");
    }
}
