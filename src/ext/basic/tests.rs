use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::runtime::parse_anything;
use super::{ENDPOINT, SERVICE};
use crate::ext::extension::EndpointPart;
use crate::ext::testing::{File, head};
use crate::runtime::request::Notes;
use crate::runtime::step::{EndpointStep, Gate};

fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

fn step(file: &mut File, endpoint: &str) -> Box<dyn EndpointStep> {
    file.service(&SERVICE);
    match file.endpoint_with(&ENDPOINT, endpoint, "/e", Method::GET) {
        EndpointPart::Steps(mut steps) => steps.pop().unwrap(),
        other => panic!("{other:?}: {}", file.findings()),
    }
}

fn basic(credentials: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Basic {}", STANDARD.encode(credentials))).unwrap()
}

/// Status, reason, and whether bcrypt was run.
async fn ask(step: &dyn EndpointStep, values: &[HeaderValue]) -> (u16, &'static str, bool) {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(AUTHORIZATION, value.clone());
    }
    let head = head(&Method::GET, "/e", &headers);
    let mut notes = Notes::default();
    let mut gate = step.check(&head, &mut notes);
    let waited = matches!(gate, Gate::Wait(_));
    if let Gate::Wait(mut wait) = gate {
        wait.done().await;
        gate = wait.decide(&head, &mut notes);
    }
    let status = match gate {
        Gate::Pass => 200,
        Gate::Reject(response) => {
            let has = |wanted| response.fields.iter().any(|(name, _)| name == wanted);
            assert_eq!(response.status == 401, has(WWW_AUTHENTICATE));
            assert_eq!(response.status != 401, has(RETRY_AFTER));
            response.status.as_u16()
        }
        Gate::Wait(_) => panic!("waits twice"),
    };
    (status, notes.rejected.unwrap_or(""), waited)
}

