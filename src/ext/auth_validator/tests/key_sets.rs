//! Key sets of a provider on a real socket: waiting, rotation, reload, failure.

use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::json;

use super::provider::{Mood, Stub};
use super::{steps, verdict, with_token};
use crate::ext::auth_validator::{ENDPOINT, Validators};
use crate::ext::jwk_aggregator::SERVICE;
use crate::ext::testing::File;
use crate::jose::testing::{hs256_with_header, jwk};
use crate::runtime::step::EndpointStep;

fn keys_of(kids: &[&str]) -> Mood {
    let keys: Vec<_> = kids.iter().map(|kid| jwk(kid, false)).collect();
    Mood::Responses(json!({ "keys": keys }).to_string().into_bytes())
}

fn text_for(stub: &Stub, more: &str) -> String {
    format!(
        r#"{{"alg": "HS256", "jwk_url": {:?}, "disable_jwk_security": true{more}}}"#,
        stub.url
    )
}

/// A validator that uses `stub`, with running background work.
fn tended(stub: &Stub, more: &str) -> (Vec<Box<dyn EndpointStep>>, crate::ext::ReloadState) {
    let text = text_for(stub, more);
    let mut file = File::new(&text);
    let part = file.endpoint(&ENDPOINT, "/x");
    assert_eq!(file.config_errors(), 0);
    let (reload_state, tasks) = file.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    (steps(part), reload_state)
}

fn hs(kid: &str) -> HeaderMap {
    let header = json!({"alg": "HS256", "kid": kid}).to_string();
    with_token(&hs256_with_header(&header, "{}"))
}

#[tokio::test]
async fn the_first_request_waits_for_the_keys() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (steps, _kept) = tended(&stub, "");
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    assert_eq!(stub.calls(), 1);
}

#[tokio::test]
async fn a_key_that_was_rotated_in_works_at_once() {
    let stub = Stub::start(keys_of(&["rsa"])).await;
    let (steps, _kept) = tended(&stub, "");
    assert_eq!(
        verdict(&steps, &hs("rsa")).await,
        Some((401, "unusable_key"))
    );
    stub.turns(keys_of(&["rsa", "oct"]));
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    assert_eq!(stub.calls(), 2);
}

#[tokio::test]
async fn a_storm_of_key_ids_costs_the_provider_one_call() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (steps, _kept) = tended(&stub, r#", "failed_jwk_key_cooldown": "60s""#);
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    let requests: Vec<_> = (0..200).map(|index| hs(&format!("kid-{index}"))).collect();
    let storm = requests.iter().map(|request| verdict(&steps, request));
    for rejected in futures::future::join_all(storm).await {
        assert_eq!(rejected, Some((401, "unknown_key")));
    }
    assert_eq!(stub.calls(), 2);
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
}

