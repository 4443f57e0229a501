//! `healthcheck`: for containers and probes without an HTTP client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::{self, HealthcheckArgs, check, findings};
use crate::config::Environment;

/// The path if the health endpoint is disabled.
const READY: &str = "/__ready";

/// The URL to call, and whether the certificate is verified.
#[derive(Debug, PartialEq, Eq)]
struct Probe {
    url: String,
    insecure: bool,
}

/// Sends one request. The exit code is 0 if the response is a 2xx.
pub(super) fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    let probe = match (&args.url, &args.config) {
        (Some(url), _) => Ok(Probe {
            url: url.clone(),
            insecure: false,
        }),
        (None, Some(file)) => of_file(file, None),
        (None, None) if args.container => of_container(),
        (None, None) => of_environment(&Environment::process()),
    };
    let mut probe = match probe {
        Ok(probe) => probe,
        Err(reason) => return fail(&reason),
    };
    probe.insecure |= args.insecure;
    let limit = Duration::from_secs(args.timeout.max(1));
    match runtime.block_on(ask(&probe, limit)) {
        Ok(status) if (200..300).contains(&status) => ExitCode::SUCCESS,
        Ok(status) => fail(&format!("{} answered {status}", probe.url)),
        Err(error) => fail(&error.to_string()),
    }
}

/// The gateway that the first process of this container runs. Its file may have become unreadable since it started; then
/// the environment is the best guess.
fn of_container() -> Result<Probe, String> {
    let line = std::fs::read("/proc/1/cmdline").unwrap_or_default();
    match cli::run_arguments(&line) {
        Some((file, port)) => of_file(&file, port).or_else(|_| with_port(port)),
        None => with_port(None),
    }
}

fn with_port(port: Option<u16>) -> Result<Probe, String> {
    match port {
        Some(port) => Ok(plain(port)),
        None => of_environment(&Environment::process()),
    }
}

/// The gateway that runs this configuration on this machine, on this port or the file's. Its certificate is for the name
/// that clients use, not for this address.
fn of_file(file: &Path, port: Option<u16>) -> Result<Probe, String> {
    let outcome = check::outcome(file);
    let Some(compiled) = outcome.compiled else {
        let name = file.display().to_string();
        return Err(findings::rejection(&name, &outcome.findings));
    };
    let path = compiled.service.options.health_path.as_deref();
    let secure = compiled.listen.tls.is_some();
    let mut address = compiled.listen.address;
    address.set_port(port.unwrap_or(address.port()));
    Ok(Probe {
        url: url(secure, address, path.unwrap_or(READY)),
        insecure: secure,
    })
}

/// The gateway whose port is set in the environment, as for `run`.
fn of_environment(environment: &Environment) -> Result<Probe, String> {
    let named = ["PORTCULLIS_PORT", "KRAKEND_PORT"]
        .into_iter()
        .find_map(|name| Some((name, environment.get(name)?)))
        // Kubernetes sets such a value for a service with that name.
        .filter(|(_, text)| !text.starts_with("tcp://"));
    let port = match named {
        Some((name, text)) => text
            .parse()
            .map_err(|_| format!("{name}={text} is no port"))?,
        None => 8080,
    };
    Ok(plain(port))
}

/// The health endpoint at this port, as it is unless the file says otherwise.
fn plain(port: u16) -> Probe {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Probe {
        url: url(false, address, "/__health"),
        insecure: false,
    }
}

fn url(secure: bool, address: SocketAddr, path: &str) -> String {
    let ip = match address.ip() {
        // A listener on all addresses is reachable at this one, whether the machine has IPv6 or not.
        ip if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if secure { "https" } else { "http" };
    format!("{scheme}://{}{path}", SocketAddr::new(ip, address.port()))
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("{}", reason.trim_end());
    ExitCode::FAILURE
}

async fn ask(probe: &Probe, limit: Duration) -> Result<u16, reqwest::Error> {
    let client = reqwest::Client::builder()
        .timeout(limit)
        .danger_accept_invalid_certs(probe.insecure)
        .no_proxy()
        .build()?;
    Ok(client.get(&probe.url).send().await?.status().as_u16())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

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
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 443));
        assert_eq!(url(true, address, "/x"), "https://127.0.0.1:443/x");
        std::fs::write(&file, "{").unwrap();
        assert!(of_file(&file, None).is_err());
    }

    #[test]
    fn the_first_process_tells_file_and_port_also_behind_an_init_program() {
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
