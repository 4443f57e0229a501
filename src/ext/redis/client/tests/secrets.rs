//! Servers that repeat the credentials that they got.

use super::super::server::Credentials;
use super::*;

const HIDDEN: &str = "its text is not shown, because it may contain a credential";

fn with_password(kind: ServerKind, password: &str) -> Client {
    let mut server = Server::new(kind);
    server.credentials = Credentials::new(String::new(), password.to_owned());
    server.database = Some(7);
    let client = Client::new(server, options());
    client.connect();
    client
}

/// The client of a server that prepares connections, and has this reply to all else.
async fn client(password: &str, reply: &'static str) -> Client {
    let port = fake(move |asked| said(asked, "SELECT", reply)).await;
    let kind = ServerKind::One(Address::new("127.0.0.1", port));
    let client = with_password(kind, password);
    client.tried().await;
    client
}

/// Accepts `AUTH` and this command, and has this reply to all else.
fn said(asked: &str, accepted: &str, reply: &str) -> Vec<u8> {
    let is_accepted = asked.contains("AUTH") || asked.contains(accepted);
    let reply = if is_accepted { "+OK\r\n" } else { reply };
    reply.as_bytes().to_vec()
}

#[tokio::test]
async fn a_password_that_a_server_repeats_is_not_shown() {
    for (error, shown) in [
        (
            "-ERR unknown command 'AUTH', with args beginning with: 'geheim-1'\r\n",
            HIDDEN,
        ),
        (
            "-WRONGPASS invalid password\r\n",
            "WRONGPASS invalid password",
        ),
    ] {
        let port = fake(move |_| error.as_bytes().to_vec()).await;
        let kind = ServerKind::One(Address::new("127.0.0.1", port));
        let client = with_password(kind, "geheim-1");
        client.tried().await;
        let why = client.last_error().unwrap_or_default();
        assert!(why.contains(shown) && !why.contains("geheim"), "{why}");
    }
}

#[tokio::test]
async fn a_password_in_the_error_of_a_command_is_not_shown() {
    let reply = "-WRONGPASS user sekretpw123 invalid\r\n";
    let client = client("sekretpw123", reply).await;
    let error = get(&client, "k").await.unwrap_err();
    assert!(error.to_string().contains(HIDDEN), "{error}");
    assert!(!format!("{error:?}").contains("sekretpw123"), "{error:?}");
    let CallError::Server(why) = error else {
        panic!("{error}");
    };
    assert_eq!(why.raw(), "WRONGPASS user sekretpw123 invalid");
}

#[tokio::test]
async fn the_values_of_a_command_are_not_shown() {
    let reply = "-ERR unknown command 'EVAL', with args beginning with: 'return 1' '1' 'k' '0123456789abcdef\r\n";
    let client = client("sekretpw123", reply).await;
    let sent = Command::script("EVAL", "return 1", &["k"], &["0123456789abcdef"]);
    assert!(sent.values().eq([&b"1"[..], b"k", b"0123456789abcdef"]));
    let error = client.call("k", sent).await.unwrap_err();
    assert!(error.to_string().contains(HIDDEN), "{error}");
    // The server says the same about a command with other values.
    let error = get(&client, "k").await.unwrap_err();
    assert!(error.to_string().contains("unknown command"), "{error}");
}

#[tokio::test]
async fn a_password_in_the_error_of_a_preparation_is_not_shown() {
    let sentinel = |port, own: &str| {
        let url = format!("redis-sentinel://127.0.0.1:{port}?sentinelServiceName=main");
        let mut kind = Server::from_url(&url).unwrap().kind;
        if let ServerKind::Sentinel(sentinels) = &mut kind {
            sentinels.credentials = Credentials::new(String::new(), own.to_owned());
        }
        kind
    };
    let secret = "sekretpw123";
    for (case, accepted, password) in [
        ("one", "AUTH", secret),
        ("cluster", "SELECT", secret),
        ("sentinel", "AUTH", secret),
        ("sentinel with its own password", "AUTH", "another"),
    ] {
        let reply = "-ERR sekretpw123 is not welcome\r\n";
        let port = fake(move |asked| said(asked, accepted, reply)).await;
        let address = Address::new("127.0.0.1", port);
        let kind = match case {
            "one" => ServerKind::One(address),
            "cluster" => ServerKind::Cluster(vec![address]),
            "sentinel" => sentinel(port, ""),
            _ => sentinel(port, secret),
        };
        let client = with_password(kind, password);
        client.tried().await;
        let why = client.last_error().unwrap_or_default();
        let is_hidden = why.contains(HIDDEN) && !why.contains("sekret");
        assert!(is_hidden, "{case}: {why}");
    }
}

#[tokio::test]
async fn errors_are_recognised_whatever_the_password_is() {
    for password in ["a", "R", "O", "READONLY", "NOSCRIPT"] {
        let unknown = client(password, "-NOSCRIPT no such script of an ORB\r\n").await;
        let error = get(&unknown, "k").await.unwrap_err();
        assert!(matches!(error, CallError::Server(why) if why.raw().starts_with("NOSCRIPT")));
        let replica = client(password, "-READONLY a replica\r\n").await;
        let error = get(&replica, "k").await.unwrap_err();
        assert!(matches!(error, CallError::Server(_)), "{error}");
        let why = replica.last_error().unwrap();
        assert!(why.contains("has become a replica"), "{why}");
    }
}

#[tokio::test]
async fn redirects_are_followed_whatever_the_password_is() {
    let second = fake(|asked| said(asked, "SELECT", "+there\r\n")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = listener.local_addr().unwrap().port();
    let reply = Arc::new(move |asked: &str| {
        let reply = if asked.contains("SLOTS") {
            format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$-1\r\n:{first}\r\n")
        } else {
            format!("-MOVED 1 127.0.0.1:{second}\r\n")
        };
        said(asked, "SELECT", &reply)
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&reply)));
        }
    });
    let members = vec![Address::new("127.0.0.1", first)];
    for password in ["M", "1", "MOVED"] {
        let client = with_password(ServerKind::Cluster(members.clone()), password);
        assert_eq!(got(&client, "k").await, text("there"));
    }
}
