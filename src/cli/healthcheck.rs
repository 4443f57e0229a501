//! `healthcheck`: for containers and probes without an HTTP client.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::cli::{self, HealthcheckArgs, check, findings};
use crate::config::Environment;
use crate::server::control_client;
use crate::server::reach::{self, Reach};
use crate::telemetry::sanitize::masked_text;

/// The request to send.
#[derive(Debug, PartialEq, Eq)]
struct Probe {
    url: String,
    /// Whether any certificate is accepted.
    insecure: bool,
    way: Way,
    /// The port of a gateway on this machine. `None` for the URL of any server.
    port: Option<u16>,
}

/// How the gateway is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    /// This listener requires the PROXY protocol.
    Proxied(SocketAddr),
    /// This port requires a client certificate, so the control socket is used.
    Control(u16),
}

/// A PROXY protocol header of version 2 with the command LOCAL: a health check of the proxy itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Sends one request. The exit code is 0 if the response is a 2xx.
pub(super) fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    let probe = match (&args.target, &args.config) {
        (Some(url), _) if url.contains("://") => Ok(Probe {
            url: url.clone(),
            insecure: false,
            way: Way::Direct,
            port: None,
        }),
        (Some(file), _) if !Path::new(file).exists() => Err(format!(
            "{file} is not a file; a URL begins with http:// or https://"
        )),
        (Some(file), _) => of_running(Path::new(file), None),
        (None, Some(file)) => of_running(file, None),
        (None, None) if args.container => of_container(),
        (None, None) => of_environment(&Environment::process()),
    };
    let mut probe = match probe {
        Ok(probe) => probe,
        Err(reason) => return fail(&reason),
    };
    probe.insecure |= args.insecure;
    let limit = Duration::from_secs(args.timeout.max(1));
    if let Way::Control(port) = probe.way {
        return match control_client::responds(port, limit) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(&format!(
                "the listener requires a client certificate, so the control socket was used: {reason}"
            )),
        };
    }
    match (runtime.block_on(ask(&probe, limit)), probe.port) {
        (Ok(status), _) if (200..300).contains(&status) => ExitCode::SUCCESS,
        // `security/ip-filter` may not allow this machine. The gateway has responded, and says at its control socket
        // that it is this gateway.
        (Ok(403), Some(port)) => match control_client::responds(port, limit) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(&format!(
                "{} answered 403 (does security/ip-filter allow this machine?), so the control socket was used: {reason}",
                probe.url
            )),
        },
        (Ok(status), _) => fail(&format!("{} answered {status}", probe.url)),
        (Err(error), _) => fail(&error),
    }
}

/// The gateway that the first process of this container runs. Its file may have become unreadable since it started; then
/// the environment is the best guess.
fn of_container() -> Result<Probe, String> {
    let line = std::fs::read("/proc/1/cmdline").unwrap_or_default();
    match cli::run_arguments(&line) {
        Some((file, port)) => of_running(&file, port).or_else(|_| with_port(port)),
        None => with_port(None),
    }
}

/// The gateway that runs this configuration. It says itself how it is reached, so a file that has changed since then does no
/// harm, and a large one is not read.
fn of_running(file: &Path, port: Option<u16>) -> Result<Probe, String> {
    let reach = control_client::reach_of(file).filter(|reach| {
        // Another gateway may run the same file.
        port.is_none_or(|port| port == reach.address.port())
    });
    match reach {
        Some(reach) => Ok(Probe::of(&reach)),
        None => of_file(file, port),
    }
}

fn with_port(port: Option<u16>) -> Result<Probe, String> {
    match port {
        Some(port) => Ok(plain(port)),
        None => of_environment(&Environment::process()),
    }
}

/// The gateway that would run this configuration on this machine, on this port or the file's.
fn of_file(file: &Path, port: Option<u16>) -> Result<Probe, String> {
    let outcome = check::outcome(file);
    let Some(compiled) = outcome.compiled else {
        let name = file.display().to_string();
        return Err(findings::rejection(&name, &outcome.findings));
    };
    let path = compiled.service.options.health_path.as_deref();
    let mut reach = Reach::new(&compiled.listen, path);
    if let Some(port) = port {
        reach.address.set_port(port);
    }
    Ok(Probe::of(&reach))
}

impl Probe {
    /// The certificate of the gateway is for the name that clients use, not for this address.
    fn of(reach: &Reach) -> Probe {
        let port = reach.address.port();
        Probe {
            url: reach.url(),
            insecure: reach.secure,
            way: match reach.way {
                reach::Way::Direct => Way::Direct,
                reach::Way::Proxied => Way::Proxied(reach.address),
                reach::Way::Control => Way::Control(port),
            },
            port: Some(port),
        }
    }
}

/// The gateway whose port is set in the environment, as for `run`.
fn of_environment(environment: &Environment) -> Result<Probe, String> {
    let named = ["PORTCULLIS_PORT", "KRAKEND_PORT"]
        .into_iter()
        .filter_map(|name| Some((name, environment.get(name)?)))
        // Kubernetes sets such a value for a service with that name, and `run` ignores it.
        .find(|(_, text)| !text.starts_with("tcp://"));
    let port = match named {
        Some((name, text)) => text
            .parse()
            .map_err(|_| format!("{name}={text} is not a port"))?,
        None => 8080,
    };
    Ok(plain(port))
}

/// The health endpoint at this port, as it is unless the file says otherwise.
fn plain(port: u16) -> Probe {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Probe {
        url: format!("http://{address}/__health"),
        insecure: false,
        way: Way::Direct,
        port: Some(port),
    }
}

