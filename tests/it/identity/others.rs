//! What one client does causes no failures for others.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{active, asking, asks, echo, get, server};
use crate::support::{Gateway, Upstream};

const NOT_ACTIVE: &str = r#"{"active":false}"#;

/// A provider to which `bad…` is not active, and which answers `status NNN` with that status.
fn provider(time: Duration) -> Upstream {
    server(move |_, body| {
        if body.contains("token=bad") {
            crate::support::pause(time);
            return (200, NOT_ACTIVE.to_owned());
        }
        match body
            .split_once("token=status-")
            .map(|(_, rest)| rest[..3].parse().unwrap())
        {
            Some(200) => (200, "[]".to_owned()),
            Some(status) => (status, "{}".to_owned()),
            None => (200, active(json!({}))),
        }
    })
}

#[test]
fn a_response_about_one_token_is_not_a_failure_of_the_provider() {
    let (provider, backend) = (provider(Duration::ZERO), echo());
    let gateway = asking(&provider.url(), &backend, &json!({}));
    for status in [400, 403, 404, 413, 429, 200] {
        for number in 0..7 {
            let token = format!("status-{status}-{number}");
            assert_eq!(get(&gateway, "/x", &token).status, 401, "{token}");
        }
        let good = format!("good{status}");
        assert_eq!(get(&gateway, "/x", &good).status, 200, "after {status}");
    }
    for number in 0..7 {
        get(&gateway, "/x", &format!("status-500-{number}"));
    }
    assert_eq!(get(&gateway, "/x", "good").status, 401, "it really fails");
}

#[test]
fn a_flood_of_invented_tokens_does_not_block_other_clients() {
    let (provider, backend) = (provider(Duration::from_millis(900)), echo());
    let more = json!({"cache_duration": "1ms"});
    let gateway = asking(&provider.url(), &backend, &more);
    assert_eq!(get(&gateway, "/x", "known").status, 200);
    let mut seen: HashMap<u16, usize> = HashMap::new();
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..150)
            .map(|number| {
                let gateway = &gateway;
                scope.spawn(move || get(gateway, "/x", &format!("bad{number}")).status)
            })
            .collect();
        crate::support::pause(Duration::from_millis(400));
        assert_eq!(get(&gateway, "/x", "known").status, 200, "during the flood");
        for one in flood {
            *seen.entry(one.join().unwrap()).or_default() += 1;
        }
    });
    assert!(seen[&401] >= 36, "{seen:?}");
    assert!(
        seen.keys().all(|status| [401, 503].contains(status)),
        "{seen:?}"
    );
    assert_eq!(
        get(&gateway, "/x", "unknown").status,
        200,
        "after the flood"
    );
}

#[test]
fn a_full_queue_is_503_and_names_no_token_as_wrong() {
    // The time of the endpoint is over before that of the calls.
    let (provider, backend) = (provider(Duration::from_secs(60)), echo());
    let mut file = asks(&provider.url(), &backend, &json!({"timeout": "20s"}));
    file["timeout"] = json!("2s");
    let gateway = Gateway::start(&file.to_string());
    let responses: Vec<_> = std::thread::scope(|scope| {
        let flood: Vec<_> = (0..60)
            .map(|number| {
                let gateway = &gateway;
                scope.spawn(move || get(gateway, "/x", &format!("bad{number}")))
            })
            .collect();
        flood.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let busy: Vec<_> = responses.iter().filter(|one| one.status == 503).collect();
    assert!(!busy.is_empty());
    for response in busy {
        assert_eq!(response.header("www-authenticate"), None);
        assert_eq!(response.header("retry-after"), Some("1"));
    }
}

/// Two endpoints that ask the same service, one with little time.
fn hasty(extra: &Value, backend: &str) -> Gateway {
    let endpoint = |path: &str, timeout: &str| {
        json!({"endpoint": path, "timeout": timeout, "extra_config": extra,
            "backend": [{"url_pattern": "/b"}]})
    };
    let config = json!({"version": 3, "host": [backend], "endpoints":
        [endpoint("/short", "100ms"), endpoint("/long", "20s")]});
    Gateway::start(&config.to_string())
}

#[test]
fn an_endpoint_with_little_time_closes_no_other_one() {
    let (provider, backend) = (provider(Duration::from_millis(500)), echo());
    let introspection = json!({"url": provider.url(), "allow_insecure": true, "client_id": "gw",
        "client_secret": "s"});
    let block =
        json!({"issuer": "https://as", "audience": ["api"], "introspection": introspection});
    let gateway = hasty(&json!({"auth/validator": block}), &backend.url());
    for number in 0..7 {
        let token = format!("bad{number}");
        assert_ne!(get(&gateway, "/short", &token).status, 200);
    }
    assert_eq!(get(&gateway, "/long", "good").status, 200);
    // The calls went on, and what they brought is kept.
    let calls = provider.calls();
    crate::support::pause(Duration::from_millis(700));
    assert_eq!(get(&gateway, "/long", "bad6").status, 401);
    assert_eq!(provider.calls(), calls);
}

#[test]
fn a_rejection_of_one_client_does_not_close_forward_auth_for_others() {
    let service = Upstream::start(|mut call| {
        let lower = call.head.to_lowercase();
        let status = match lower.split_once("bearer s") {
            Some((_, rest)) => rest[..3].to_owned(),
            None => "200".to_owned(),
        };
        call.send(format!(
            "HTTP/1.1 {status} X\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ))
    });
    let backend = echo();
    let block = json!({"url": service.url(), "cache_duration": "60s"});
    let gateway = hasty(&json!({"portcullis/forward-auth": block}), &backend.url());
    for (sent, status) in [("s429", 429), ("s408", 408), ("s304", 503), ("s404", 404)] {
        for _ in 0..7 {
            let response = get(&gateway, "/long", sent);
            assert_eq!(response.status, status, "{sent}");
            if status == 429 {
                assert_eq!(response.header("retry-after"), Some("7"));
            }
        }
        assert_eq!(get(&gateway, "/long", &format!("alice{sent}")).status, 200);
    }
    let before = service.calls();
    get(&gateway, "/long", "s429");
    assert_eq!(service.calls(), before + 1, "what passes soon is not kept");
}
