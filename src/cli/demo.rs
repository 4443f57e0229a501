//! `demo`: everything in one process, without any account, on loopback unless a host name is given.
//!
//! It starts a development issuer (discovery, key set, token endpoint), a sample backend, and the gateway with the
//! configuration of the walkthrough. Keys are generated at start and end with the process. It is not for production,
//! and its output says so.

mod issuer;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::json;

use crate::cli::DemoArgs;
use crate::cli::run::{Extras, serve_text};
use crate::jose;
use crate::server::admin::{AdminListener, AdminRequest, Handler};
use crate::server::pages::Body;
use issuer::{AUDIENCE, CLIENT, Issuer, json_response};

/// The ports that are used if no others are requested and these are free.
const ISSUER_PORT: u16 = 8180;
const UPSTREAM_PORT: u16 = 8181;
const PAGE_PORT: u16 = 8182;

/// Serves until it is interrupted.
pub(super) fn demo(args: &DemoArgs) -> ExitCode {
    if args.print_config {
        // Without the page: its port is that of a demo that runs.
        super::say(&configuration(&Ports::of_arguments(args), false));
        return ExitCode::SUCCESS;
    }
    jose::install_crypto();
    match start(args) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("demo: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &DemoArgs) -> Result<ExitCode, String> {
    let ports = Ports::free(args)?;
    if ports.gateway != args.port {
        let told = format!(
            "Port {} is in use; the gateway uses {}.\n",
            args.port, ports.gateway
        );
        super::say(&told);
    }
    let issuer = Issuer::new(ports.issuer_url())?;
    let text = configuration(&ports, true);
    let file = write_file(&ports, &text);
    let extras = Extras {
        admin_listeners: vec![
            side(
                &ports,
                ports.issuer,
                "--issuer-port",
                Arc::new(move |request: &AdminRequest| issuer.response(request)),
            ),
            side(&ports, ports.upstream, "--upstream-port", Arc::new(sample)),
        ],
        ready: Some(instructions(&ports, &file)),
        quiet: true,
        end: file
            .clone()
            .ok()
            .map(|path| -> Box<dyn Fn() + Send + Sync> {
                let text = text.clone();
                Box::new(move || remove_file(&path, &text))
            }),
    };
    let code = serve_text(&text, extras);
    // It returns only if the gateway did not start.
    if let Ok(path) = &file {
        remove_file(path, &text);
    }
    Ok(code)
}

fn side(ports: &Ports, port: u16, block: &'static str, handler: Handler) -> AdminListener {
    AdminListener {
        address: SocketAddr::new(ports.address(), port),
        block,
        handler,
        tls: None,
        optional: false,
    }
}

/// The four ports of the demo, and where they are.
#[derive(Debug)]
struct Ports {
    /// The name that others use, if they may reach the demo at all.
    host: Option<String>,
    gateway: u16,
    issuer: u16,
    upstream: u16,
    page: u16,
}

impl Ports {
    /// The ports as requested, whether they are free or not.
    fn of_arguments(args: &DemoArgs) -> Ports {
        Ports {
            host: args.host.clone(),
            gateway: args.port,
            issuer: args.issuer_port.unwrap_or(ISSUER_PORT),
            upstream: args.upstream_port.unwrap_or(UPSTREAM_PORT),
            page: PAGE_PORT,
        }
    }

    /// Free ports. The issuer and the upstream get another port only if none was requested: a file of the user may
    /// name it.
    fn free(args: &DemoArgs) -> Result<Ports, String> {
        let wanted = Ports::of_arguments(args);
        // All are held until the last is chosen, so that no port is chosen twice.
        let at = wanted.address();
        let gateway = listener(at, wanted.gateway, false)?;
        let issuer = listener(at, wanted.issuer, args.issuer_port.is_some())?;
        let upstream = listener(at, wanted.upstream, args.upstream_port.is_some())?;
        let page = listener(at, wanted.page, false)?;
        let port = |listener: &TcpListener| {
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            Ok::<u16, String>(address.port())
        };
        Ok(Ports {
            gateway: port(&gateway)?,
            issuer: port(&issuer)?,
            upstream: port(&upstream)?,
            page: port(&page)?,
            host: wanted.host,
        })
    }

    /// Where the demo listens.
    fn address(&self) -> IpAddr {
        match &self.host {
            None => Ipv4Addr::LOCALHOST.into(),
            // With brackets: an address of IPv6.
            Some(host) if host.starts_with('[') => Ipv6Addr::UNSPECIFIED.into(),
            Some(_) => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// A port as clients call it.
    fn url(&self, port: u16) -> String {
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        format!("http://{host}:{port}")
    }

    /// With a slash at the end, as with Auth0.
    fn issuer_url(&self) -> String {
        format!("{}/", self.url(self.issuer))
    }
}

fn listener(address: IpAddr, wanted: u16, is_fixed: bool) -> Result<TcpListener, String> {
    let bind = |port| TcpListener::bind((address, port));
    bind(wanted)
        .or_else(|error| if is_fixed { Err(error) } else { bind(0) })
        .map_err(|error| format!("port {wanted}: {error}"))
}

/// The configuration of the walkthrough, with the issuer and the backend of the demo. It is written as a person would
/// write it, because users copy and change it.
fn configuration(ports: &Ports, page: bool) -> String {
    let Ports {
        gateway,
        upstream,
        issuer: issuer_port,
        ..
    } = ports;
    let issuer = ports.issuer_url();
    let address = ports.address();
    let page = if page {
        let listen = SocketAddr::new(ports.address(), ports.page);
        format!(
            r#",
    "portcullis/metrics": {{ "listen": "{listen}", "page": true }}"#
        )
    } else {
        String::new()
    };
    format!(
        r#"{{
  "version": 3,
  "name": "Portcullis demo",
  "port": {gateway},
  "listen_ip": "{address}",
  "timeout": "3s",
  "extra_config": {{
    "telemetry/logging": {{ "level": "WARNING", "stdout": true }}{page}
  }},
  "endpoints": [
    {{
      "endpoint": "/auth0-protected",
      "extra_config": {{
        "auth/validator": {{
          "alg": "RS256",
          "issuer": "{issuer}",
          "audience": ["{AUDIENCE}"],
          "jwk_url": "http://127.0.0.1:{issuer_port}/.well-known/jwks.json",
          "disable_jwk_security": true
        }}
      }},
      "backend": [
        {{ "host": ["http://127.0.0.1:{gateway}"], "url_pattern": "/__health" }}
      ]
    }},
    {{
      "endpoint": "/sample/{{id}}",
      "backend": [
        {{ "host": ["http://127.0.0.1:{upstream}"], "url_pattern": "/items/{{id}}", "group": "item" }},
        {{ "host": ["http://127.0.0.1:{upstream}"], "url_pattern": "/prices/{{id}}", "group": "price" }}
      ]
    }}
  ]
}}
"#
    )
}

/// Writes the configuration into the folder for temporary files, for commands such as `token explain`, and for the user
/// to copy. There is one file for each port, which the next demo replaces.
fn write_file(ports: &Ports, text: &str) -> Result<PathBuf, String> {
    let folder = std::env::temp_dir();
    let path = folder.join(format!("portcullis-demo-{}.json", ports.gateway));
    let new = folder.join(format!(".portcullis-demo-{}", std::process::id()));
    // Others can write into this folder: a new file follows no link, and a renamed one replaces a link.
    let written = std::fs::File::create_new(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&new, &path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&new);
        format!("{}: {error}", path.display())
    })?;
    Ok(path)
}