#[tokio::test]
async fn a_right_password_is_compared_once() {
    let mut file = File::new(&format!(r#"{{"users": {{"ann": "{}"}}}}"#, hash("a:b é")));
    let step = step(&mut file, "{}");
    assert_eq!(ask(&*step, &[basic("ann:a:b é")]).await, (200, "", true));
    assert_eq!(ask(&*step, &[basic("ann:a:b é")]).await, (200, "", false));
    for wrong in ["ann:a:b", "ann:", "eve:a:b é", ":a:b é"] {
        let response = ask(&*step, &[basic(wrong)]).await;
        assert_eq!(response, (401, "wrong_password", true), "{wrong}");
    }
    assert_eq!(ask(&*step, &[]).await, (401, "missing_credentials", false));
    for no in ["Basic", "Basic ?", "Bearer YTpi", "Basic YQ=="] {
        let response = ask(&*step, &[HeaderValue::from_static(no)]).await;
        assert_eq!(response, (401, "missing_credentials", false), "{no}");
    }
    let twice = [basic("ann:a:b é"), basic("ann:a:b é")];
    assert_eq!(
        ask(&*step, &twice).await,
        (401, "ambiguous_credentials", false)
    );
}

#[tokio::test]
async fn one_client_cannot_guess_for_long() {
    let mut file = File::new(&format!(r#"{{"users": {{"ann": "{}"}}}}"#, hash("a")));
    let step = step(&mut file, "{}");
    assert_eq!(ask(&*step, &[basic("ann:a")]).await.0, 200);
    let mut rejected = None;
    for guess in 0..60 {
        let (status, why, waited) = ask(&*step, &[basic(&format!("ann:{guess}"))]).await;
        if status == 429 {
            assert_eq!((why, waited), ("rate_limited", false));
            rejected = Some(guess);
            break;
        }
        assert_eq!(status, 401);
    }
    assert!(rejected.is_some());
    assert_eq!(ask(&*step, &[basic("ann:a")]).await, (200, "", false));
}

/// The status of a login from `client`.
async fn login(step: &dyn EndpointStep, client: &str, credentials: &str) -> u16 {
    let mut headers = HeaderMap::new();
    headers.append(AUTHORIZATION, basic(credentials));
    let mut head = head(&Method::GET, "/e", &headers);
    head.client = client.parse().unwrap();
    let mut notes = Notes::default();
    let mut gate = step.check(&head, &mut notes);
    if let Gate::Wait(mut wait) = gate {
        wait.done().await;
        gate = wait.decide(&head, &mut notes);
    }
    match gate {
        Gate::Pass => 200,
        Gate::Reject(response) => response.status.as_u16(),
        Gate::Wait(_) => panic!("waits twice"),
    }
}

#[tokio::test]
async fn a_flood_of_guesses_from_elsewhere_locks_out_no_user() {
    // A cost that is high enough for all guesses to wait at the same time.
    let hash = bcrypt::hash("a", 6).unwrap();
    let mut file = File::new(&format!(r#"{{"users": {{"ann": "{hash}"}}}}"#));
    let step = step(&mut file, "{}");
    let guesses: Vec<String> = (0..120)
        .map(|n| format!("10.0.{}.{}", n / 18, n % 6))
        .collect();
    let flood = futures::future::join_all(
        guesses
            .iter()
            .map(|client| login(&*step, client, "ann:wrong")),
    );
    let right = async {
        tokio::task::yield_now().await;
        login(&*step, "192.0.2.1", "ann:a").await
    };
    let (flood, right) = tokio::join!(flood, right);
    assert_eq!(right, 200);
    assert!(flood.iter().all(|status| *status == 401), "{flood:?}");
}

#[tokio::test]
async fn a_flood_for_one_name_does_not_delay_the_users_of_others() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let hash = bcrypt::hash("a", 6).unwrap();
    let users = format!(r#"{{"users": {{"ann": "{hash}", "bob": "{hash}"}}}}"#);
    let mut file = File::new(&users);
    let step = step(&mut file, "{}");
    let done = AtomicUsize::new(0);
    // Each guess comes from an address of its own. Most of them come after the right password.
    let guess = async |n: usize| {
        let client = format!("10.{}.{}.1", n / 250, n % 250);
        assert_eq!(login(&*step, &client, "bob:wrong").await, 401);
        done.fetch_add(1, Ordering::SeqCst);
    };
    let early = futures::future::join_all((0..20).map(&guess));
    let late = async {
        tokio::task::yield_now().await;
        futures::future::join_all((20..400).map(&guess)).await
    };
    let right = async {
        assert_eq!(login(&*step, "192.0.2.1", "ann:a").await, 200);
        done.load(Ordering::SeqCst)
    };
    let (_, before, _) = tokio::join!(early, right, late);
    assert!(before < 100, "{before} guesses went first");
}

#[tokio::test]
async fn an_ipv6_client_guesses_for_its_whole_network() {
    let mut file = File::new(&format!(r#"{{"users": {{"ann": "{}"}}}}"#, hash("a")));
    let step = step(&mut file, "{}");
    let mut last = 0;
    for n in 0..60 {
        last = login(&*step, &format!("2001:db8:1:2::{n:x}"), "ann:wrong").await;
        if last == 429 {
            break;
        }
    }
    assert_eq!(last, 429);
    assert_eq!(login(&*step, "2001:db8:1:3::1", "ann:a").await, 200);
}

#[tokio::test]
async fn users_of_a_block_override_those_of_its_file_and_an_endpoint_overrides_the_service() {
    let passwords = tempfile::NamedTempFile::new().unwrap();
    let lines = format!("# users\n\nann:{}\nbob:{}\n", hash("file"), hash("bob"));
    std::fs::write(passwords.path(), lines).unwrap();
    let mut file = File::new(&format!(
        r#"{{"htpasswd_path": "{}", "users": {{"ann": "{}"}}}}"#,
        passwords.path().display(),
        hash("block")
    ));
    let shared = step(&mut file, "{}");
    assert_eq!(ask(&*shared, &[basic("ann:block")]).await.0, 200);
    assert_eq!(ask(&*shared, &[basic("ann:file")]).await.0, 401);
    assert_eq!(ask(&*shared, &[basic("bob:bob")]).await.0, 200);
    let own = step(
        &mut file,
        &format!(r#"{{"users": {{"eve": "{}"}}}}"#, hash("eve")),
    );
    assert_eq!(ask(&*own, &[basic("eve:eve")]).await.0, 200);
    assert_eq!(ask(&*own, &[basic("bob:bob")]).await.0, 401);
}

#[tokio::test]
async fn verified_passwords_survive_a_reload_unless_the_users_changed() {
    let (one, other) = (hash("a"), hash("a"));
    let text = |hash: &str| format!(r#"{{"users": {{"ann": "{hash}"}}}}"#);
    let mut file = File::new(&text(&one));
    let before = step(&mut file, "{}");
    assert_eq!(ask(&*before, &[basic("ann:a")]).await, (200, "", true));
    let mut file = File::after(&text(&one), file.finish());
    let same = step(&mut file, "{}");
    assert_eq!(ask(&*same, &[basic("ann:a")]).await, (200, "", false));
    let mut file = File::after(&text(&other), file.finish());
    let changed = step(&mut file, "{}");
    assert_eq!(ask(&*changed, &[basic("ann:a")]).await, (200, "", true));
}

#[test]
fn users_that_could_not_log_in_stop_the_start() {
    for bad in [
        "{}",
        r#"{"users": {"ann": "secret"}}"#,
        r#"{"users": {"ann": 5}}"#,
        r#"{"htpasswd_path": "/nowhere/at/all"}"#,
        r#"{"users": [], "htpasswd_path": ""}"#,
    ] {
        let mut file = File::new(bad);
        file.service(&SERVICE);
        assert!(file.config_errors() > 0, "{bad}");
    }
    let mut file = File::new("{}");
    file.endpoint_with(&ENDPOINT, "{}", "/e", Method::GET);
    assert_eq!(
        file.config_errors(),
        1,
        "an endpoint without users anywhere"
    );
}

proptest! {
    #[test]
    fn an_arbitrary_header_is_credentials_or_rejected(bytes: Vec<u8>, scheme: bool) {
        let value = if scheme {format!("Basic {}", STANDARD.encode(&bytes)).into_bytes()} else {bytes};
        if let Ok(value) = HeaderValue::from_bytes(&value)
            && let Some(name) = parse_anything(&value)
        {
            prop_assert!(!name.contains(':'));
        }
    }
}
