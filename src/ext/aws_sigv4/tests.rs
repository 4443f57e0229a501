use super::credential_chain::Chain;
use super::credential_source::Origin;
use super::signature::Keys;
use crate::config::Environment;
use crate::upstream::{OUR_USER_AGENT, SideClient, SideTls};

fn found(variables: &[(&str, &str)]) -> String {
    let environment = variables
        .iter()
        .fold(Environment::default(), |all, (name, value)| {
            all.with(name, value)
        });
    match Origin::find(&environment, "eu-west-1", "portcullis") {
        Ok(origin) => format!("{origin:?}"),
        Err(why) => why,
    }
}

#[test]
fn the_sources_are_tried_in_their_order() {
    let keys = [
        ("AWS_ACCESS_KEY_ID", "A"),
        ("AWS_SECRET_ACCESS_KEY", "geheim"),
    ];
    let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")];
    let container = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")];
    let file = [("AWS_SHARED_CREDENTIALS_FILE", "/c"), ("AWS_PROFILE", "ci")];
    let all = [&keys[..], &web, &container, &file].concat();
    for (skipped, word) in [
        (0, "Fixed"),
        (2, "WebIdentity"),
        (4, "Container { url: \"http://169.254.170.2/v2/x\""),
        (5, "File { path: \"/c\", profile: \"ci\" }"),
        (7, "Metadata { base: \"http://169.254.169.254\" }"),
    ] {
        let shown = found(&all[skipped..]);
        assert!(shown.starts_with(word), "{shown}");
        assert!(!shown.contains("geheim"));
    }
    assert_eq!(found(&[("AWS_EC2_METADATA_DISABLED", "true")]), "Nowhere");
    // Half of a key pair is not a source.
    assert!(found(&keys[..1]).starts_with("Metadata"));
}

#[test]
fn keys_over_http_come_only_from_near_by() {
    let full = |url: &str| found(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]);
    for url in [
        "https://keys.example/x",
        "http://localhost:1/x",
        "http://127.0.0.1/x",
        "http://[::1]:2/x",
        "http://169.254.170.23/v1/credentials",
    ] {
        assert!(full(url).starts_with("Container"), "{url}");
    }
    for url in [
        "http://keys.example/x",
        "http://10.0.0.1/x",
        "ftp://localhost/x",
        "x",
    ] {
        assert!(full(url).contains("only from this machine"), "{url}");
    }
}

#[tokio::test]
async fn keys_of_the_environment_are_there_at_once() {
    let keys = Keys {
        id: "A".to_owned(),
        secret: "B".to_owned(),
        session_token: None,
    };
    crate::jose::install_crypto();
    let client = SideClient::direct(&SideTls::default(), &OUR_USER_AGENT).unwrap();
    let chain = std::sync::Arc::new(Chain::new(
        Origin::Fixed(keys.clone()),
        None,
        client.clone(),
        client,
    ));
    let tended = std::sync::Arc::downgrade(&chain);
    tokio::spawn(Chain::tend(tended));
    let got = chain
        .keys(std::time::Duration::from_secs(20))
        .await
        .unwrap();
    assert_eq!(*got, keys);
}