/// Removes the file at the end, if it is still the one of this demo.
fn remove_file(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
        let _ = std::fs::remove_file(path);
    }
}

fn instructions(ports: &Ports, file: &Result<PathBuf, String>) -> String {
    let gateway = ports.url(ports.gateway);
    let issuer = ports.url(ports.issuer);
    let protected = format!("{gateway}/auth0-protected");
    let other = format!("$(curl -s -d audience=http://other.example.com {issuer}/token)");
    let mut out = format!(
        r#"
  This is a demonstration with keys made a moment ago and a secret that everybody knows. NOT FOR PRODUCTION.
  Paste these commands into another terminal.

  Health, open to all (200):
    curl -i {gateway}/__health

  Protected, without a token (401, empty):
    curl -i {protected}

  Protected, with a token of the development issuer (200):
    curl -i -H "Authorization: Bearer $(curl -s {issuer}/token)" {protected}

  With a token for another API (401; the header WWW-Authenticate has the reason):
    curl -i -H "Authorization: Bearer {other}" {protected}

  Two backends merged into one response:
    curl -i {gateway}/sample/7

  A token as a client of OAuth 2 requests it (client credentials):
    curl -s -u {}:{} -d grant_type=client_credentials -d audience={AUDIENCE} {issuer}/oauth/token
"#,
        CLIENT.0, CLIENT.1
    );
    let _ = match file {
        Ok(path) => explained(&mut out, path, &other),
        Err(reason) => writeln!(
            out,
            "\n  The configuration could not be written to a file ({reason}).\n  `demo --print-config` prints it."
        ),
    };
    let _ = write!(
        out,
        "\n  In a browser, what the gateway does now: {}/\n\n  Ctrl-C ends it, and removes its file.\n",
        ports.url(ports.page)
    );
    out
}

fn explained(out: &mut String, path: &Path, token: &str) -> std::fmt::Result {
    let program = quoted(&program());
    let shown = quoted(&path.display().to_string());
    write!(
        out,
        r#"
  Why the token for another API is rejected:
    {program} token explain -c {shown} --endpoint /auth0-protected "{token}"

  The configuration is in {shown}.
  To try your own, copy this file, change "port" and the port of "portcullis/metrics", and start it beside the demo.
"#
    )
}

/// The command that starts this program from any folder.
fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let by_name = called.filter(|path| path.components().count() == 1);
    by_name
        .or_else(|| std::env::current_exe().ok())
        .unwrap_or_else(|| PathBuf::from("portcullis"))
        .display()
        .to_string()
}

/// Quotes a word for a shell, if necessary.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:".contains(c);
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The sample backend: two resources about one entity.
fn sample(request: &AdminRequest) -> Response<Body> {
    let mut parts = request.path.trim_matches('/').splitn(2, '/');
    let body = match (parts.next(), parts.next()) {
        (Some("items"), Some(id)) => {
            json!({ "id": id, "name": "portcullis, iron", "tags": ["gate", "grille"] })
        }
        (Some("prices"), Some(_)) => json!({ "amount": 1250, "currency": "EUR" }),
        _ => {
            return json_response(
                StatusCode::NOT_FOUND,
                &json!({ "error": "no such resource" }),
            );
        }
    };
    json_response(StatusCode::OK, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_one_word_of_a_shell() {
        assert_eq!(quoted("/usr/bin/portcullis"), "/usr/bin/portcullis");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }

    #[test]
    fn a_requested_port_that_is_in_use_is_an_error_and_a_default_is_replaced() {
        let at = Ipv4Addr::LOCALHOST.into();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let reason = listener(at, port, true).unwrap_err();
        assert!(reason.starts_with(&format!("port {port}: ")), "{reason}");
        assert!(listener(at, port, false).is_ok());
    }
}