fn fail(reason: &str) -> ExitCode {
    // Docker keeps this text. The URL may have credentials.
    eprintln!("{}", masked_text(reason.trim_end()));
    ExitCode::FAILURE
}

async fn ask(probe: &Probe, limit: Duration) -> Result<u16, String> {
    let mut client = reqwest::Client::builder()
        .timeout(limit)
        .danger_accept_invalid_certs(probe.insecure)
        .no_proxy();
    let mut url = reqwest::Url::parse(&probe.url).map_err(|error| error.to_string())?;
    if let Way::Proxied(listener) = probe.way {
        let here = forwarder(listener)
            .await
            .map_err(|error| error.to_string())?;
        // The name keeps the `Host` header, and it is not resolved.
        let host = "localhost";
        client = client.resolve(host, here);
        let changed = url.set_host(Some(host)).is_ok() && url.set_port(Some(here.port())).is_ok();
        debug_assert!(changed, "an HTTP URL has a host and a port");
    }
    let sent = async { client.build()?.get(url).send().await };
    let response = sent.await.map_err(|error| with_cause(&error))?;
    Ok(response.status().as_u16())
}

/// The error and its deepest cause, which is the one of the operating system.
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let (error, cause) = (error.to_string(), cause.to_string());
    if error == cause {
        error
    } else {
        format!("{error}: {cause}")
    }
}

/// Listens on this machine for one connection, and passes it on to `listener` behind a PROXY protocol header.
async fn forwarder(listener: SocketAddr) -> std::io::Result<SocketAddr> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let here = socket.local_addr()?;
    tokio::spawn(async move {
        let (mut client, _) = socket.accept().await?;
        let mut gateway = TcpStream::connect(listener).await?;
        gateway.write_all(LOCAL).await?;
        tokio::io::copy_bidirectional(&mut client, &mut gateway).await
    });
    Ok(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_sets_the_port_and_our_variable_takes_precedence() {
        let of = |variables: &[(&str, &str)]| {
            let environment = match *variables {
                [] => Environment::of([]),
                [one] => Environment::of([one]),
                [one, two] => Environment::of([one, two]),
                _ => panic!("three"),
            };
            of_environment(&environment).map(|probe| probe.url)
        };
        let at = |port: u16| Ok(format!("http://127.0.0.1:{port}/__health"));
        assert_eq!(of(&[]), at(8080));
        assert_eq!(of(&[("KRAKEND_PORT", "9000")]), at(9000));
        let both = [("KRAKEND_PORT", "9000"), ("PORTCULLIS_PORT", "9001")];
        assert_eq!(of(&both), at(9001));
        assert_eq!(of(&[("KRAKEND_PORT", "tcp://10.0.0.1:80")]), at(8080));
        let link = ("PORTCULLIS_PORT", "tcp://10.0.0.1:80");
        assert_eq!(of(&[link]), at(8080));
        assert_eq!(of(&[link, ("KRAKEND_PORT", "9000")]), at(9000));
        assert!(of(&[("KRAKEND_PORT", "http")]).is_err());
    }

    #[test]
    fn a_configuration_sets_address_path_and_tls() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("krakend.json");
        let text = r#"{"version": 3, "port": 9002, "listen_ip": "::1", "endpoints": [],
            "extra_config": {"router": {"health_path": "/up"}}}"#;
        std::fs::write(&file, text).unwrap();
        let probe = of_file(&file, None).unwrap();
        assert_eq!(probe.url, "http://[::1]:9002/up");
        assert!(!probe.insecure);
        assert_eq!(of_file(&file, Some(80)).unwrap().url, "http://[::1]:80/up");
        let any = text.replace("::1", "::");
        std::fs::write(&file, any).unwrap();
        let probe = of_file(&file, None).unwrap();
        assert_eq!(probe.url, "http://127.0.0.1:9002/up");
        std::fs::write(&file, "{").unwrap();
        assert!(of_file(&file, None).is_err());
    }

    #[test]
    fn a_configuration_says_whether_this_machine_must_speak_the_proxy_protocol() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("krakend.json");
        for (peers, way) in [
            ("127.0.0.0/8", Way::Proxied(([127, 0, 0, 1], 9002).into())),
            ("10.0.0.0/8", Way::Direct),
        ] {
            let text = format!(
                r#"{{"version": 3, "port": 9002, "endpoints": [],
                    "extra_config": {{"portcullis/server": {{"proxy_protocol": ["{peers}"]}}}}}}"#
            );
            std::fs::write(&file, text).unwrap();
            assert_eq!(of_file(&file, None).unwrap().way, way, "{peers}");
        }
    }

    #[test]
    fn the_first_process_has_file_and_port_also_with_an_init_program() {
        let of = |line: &[&str]| cli::run_arguments(line.join("\0").as_bytes());
        let file = |name: &str, port| Some((std::path::PathBuf::from(name), port));
        assert_eq!(
            of(&["/usr/bin/portcullis", "run", "-c", "/a.json", ""]),
            file("/a.json", None)
        );
        let behind = [
            "/sbin/docker-init",
            "--",
            "/usr/bin/krakend",
            "run",
            "-dc",
            "/a.json",
            "--port=90",
            "",
        ];
        assert_eq!(of(&behind), file("/a.json", Some(90)));
        let again = [
            "/usr/bin/portcullis",
            "krakend",
            "run",
            "--config",
            "/a.json",
            "-p",
            "81",
            "",
        ];
        assert_eq!(of(&again), file("/a.json", Some(81)));
        assert_eq!(of(&["/bin/sh", ""]), None);
        assert_eq!(of(&["/usr/bin/portcullis", "run", ""]), None);
    }
}
