//! Which clients may resume which sessions.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Connects to the gateway at `port` with the server name `a.test`.
pub(super) fn connect(config: &Arc<ClientConfig>, port: u16) -> std::io::Result<TlsClient> {
    let name = ServerName::try_from("a.test").unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(15)))?;
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(TlsClient(stream))
}

/// A client that keeps what it needs for resumption; it presents `identity`, if there is one.
pub(super) fn returning(identity: Option<(&str, &str)>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Credulous::new());
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => builder.with_client_cert_resolver(as_it_is(pair)),
    })
}

/// Whether a session is resumed with the gateway at `port`, once it responds.
pub(super) fn resumes(client: &Arc<ClientConfig>, port: u16) -> std::io::Result<bool> {
    let mut connection = connect(client, port)?;
    // Tickets arrive after the handshake.
    connection.get("/__health")?;
    Ok(connection.0.conn.handshake_kind() == Some(HandshakeKind::Resumed))
}

pub(super) fn reload(gateway: &Gateway) {
    let before = gateway.output().matches("Configuration reloaded").count();
    gateway.signal("HUP");
    eventually("it is reloaded", Duration::from_secs(30), || {
        gateway.output().matches("Configuration reloaded").count() > before
    });
}

#[test]
fn sessions_are_resumed_after_a_reload_and_after_an_upgrade() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (port, client) = (crate::support::ports::free(), returning(None));
    let pair = authority.pair("a.test");
    let file = config(json!({ "keys": [{ "public_key": "c", "private_key": "k" }] }));
    fs::write(folder.path().join("gateway.json"), file.to_string()).unwrap();
    fs::write(folder.path().join("c"), &pair.0).unwrap();
    fs::write(folder.path().join("k"), &pair.1).unwrap();
    let log = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let run = |name: &str, more: &[&str]| {
        let log = fs::File::create(folder.path().join(name)).unwrap();
        let mut run = crate::support::gateway::command();
        run.args(["run", "-c"])
            .arg(folder.path().join("gateway.json"))
            .args(["-p", &port.to_string()])
            .args(more)
            .env("RUNTIME_DIRECTORY", folder.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Running(run.spawn().unwrap())
    };
    let old = run("old.log", &[]);
    eventually("it listens", Duration::from_secs(30), || {
        resumes(&client, port).is_ok()
    });
    assert!(resumes(&client, port).unwrap(), "{}", log("old.log"));
    old.signal("HUP");
    eventually("it is reloaded", Duration::from_secs(30), || {
        log("old.log").contains("Configuration reloaded")
    });
    assert!(resumes(&client, port).unwrap(), "after a reload");
    let new = run("new.log", &["--upgrade"]);
    let socket = folder
        .path()
        .join(format!("portcullis-{port}-upgrade.sock"));
    eventually("the new process waits", Duration::from_secs(30), || {
        socket.exists()
    });
    old.signal("QUIT");
    eventually("the new process listens", Duration::from_secs(40), || {
        log("new.log").contains("Listening on port")
    });
    let mut old = old;
    eventually("the old process ends", Duration::from_secs(40), || {
        old.0.try_wait().unwrap().is_some()
    });
    assert!(resumes(&client, port).unwrap(), "{}", log("new.log"));
    drop(new);
}

/// A gateway that ends with the test.
pub(super) struct Running(std::process::Child);

impl Running {
    fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill")
            .args([&format!("-{name}"), &self.0.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn gateways_with_one_file_of_ticket_keys_resume_each_others_sessions() {
    let authority = Authority::new();
    let (one, two) = ("11".repeat(32), "22".repeat(32));
    let start = |keys: &str| {
        let pair = authority.pair("a.test");
        let mut file = config(json!({ "keys": [{ "public_key": "c", "private_key": "k" }] }));
        file["extra_config"] = json!({ "portcullis/server": { "session_ticket_keys": "t" } });
        let files = [("c", &*pair.0), ("k", &*pair.1), ("t", keys)];
        let port = crate::support::ports::free();
        let number = port.to_string();
        let gateway = Gateway::spawn(port, &file.to_string(), &files, &["-p", &number]);
        assert!(
            gateway.listens(Duration::from_secs(30)),
            "{}",
            gateway.output()
        );
        gateway
    };
    let (here, there, stranger) = (start(&one), start(&format!("{one}\n{two}")), start(&two));
    let client = returning(None);
    let resumed = |gateway: &Gateway| resumes(&client, gateway.port()).unwrap();
    assert!(!resumed(&here));
    assert!(resumed(&there) && resumed(&here));
    assert!(!resumed(&stranger), "it does not know the key");
    // The gateway that got its key accepts its tickets.
    assert!(resumed(&there));
    fs::write(here.dir().join("t"), format!("{two}\n{one}\n")).unwrap();
    reload(&here);
    assert!(
        resumed(&here) && resumed(&stranger),
        "the new key encrypts now"
    );
    for file in ["k", "t"] {
        let open = fs::Permissions::from_mode(0o666);
        fs::set_permissions(here.dir().join(file), open).unwrap();
    }
    reload(&here);
    let warnings = here.output();
    let warnings = warnings.matches("can change this file with keys (mode 0666)");
    assert_eq!(warnings.count(), 2, "the private key and the ticket keys");
    fs::write(here.dir().join("t"), "no key").unwrap();
    here.signal("HUP");
    eventually("the reload is refused", Duration::from_secs(30), || {
        here.output()
            .contains("t: line 1: is neither hexadecimal nor base64")
    });
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn gateways_with_one_redis_agree_on_ticket_keys() {
    let Some(redis) = crate::support::redis::Redis::start() else {
        return;
    };
    let authority = Authority::new();
    let server = json!({ "portcullis/server": { "session_tickets_in_redis": true } });
    let mut file = config(json!({ "keys": [{ "public_key": "c", "private_key": "k" }] }));
    file["extra_config"] = server;
    let pair = authority.pair("a.test");
    let files = [("c", &*pair.0), ("k", &*pair.1)];
    let (code, said) = checked(&file, &files);
    assert!(
        code == Some(1) && said.contains("there is no Redis in this file"),
        "{said}"
    );
    file["extra_config"]["portcullis/redis"] = json!({ "url": redis.url() });
    let start = || {
        let port = crate::support::ports::free();
        let number = port.to_string();
        let gateway = Gateway::spawn(port, &file.to_string(), &files, &["-p", &number]);
        assert!(
            gateway.listens(Duration::from_secs(30)),
            "{}",
            gateway.output()
        );
        gateway
    };
    let (here, there) = (start(), start());
    eventually("they agree", Duration::from_secs(30), || {
        let client = returning(None);
        resumes(&client, here.port()).unwrap();
        resumes(&client, there.port()).unwrap()
    });
    reload(&here);
    let client = returning(None);
    resumes(&client, here.port()).unwrap();
    assert!(resumes(&client, there.port()).unwrap(), "after a reload");
}

#[test]
fn sessions_of_other_authorities_cannot_be_resumed() {
    let authority = Authority::new();
    let rules = json!({
        "enable_mtls": true, "ca_certs": ["ca.crt"], "disable_system_ca_pool": true
    });
    let gateway = start(&authority, &rules, &[]);
    let me = authority.pair("me");
    let client = returning(Some((&me.0, &me.1)));
    assert!(!resumes(&client, gateway.port()).unwrap());
    assert!(resumes(&client, gateway.port()).unwrap());
    fs::write(gateway.dir().join("ca.crt"), Authority::new().pem()).unwrap();
    reload(&gateway);
    resumes(&client, gateway.port()).expect_err("its authority is gone");
}
