//! `portcullis reload` during an upgrade.

use std::io::{BufRead as _, BufReader};
use std::process::{Output, Stdio};
use std::time::Duration;

use super::{OK, Stranger, config};
use crate::support::gateway::{RUNTIME_FOLDER, command};
use crate::support::{Gateway, Stub, eventually};

/// Starts the gateway as `gw`, and writes `later`: a program in place of the next version, which waits for a verdict.
const START: &str = r#"
printf '#!/bin/sh\nuntil [ -e go ]; do sleep 0.1; done\nread verdict < go\nrm go\necho $$ > pid\n' > later
printf '[ "$verdict" = ok ] && exec "%s" "$@"\nexit 1\n' "$1" >> later
chmod +x later
ln -s "$1" gw
shift
exec ./gw "$@"
"#;

fn decide(gateway: &Gateway, verdict: &str) {
    let folder = gateway.dir();
    std::fs::write(folder.join("go.new"), format!("{verdict}\n")).unwrap();
    std::fs::rename(folder.join("go.new"), folder.join("go")).unwrap();
}

/// The gateway, whose program is the other one from now on.
fn start(stub: &Stub) -> Gateway {
    let gateway = Gateway::start_under(START, &config(&stub.url(), &[]).to_string());
    let folder = gateway.dir();
    std::fs::rename(folder.join("later"), folder.join("gw")).unwrap();
    let control = folder.join(format!("portcullis-{}.sock", gateway.port()));
    eventually("it takes orders", Duration::from_secs(30), || {
        control.exists()
    });
    gateway
}

/// Reloads during an upgrade that ends as `verdict` says when the reload waits.
fn reload_during_upgrade(gateway: &Gateway, verdict: &str) -> Output {
    let folder = gateway.dir();
    let before = gateway.mark();
    gateway.signal("USR2");
    eventually("the upgrade begins", Duration::from_secs(30), || {
        gateway.output_since(before).contains("Starting ./gw")
    });
    let mut reload = command()
        .env(RUNTIME_FOLDER, &folder)
        .args(["reload", "-c"])
        .arg(gateway.config_path())
        .args(["-p", &gateway.port().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(reload.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert!(line.starts_with("waiting for the gateway"), "{line}");
    decide(gateway, verdict);
    let mut output = reload.wait_with_output().unwrap();
    std::io::Read::read_to_end(&mut errors, &mut output.stderr).unwrap();
    output
}

#[test]
fn a_reload_waits_for_the_end_of_an_upgrade_and_is_told_of_it() {
    let stub = Stub::with(OK);
    let gateway = start(&stub);
    let folder = gateway.dir();
    std::fs::write(
        gateway.config_path(),
        config(&stub.url(), &["/b"]).to_string(),
    )
    .unwrap();
    let reload = reload_during_upgrade(&gateway, "no");
    assert!(reload.status.success(), "{reload:?}");
    gateway.tells("Upgrade failed");
    assert_eq!(gateway.get("/b").status, 200);
    let reload = reload_during_upgrade(&gateway, "ok");
    let new = std::fs::read_to_string(folder.join("pid")).unwrap();
    let _new = Stranger(new.trim().parse().unwrap());
    assert_eq!(reload.status.code(), Some(1), "{reload:?}");
    let said = String::from_utf8_lossy(&reload.stderr);
    assert!(
        said.contains("the new process serves now; reload again"),
        "{said}"
    );
}

#[test]
fn signals_during_an_upgrade_are_passed_on_or_named_in_the_log() {
    let stub = Stub::with(OK);
    let gateway = start(&stub);
    let mark = gateway.mark();
    gateway.signal("USR2");
    eventually("the upgrade begins", Duration::from_secs(30), || {
        gateway.output_since(mark).contains("Starting ./gw")
    });
    gateway.signal("HUP");
    gateway.signal("USR2");
    decide(&gateway, "ok");
    let ended = gateway.wait(Duration::from_secs(60));
    let new = std::fs::read_to_string(gateway.dir().join("pid")).unwrap();
    let new: i32 = new.trim().parse().unwrap();
    let _new = Stranger(new);
    assert!(
        ended.is_some_and(|end| end.success()),
        "{}",
        gateway.output()
    );
    gateway.tells(&format!("SIGHUP was passed on to the process {new}, "));
    gateway.tells(&format!(
        "SIGUSR2 has no effect, because the process {new} serves now"
    ));
    gateway.tells("Configuration reloaded");
}
