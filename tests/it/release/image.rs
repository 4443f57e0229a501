//! The image: its steps, entry point, health check and labels, replayed without a container engine.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{done, root, text_of};
use crate::support::{Gateway, eventually, ports};

const DOCKERFILE: &str = include_str!("../../../Dockerfile");

/// The instructions of the Dockerfile with this name, with continued lines joined.
fn instructions(name: &str) -> Vec<String> {
    let whole = DOCKERFILE.replace("\\\n", " ");
    let lines = whole.lines().filter_map(|line| line.strip_prefix(name));
    lines
        .filter(|line| line.starts_with(' '))
        .map(|line| line.trim().to_owned())
        .collect()
}

/// The words of an instruction in JSON form.
fn words(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn everything_that_the_image_copies_is_there_and_enough_for_the_build() {
    let mut copied = Vec::new();
    for line in instructions("COPY")
        .iter()
        .filter(|line| !line.starts_with("--"))
    {
        let mut names: Vec<&str> = line.split_whitespace().collect();
        names.pop();
        copied.extend(names.into_iter().map(str::to_owned));
    }
    for name in &copied {
        assert!(root().join(name).exists(), "{name}");
    }
    // Cargo needs every target of its manifest to exist.
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let target = |folder: &str| {
        copied
            .iter()
            .any(|name| name.trim_end_matches('/') == folder)
    };
    assert!(
        manifest.contains("[[bench]]") && target("benches") && target("tests") && target("src")
    );
}

#[test]
fn the_image_starts_as_its_command_says_and_under_krakends_name() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let runs = instructions("RUN");
    let step = runs.iter().find(|line| line.contains("/image")).unwrap();
    let step = step.replace("/image", image.to_str().unwrap()).replace(
        "target/release/portcullis",
        env!("CARGO_BIN_EXE_portcullis"),
    );
    done(Command::new("sh").args(["-euc", &step]).current_dir(root()));
    let at = |path: &str| image.join(path.trim_start_matches('/'));

    // The symbolic link must lead to the program in the image.
    assert_eq!(
        fs::read_link(at("/usr/bin/krakend")).unwrap(),
        Path::new("portcullis")
    );
    let entry = words(&instructions("ENTRYPOINT")[0]);
    let last = words(&instructions("CMD")[0]);
    assert_eq!(last[..2], ["run", "-c"]);
    let file = at(&last[2]);
    for program in [at(&entry[0]), at("/usr/bin/krakend")] {
        done(
            Command::new(&program)
                .args(["check", "--strict", "-c"])
                .arg(&file),
        );
    }
    let gateway = Gateway::start_file(&file);
    assert_eq!(gateway.get("/__health").status, 200);

    let health = instructions("HEALTHCHECK")[0].clone();
    let probe = words(health.split(" CMD ").nth(1).unwrap());
    assert_eq!(probe[1..], ["healthcheck", "--container"]);
}

#[test]
fn the_health_check_of_a_container_follows_the_first_process() {
    let spaces = ["-U", "-r", "-p", "-f", "--mount-proc", "--kill-child"];
    let allowed = Command::new("unshare").args(spaces).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("this machine gives no namespaces: nothing is checked");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.json");
    let port = ports::free();
    let text = r#"{"version": 3, "port": 1, "endpoints": [], "extra_config": {"router": {"health_path": "/up"}}}"#;
    fs::write(&file, text).unwrap();
    let mut container = Command::new("unshare")
        .args(spaces)
        .args([
            env!("CARGO_BIN_EXE_portcullis"),
            "krakend",
            "run",
            "-p",
            &port.to_string(),
            "-c",
        ])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let id = container.id();
    let first = || fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let ask = || {
        Command::new("nsenter")
            .args([
                "-U",
                "-p",
                "-m",
                "--preserve-credentials",
                "-t",
                first().trim(),
            ])
            .args([
                env!("CARGO_BIN_EXE_portcullis"),
                "healthcheck",
                "--container",
            ])
            .output()
            .unwrap()
    };
    let mut last = String::new();
    eventually("the gateway is well", Duration::from_secs(30), || {
        let output = ask();
        last = text_of(&output);
        output.status.success()
    });
    let _ = container.kill();
    let _ = container.wait();
    assert!(last.is_empty(), "{last}");
}

#[test]
fn the_image_is_not_root_and_stops_by_draining() {
    let user = instructions("USER");
    assert!(
        user.iter()
            .all(|user| user.starts_with(|c: char| ('1'..='9').contains(&c))),
        "{user:?}"
    );
    assert_eq!(user.len(), 1);
    assert_eq!(instructions("STOPSIGNAL"), ["SIGTERM"]);
}

/// Replays the first stage of the Dockerfile in docs/install.md, which renders and checks a template: a `RUN` in JSON
/// form needs no shell, so its words are the command.
#[test]
fn the_dockerfile_for_users_of_krakends_image_renders_its_template() {
    let page = fs::read_to_string(root().join("docs/install.md")).unwrap();
    let (_, block) = page.split_once("```dockerfile\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path.trim_start_matches('/'));
    for name in ["usr/bin", "tmp", "etc/krakend/config/settings/prod"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["partials", "templates"] {
        fs::create_dir_all(at("etc/krakend/config").join(name)).unwrap();
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_portcullis"), at("usr/bin/krakend")).unwrap();
    let settings = r#"{ "name": "of the settings" }"#;
    fs::write(
        at("etc/krakend/config/settings/prod/service.json"),
        settings,
    )
    .unwrap();
    let template = r#"{ "version": 3, "name": "{{ .service.name }}", "endpoints": [] }"#;
    fs::write(at("etc/krakend/krakend.tmpl"), template).unwrap();

    let mut variables = Vec::new();
    let mut ran = 0;
    for line in block.lines() {
        if let Some(all) = line.strip_prefix("ENV ") {
            for pair in all.split(' ') {
                let (name, value) = pair.split_once('=').unwrap();
                let value = value.replace("$ENV", "prod");
                let value = if value.starts_with('/') {
                    at(&value).display().to_string()
                } else {
                    value
                };
                variables.push((name.to_owned(), value));
            }
        } else if let Some(command) = line.strip_prefix("RUN ") {
            let command = words(command);
            done(
                Command::new(at(&command[0]))
                    .args(&command[1..])
                    .envs(variables.clone())
                    .current_dir(at("etc/krakend")),
            );
            ran += 1;
        }
    }
    assert_eq!(ran, 1);
    let rendered = fs::read_to_string(at("tmp/krakend.json")).unwrap();
    assert!(rendered.contains("of the settings"), "{rendered}");
}

#[test]
fn the_image_says_what_it_is() {
    let labels = instructions("LABEL").join(" ");
    let value = |name: &str| {
        let found = labels.split_once(&format!("org.opencontainers.image.{name}=\""));
        let (_, rest) = found.unwrap_or_else(|| panic!("no {name} in {labels}"));
        rest.split('"').next().unwrap().to_owned()
    };
    assert_eq!(value("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(value("licenses"), env!("CARGO_PKG_LICENSE"));
    for name in ["title", "description", "vendor"] {
        assert!(!value(name).is_empty(), "{name}");
    }
    // The base is the one that the last stage starts from.
    let last = instructions("FROM").pop().unwrap();
    assert_eq!(value("base.name"), last);
    // Who builds it names the commit and the time.
    for (label, argument) in [("revision", "REVISION"), ("created", "CREATED")] {
        assert_eq!(value(label), format!("${argument}"));
        assert!(instructions("ARG").contains(&format!("{argument}=")));
    }
}
