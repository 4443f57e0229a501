//! The conformance suite for HTTP/2.

use super::*;

/// The conformance suite for HTTP/2, if it is installed (`scripts/setup` installs it if Go is present).
pub(super) fn has_nothing_to_complain_about(gateway: &Gateway, more: &[&str]) {
    let port = gateway.port().to_string();
    let run = std::process::Command::new(h2spec())
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-P",
            "/get",
            "-o",
            "5",
            "-S",
        ])
        .args(more)
        .output();
    let output = match run {
        Ok(output) => output,
        Err(error) => {
            println!("h2spec is not installed, nothing is checked: {error}");
            return;
        }
    };
    let told = String::from_utf8_lossy(&output.stdout);
    let failures = told.split("Failures:").nth(1).unwrap_or(&told);
    assert!(output.status.success(), "{failures}\n{}", gateway.output());
    assert!(told.contains(" 0 skipped, 0 failed"), "{failures}");
}

#[test]
#[ignore = "needs h2spec: scripts/test runs it"]
fn h2spec_passes_in_clear_text() {
    let (_stub, gateway) = start();
    has_nothing_to_complain_about(&gateway, &[]);
}

/// The port serves HTTP/1 and HTTP/2: the suite continues only if ALPN selected the latter.
#[test]
#[ignore = "needs h2spec: scripts/test runs it"]
fn h2spec_passes_over_tls() {
    let (_stub, gateway) = start_tls();
    has_nothing_to_complain_about(&gateway, &["--tls", "--insecure"]);
}

pub(super) fn h2spec() -> std::path::PathBuf {
    let mut bins = std::env::var_os("H2SPEC").into_iter().map(Into::into);
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let installed = home.map(|home| home.join("go/bin/h2spec"));
    bins.next()
        .or_else(|| installed.filter(|path| path.exists()))
        .unwrap_or_else(|| "h2spec".into())
}
