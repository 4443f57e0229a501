use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::BACKEND;
use crate::ext::extension::BackendPart;
use crate::ext::testing::File;
use crate::runtime::step::Credentials;

fn config_errors(block: &str) -> usize {
    let mut file = File::new(block);
    file.backend(&BACKEND, "{}");
    file.config_errors()
}

fn credentials(file: &mut File) -> Arc<dyn Credentials> {
    match file.backend(&BACKEND, "{}") {
        BackendPart::Credentials(credentials) => credentials,
        other => panic!("{other:?}"),
    }
}

/// A token server that responds to every request with `body`, and counts the requests.
async fn token_server(status: &'static str, body: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            // The form is sent last, and it ends with the scope.
            while !request.windows(6).any(|window| window == b"scope=") {
                if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            count.fetch_add(1, Ordering::Relaxed);
            let response = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = socket.write_all(response.as_bytes()).await;
        }
    });
    (url, asked)
}

#[test]
fn invalid_settings_are_rejected_at_start() {
    let good =
        r#"{"client_id": "i", "client_secret": "s", "token_url": "http://h/t", "scopes": "a,b"}"#;
    assert_eq!(config_errors(good), 0);
    for bad in [
        r#"{"client_id": "i"}"#,
        r#"{"token_url": ""}"#,
        r#"{"token_url": "/token"}"#,
        r#"{"token_url": "http://h/t", "scopes": ["a", "b"]}"#,
        r#"{"token_url": "http://h/t", "client_secret": true}"#,
        r#"{"token_url": "http://h/t", "endpoint_params": {"a": {}}}"#,
        r#"{"token_url": "http://h/t", "endpoint_params": {"a": [{}]}}"#,
        r#"{"token_url": "http://h/t", "endpoint_params": {"scope": ["a"]}}"#,
        r#"{"token_url": "http://h/t", "endpoint_params": []}"#,
    ] {
        assert_eq!(config_errors(bad), 1, "{bad}");
    }
}

#[test]
fn parameters_that_a_server_may_reject_are_warnings() {
    for (params, warnings) in [
        (r#"{"audience": ["a", "b"], "resource": ["urn:a"]}"#, 0),
        (r#"{"custom": ["a", "b"]}"#, 1),
        (r#"{"grant_type": ["a", "b"]}"#, 1),
        (r#"{"resource": ["/rel#f"]}"#, 1),
        (r#"{"actor_token": ["t"]}"#, 1),
    ] {
        let mut file = File::new(&format!(
            r#"{{"token_url": "http://h/t", "endpoint_params": {params}}}"#
        ));
        file.backend(&BACKEND, "{}");
        assert_eq!(file.config_errors(), 0, "{params}");
        let findings = file.findings();
        let count = findings.matches("severity: Warning").count();
        assert_eq!(count, warnings, "{findings}");
    }
}

#[test]
fn a_disabled_block_is_a_plain_call() {
    let mut file = File::new(r#"{"is_disabled": true}"#);
    assert!(matches!(file.backend(&BACKEND, "{}"), BackendPart::Nothing));
    assert_eq!(file.config_errors(), 0);
}

#[tokio::test]
async fn backends_with_equal_definitions_share_one_token() {
    let (url, asked) = token_server("200 OK", r#"{"access_token":"t1","expires_in":60}"#).await;
    let mut file = File::new(&format!(r#"{{"client_id": "i", "token_url": "{url}"}}"#));
    let (one, other) = (credentials(&mut file), credentials(&mut file));
    for task in file.into_tasks() {
        tokio::spawn(task.run);
    }
    assert_eq!(one.ready(None), None);
    assert_eq!(
        one.fetch(None, Duration::from_secs(20)).await.unwrap(),
        "Bearer t1"
    );
    assert_eq!(other.ready(None).unwrap(), "Bearer t1");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_rejection_has_the_words_of_krakend() {
    let body = r#"{"error":"invalid_client","error_description":"Bad client credentials"}"#;
    let (url, _) = token_server("401 Unauthorized", body).await;
    let mut file = File::new(&format!(r#"{{"client_id": "i", "token_url": "{url}"}}"#));
    let credentials = credentials(&mut file);
    for task in file.into_tasks() {
        tokio::spawn(task.run);
    }
    let failure = credentials
        .fetch(None, Duration::from_secs(20))
        .await
        .unwrap_err();
    assert_eq!(
        failure.to_string(),
        r#"Get "/e": oauth2: "invalid_client" "Bad client credentials""#
    );
    assert_eq!(failure.status, 500);
}

#[tokio::test]
async fn what_a_token_server_repeats_of_the_secret_is_not_in_the_failure() {
    let json = "application/json";
    for (body, text) in [
        (
            "<p>geh\u{fffd}im-12345</p>",
            format!("its body of 21 bytes, {json}, is not shown"),
        ),
        (
            r#"{"error":"invalid_client","error_description":"got eheim-12345"}"#,
            "error_description: not shown, because it may contain a credential".to_owned(),
        ),
    ] {
        let (url, _) = token_server("401 Unauthorized", body).await;
        let mut file = File::new(&format!(
            r#"{{"client_id": "i", "client_secret": "geheim-12345", "token_url": "{url}"}}"#
        ));
        let credentials = credentials(&mut file);
        for task in file.into_tasks() {
            tokio::spawn(task.run);
        }
        let failure = credentials.fetch(None, Duration::from_secs(20)).await;
        let told = failure.unwrap_err().to_string();
        assert!(told.contains(&text) && !told.contains("12345"), "{told}");
    }
}

#[tokio::test]
async fn the_task_ends_with_its_last_reference() {
    let mut file = File::new(r#"{"client_id": "i", "token_url": "http://127.0.0.1:1/t"}"#);
    let held = credentials(&mut file);
    // The carried state is dropped with it.
    let tasks: Vec<_> = file
        .into_tasks()
        .into_iter()
        .map(|task| tokio::spawn(task.run))
        .collect();
    drop(held);
    for task in tasks {
        task.await.unwrap();
    }
}