#[tokio::test]
async fn a_key_id_counts_as_missing_only_after_a_fetch() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let mut file = File::new(&text_for(&stub, r#", "failed_jwk_key_cooldown": "60s""#));
    let steps = steps(file.endpoint(&ENDPOINT, "/x"));
    let validators = file.fact::<Validators>().unwrap().list();
    let (_kept, tasks) = file.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    for id in ["looked-for", "too-soon-after"] {
        let rejected = verdict(&steps, &hs(id)).await;
        assert_eq!(rejected, Some((401, "unknown_key")));
    }
    assert_eq!(stub.calls(), 2);
    let failed = validators[0].validator.providers()[0]
        .keys()
        .unwrap()
        .failed
        .as_ref();
    let failed = failed.unwrap();
    assert!(failed.contains("looked-for") && !failed.contains("too-soon-after"));
}

#[tokio::test]
async fn a_reload_keeps_the_keys() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (steps, kept) = tended(&stub, "");
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    stub.turns(Mood::HangsUp);
    let text = text_for(&stub, r#", "roles": []"#);
    let mut next = File::after(&text, Box::leak(Box::new(kept)));
    let reloaded = self::steps(next.endpoint(&ENDPOINT, "/x"));
    let (_kept, tasks) = next.work();
    let names: Vec<_> = tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(
        names,
        ["key set schedules"],
        "the task of the file before goes on"
    );
    assert_eq!(verdict(&reloaded, &hs("oct")).await, None);
    assert_eq!(stub.calls(), 1);
}

#[tokio::test]
async fn a_reload_can_make_a_key_set_live_shorter_and_longer() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (before, kept) = tended(&stub, r#", "cache": true, "cache_duration": 1"#);
    assert_eq!(verdict(&before, &hs("oct")).await, None);
    calls_reach(&stub, 3).await;
    let long = text_for(&stub, r#", "cache": true, "cache_duration": 900"#);
    let kept: &'static crate::ext::ReloadState = Box::leak(Box::new(kept));
    // A rejected reload leaves no trace: its background work is never started.
    drop(File::after(&long, kept).endpoint(&ENDPOINT, "/x"));
    let calls = stub.calls();
    calls_reach(&stub, calls + 2).await;
    let mut next = File::after(&long, kept);
    // If two endpoints share a source, the stricter one decides.
    let after = steps(next.endpoint(&ENDPOINT, "/x"));
    let longer = text_for(&stub, r#", "cache": true, "cache_duration": 3600"#);
    next.endpoint_with(&ENDPOINT, &longer, "/y", Method::GET);
    let (kept, tasks) = next.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls = stub.calls();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(stub.calls(), calls);
    assert_eq!(verdict(&after, &hs("oct")).await, None);
    let short = text_for(&stub, r#", "cache": true, "cache_duration": 1"#);
    let mut last = File::after(&short, Box::leak(Box::new(kept)));
    let _steps = last.endpoint(&ENDPOINT, "/x");
    let (_kept, tasks) = last.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    calls_reach(&stub, calls + 2).await;
}

async fn calls_reach(stub: &Stub, number: usize) {
    let reached = async {
        while stub.calls() < number {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(15), reached).await;
    waited.expect("more calls");
}

/// Asks until the verdict is this one.
async fn becomes(
    steps: &[Box<dyn EndpointStep>],
    fields: &HeaderMap,
    expected: Option<(u16, &'static str)>,
) {
    let asked = async {
        while verdict(steps, fields).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), asked).await;
    assert!(waited.is_ok(), "the verdict is never {expected:?}");
}

#[tokio::test]
async fn sources_that_differ_in_anything_share_no_key() {
    let (good, evil) = (
        Stub::start(keys_of(&["rsa"])).await,
        Stub::start(keys_of(&["oct"])).await,
    );
    let mut file = File::new(&text_for(&good, ""));
    let good = steps(file.endpoint(&ENDPOINT, "/good"));
    let evil = text_for(&evil, "");
    let evil = steps(file.endpoint_with(&ENDPOINT, &evil, "/evil", Method::GET));
    let (_kept, tasks) = file.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    let token = hs("oct");
    assert_eq!(verdict(&evil, &token).await, None);
    assert_eq!(verdict(&evil, &token).await, None, "remembered");
    assert_eq!(verdict(&good, &token).await, Some((401, "unknown_key")));
}

#[tokio::test]
async fn a_provider_that_was_down_is_called_again() {
    let stub = Stub::start(Mood::HangsUp).await;
    let (steps, _kept) = tended(&stub, "");
    assert_eq!(
        verdict(&steps, &hs("oct")).await,
        Some((401, "keys_unavailable"))
    );
    stub.turns(keys_of(&["oct"]));
    // Not at once: at most once a second.
    becomes(&steps, &hs("oct"), None).await;
}

#[tokio::test]
async fn the_keys_of_a_provider_survive_its_outage() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (steps, _kept) = tended(&stub, "");
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    stub.turns(Mood::HangsUp);
    assert_eq!(
        verdict(&steps, &hs("new")).await,
        Some((401, "unknown_key"))
    );
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
}

#[tokio::test]
async fn a_hanging_provider_delays_only_requests_that_need_it() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (steps, _kept) = tended(&stub, "");
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    stub.turns(Mood::Hangs);
    let (stranger, known) = (hs("new"), hs("oct"));
    // Half a second, and not the two of the endpoint or the five of the fetch.
    let slow = tokio::time::timeout(Duration::from_millis(1500), verdict(&steps, &stranger));
    let quick = async {
        tokio::task::yield_now().await;
        tokio::time::timeout(Duration::from_secs(1), verdict(&steps, &known)).await
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!(quick, Ok(None));
    assert_eq!(slow, Ok(Some((401, "unknown_key"))));
    // The fetch goes on. Others wait for the same one.
    let next = hs("next");
    let slow = tokio::time::timeout(Duration::from_millis(1500), verdict(&steps, &next));
    assert_eq!(slow.await, Ok(Some((401, "unknown_key"))));
    assert_eq!(stub.calls(), 2);
}

/// A validator with the keys of all of these, with running background work.
fn united(stubs: &[&Stub]) -> (Vec<Box<dyn EndpointStep>>, crate::ext::ReloadState) {
    let origins: Vec<_> = stubs.iter().map(|stub| &stub.url).collect();
    let mut file = File::new(&json!({ "port": 9876, "origins": origins }).to_string());
    file.service(&SERVICE);
    let text =
        r#"{"alg": "HS256", "jwk_url": "http://localhost:9876", "disable_jwk_security": true}"#;
    let part = file.endpoint_with(&ENDPOINT, text, "/x", Method::GET);
    assert_eq!(file.config_errors(), 0);
    let (reload_state, tasks) = file.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    (steps(part), reload_state)
}

#[tokio::test]
async fn an_origin_that_hangs_delays_only_its_own_keys() {
    let good = Stub::start(keys_of(&["rsa"])).await;
    let bad = Stub::start(Mood::Hangs).await;
    let (steps, _kept) = united(&[&bad, &good]);
    // The first request already has the keys of the other.
    let first = verdict(&steps, &hs("rsa")).await;
    assert_eq!(first, Some((401, "unusable_key")));
    // Somebody uses a new key before it is published, while the first fetch of the one that hangs has not ended.
    assert_eq!(
        verdict(&steps, &hs("oct")).await,
        Some((401, "unknown_key"))
    );
    good.turns(keys_of(&["rsa", "oct"]));
    becomes(&steps, &hs("oct"), None).await;
    assert_eq!(bad.calls(), 1, "its first fetch has not ended yet");
}

#[tokio::test]
async fn an_origin_that_fails_keeps_its_last_keys_in_the_set_of_all() {
    let (one, other) = (
        Stub::start(keys_of(&["rsa"])).await,
        Stub::start(keys_of(&["oct"])).await,
    );
    let (steps, _kept) = united(&[&one, &other]);
    becomes(&steps, &hs("oct"), None).await;
    other.turns(Mood::HangsUp);
    one.turns(keys_of(&["ec256"]));
    becomes(&steps, &hs("ec256"), Some((401, "unusable_key"))).await;
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
}

#[tokio::test]
async fn an_origin_that_has_no_usable_key_any_more_keeps_its_last_keys_in_the_set_of_all() {
    let unusable = json!({ "keys": [{ "kty": "unknown", "kid": "x" }] });
    for without_keys in [keys_of(&[]), Mood::Responses(unusable.to_string().into())] {
        let (one, other) = (
            Stub::start(keys_of(&["rsa"])).await,
            Stub::start(keys_of(&["oct"])).await,
        );
        let (steps, _kept) = united(&[&one, &other]);
        becomes(&steps, &hs("oct"), None).await;
        other.turns(without_keys);
        let before = other.calls();
        // The second call begins after the end of the first.
        let refreshed = async {
            while other.calls() < before + 2 {
                let _ = verdict(&steps, &hs("new")).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let limit = Duration::from_secs(20);
        assert!(tokio::time::timeout(limit, refreshed).await.is_ok());
        assert_eq!(verdict(&steps, &hs("oct")).await, None);
        // The keys of the other are still refreshed.
        one.turns(keys_of(&["ec256"]));
        becomes(&steps, &hs("ec256"), Some((401, "unusable_key"))).await;
        assert_eq!(verdict(&steps, &hs("oct")).await, None);
    }
}
