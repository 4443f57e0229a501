//! `healthcheck`, of gateways with listeners of all kinds.

use std::process::Output;
use std::time::Duration;

use super::{GOOD, run};
use crate::support::gateway::command;
use crate::support::tls::Authority;
use crate::support::{Gateway, eventually, ports};

#[test]
fn healthcheck_says_whether_a_gateway_is_well() {
    let gateway = Gateway::start(GOOD);
    let health = |port: u16, path: &str| {
        let url = format!("http://127.0.0.1:{port}{path}");
        run(&["healthcheck", &url])
    };
    assert_eq!(health(gateway.port(), "/__health").0, 0);
    let (code, _, err) = health(gateway.port(), "/nowhere");
    assert_eq!(code, 1);
    assert!(err.contains("404"), "{err}");
    let (code, out, err) = health(ports::free(), "/__health?api_key=geheim");
    assert_eq!(code, 1);
    assert!(err.contains("api_key=***"), "{err}");
    assert!(!format!("{out}{err}").contains("geheim"));
}

/// The healthcheck of the file of a gateway, which tests start on another port.
fn checked(gateway: &Gateway) -> Output {
    told(gateway, "healthcheck")
}

/// Runs a command about the file of a gateway.
fn told(gateway: &Gateway, name: &str) -> Output {
    let mut command = command();
    command
        .env("PORTCULLIS_PORT", gateway.port().to_string())
        .env("RUNTIME_DIRECTORY", gateway.dir())
        .args([name, "-c"])
        .arg(gateway.config_path());
    command.current_dir(gateway.dir()).output().unwrap()
}

#[test]
fn reload_of_a_shell_without_the_variables_of_the_service_finds_its_folder() {
    let gateway = Gateway::start(r#"{"version": 3, "listen_ip": "127.0.0.1", "endpoints": []}"#);
    let reload = || {
        let mut command = command();
        command
            .env("PORTCULLIS_PORT", gateway.port().to_string())
            .env_remove("RUNTIME_DIRECTORY")
            .env_remove("XDG_RUNTIME_DIR")
            .args(["reload", "-c"])
            .arg(gateway.config_path());
        command.current_dir(gateway.dir()).output().unwrap()
    };
    let output = reload();
    assert!(output.status.success(), "{output:?}");
    gateway.stop(Duration::from_secs(30));
    let output = reload();
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn healthcheck_of_a_file_sends_the_proxy_protocol_if_required() {
    for peers in ["127.0.0.1", "127.0.0.0/8", "10.0.0.1"] {
        let gateway = Gateway::start(&format!(
            r#"{{"version": 3, "listen_ip": "127.0.0.1", "endpoints": [],
                "extra_config": {{"portcullis/server": {{"proxy_protocol": ["{peers}"]}}}}}}"#
        ));
        let output = checked(&gateway);
        assert!(output.status.success(), "{peers}: {output:?}");
        gateway.stop(Duration::from_secs(30));
        assert!(!checked(&gateway).status.success(), "{peers}");
    }
}

#[test]
fn healthcheck_of_a_gateway_that_rejects_this_machine_asks_the_control_socket() {
    let gateway = Gateway::start(
        r#"{"version": 3, "listen_ip": "127.0.0.1", "endpoints": [],
            "extra_config": {"security/ip-filter": {"allow": true, "CIDR": ["10.0.0.0/8"]}}}"#,
    );
    assert_eq!(gateway.get("/__health").status, 403);
    eventually("it is well", Duration::from_secs(30), || {
        checked(&gateway).status.success()
    });
    // Without the socket the response counts.
    let socket = format!("portcullis-{}.sock", gateway.port());
    std::fs::remove_file(gateway.dir().join(socket)).unwrap();
    let output = checked(&gateway);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(text.contains("answered 403"), "{text}");
}

#[test]
fn healthcheck_of_a_file_that_has_changed_finds_the_gateway_that_runs_it() {
    let gateway = Gateway::start(r#"{"version": 3, "listen_ip": "127.0.0.1", "endpoints": []}"#);
    eventually("it is well", Duration::from_secs(30), || {
        checked(&gateway).status.success()
    });
    for text in ["{", r#"{"version": 3, "port": 1, "endpoints": []}"#] {
        std::fs::write(gateway.config_path(), text).unwrap();
        let output = checked(&gateway);
        assert!(output.status.success(), "{text}: {output:?}");
    }
    std::fs::write(gateway.config_path(), "{").unwrap();
    gateway.signal("TERM");
    assert!(gateway.wait(Duration::from_secs(30)).is_some());
    assert!(!checked(&gateway).status.success());
}

#[test]
fn healthcheck_of_a_file_that_requires_client_certificates_asks_the_control_socket() {
    let (cert, key) = Authority::new().pair("localhost");
    let config = r#"{"version": 3, "listen_ip": "127.0.0.1", "endpoints": [],
        "extra_config": {"portcullis/server": {"shutdown_delay": "60s"}}, "tls": {
        "keys": [{"public_key": "cert.pem", "private_key": "key.pem"}],
        "enable_mtls": true, "ca_certs": ["cert.pem"], "disable_system_ca_pool": true}}"#;
    let files = [("cert.pem", cert.as_str()), ("key.pem", key.as_str())];
    let gateway = Gateway::start_with(config, &files);
    eventually("it is well", Duration::from_secs(30), || {
        checked(&gateway).status.success()
    });
    gateway.signal("STOP");
    let output = checked(&gateway);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(text.contains("did not respond within"), "{text}");
    gateway.signal("CONT");
    // During `shutdown_delay` it still serves.
    gateway.signal("TERM");
    eventually("it is stopping", Duration::from_secs(30), || {
        gateway.output().contains("No longer ready")
    });
    let output = checked(&gateway);
    assert!(output.status.success(), "{output:?}");
    let output = told(&gateway, "reload");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert_eq!(text.trim(), "the gateway is stopping");
    gateway.signal("TERM");
    assert!(gateway.wait(Duration::from_secs(30)).is_some());
    let output = checked(&gateway);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("requires a client certificate"), "{text}");
}
