//! The content of a release: archives made by `scripts/release`, and the steps of the image.
//!
//! There is no container engine here. The steps of the image and its entry point with its command run in a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::gateway::command;
use crate::support::{Gateway, eventually, ports};

const DOCKERFILE: &str = include_str!("../../Dockerfile");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = text_of(&output);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// Packs the program under test into `out`.
fn release(out: &Path) -> String {
    done(
        Command::new(root().join("scripts/release"))
            .args(["--binary", env!("CARGO_BIN_EXE_portcullis"), "--out"])
            .arg(out)
            .env("PORTCULLIS_COMPRESSION", "1")
            .env("SOURCE_DATE_EPOCH", "1700000000"),
    )
}

fn with_ending(folder: &Path, ending: &str) -> PathBuf {
    let mut entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries
        .find(|path| path.to_string_lossy().ends_with(ending))
        .unwrap_or_else(|| panic!("no {ending} in {}", folder.display()))
}

/// The names of the commands in `--help`, except `help` itself.
fn commands() -> Vec<String> {
    let help = done(command().arg("--help"));
    let list = help.split("Commands:\n").nth(1).unwrap();
    let lines = list.split("\n\n").next().unwrap().lines();
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.filter(|n| *n != "help").map(str::to_owned).collect()
}

#[test]
fn a_release_has_complete_archives_and_their_checksums() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("dist");
    let said = release(&out);
    assert!(said.contains("GLIBC_2."), "{said}");
    done(
        Command::new("sha256sum")
            .args(["--check", "--strict", "SHA256SUMS"])
            .current_dir(&out),
    );
    let sums = fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    assert!(sums.lines().count() >= 3, "{sums}");
    tarball_runs(&with_ending(&out, ".tar.gz"));
    package_is_whole(&with_ending(&out, ".deb"));
    bill_names_every_package(&with_ending(&out, ".cdx.json"));
}

fn tarball_runs(archive: &Path) {
    let folder = tempfile::tempdir().unwrap();
    done(
        Command::new("tar")
            .arg("-xzf")
            .arg(archive)
            .arg("-C")
            .arg(folder.path()),
    );
    let root = fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let version = done(Command::new(root.join("bin/portcullis")).arg("version"));
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let check = ["check", "--strict", "-c"];
    done(
        Command::new(root.join("bin/portcullis"))
            .args(check)
            .arg(root.join("etc/krakend.json")),
    );
    for name in commands() {
        assert!(
            root.join(format!("share/man/man1/portcullis-{name}.1.gz"))
                .exists(),
            "{name}"
        );
    }
    tarball_is_installed_as_documented(&root);
    links_of_the_documents_lead_to_files(&root.join("share/doc/portcullis"));
}

/// The commands of the section "Tarball" that change files, in a folder instead of the root of the system.
fn tarball_is_installed_as_documented(unpacked: &Path) {
    let page = fs::read_to_string(root().join("docs/install.md")).unwrap();
    let section = page.split("## Tarball").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir_all(at("usr/local")).unwrap();
    fs::create_dir_all(at("etc")).unwrap();
    let steps: Vec<String> = section
        .lines()
        .filter(|line| line.starts_with("cp ") || line.starts_with("install "))
        // There is no such group on this machine.
        .map(|line| line.replace("-g portcullis ", ""))
        .map(|line| line.replace(" /", &format!(" {}/", folder.path().display())))
        .collect();
    assert_eq!(steps.len(), 3, "{steps:?}");
    done(
        Command::new("sh")
            .args(["-euc", &steps.join("\n")])
            .current_dir(unpacked),
    );
    let unit = fs::read_to_string(at("usr/local/lib/systemd/system/portcullis.service")).unwrap();
    let program = "/usr/local/bin/portcullis";
    for line in ["ExecStartPre=", "ExecStart=", "ExecReload="] {
        assert!(unit.contains(&format!("\n{line}{program} ")), "{unit}");
    }
    assert!(!unit.contains("/usr/bin/"), "{unit}");
    assert!(
        unit.contains("CONFIG=/etc/portcullis/krakend.json"),
        "{unit}"
    );
    let file = at("etc/portcullis/krakend.json");
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o640);
    done(
        Command::new(at("usr/local/bin/portcullis"))
            .arg("check")
            .arg(&file),
    );
    for path in [
        "usr/local/share/zsh/site-functions/_portcullis",
        "usr/local/share/bash-completion/completions/portcullis",
        "usr/local/share/fish/vendor_completions.d/portcullis.fish",
        "usr/local/share/man/man1/portcullis.1.gz",
        "usr/local/share/doc/portcullis/docs/install.md",
    ] {
        assert!(at(path).exists(), "{path}");
    }
}

/// The relative links of all pages below `folder`.
fn links_of_the_documents_lead_to_files(folder: &Path) {
    let mut pages = 0;
    let mut wrong = Vec::new();
    for below in ["", "docs"] {
        for entry in fs::read_dir(folder.join(below)).unwrap() {
            let page = entry.unwrap().path();
            if page.extension().is_none_or(|ending| ending != "md") {
                continue;
            }
            pages += 1;
            let text = fs::read_to_string(&page).unwrap();
            for part in text.split("](").skip(1) {
                let target = part.split([')', '#']).next().unwrap();
                let is_file = !target.is_empty() && !target.contains(':');
                if is_file && !page.parent().unwrap().join(target).exists() {
                    wrong.push(format!("{}: {target}", page.display()));
                }
            }
        }
    }
    assert!(pages > 20 && wrong.is_empty(), "{wrong:?}");
}

fn package_is_whole(archive: &Path) {
    let folder = tempfile::tempdir().unwrap();
    done(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(archive)
            .arg(folder.path()),
    );
    let field = |name: &str| done(Command::new("dpkg-deb").arg("-f").arg(archive).arg(name));
    assert_eq!(field("Package").trim(), "portcullis");
    assert!(
        field("Depends").contains("libc6 (>="),
        "{}",
        field("Depends")
    );
    // The package can be installed beside KrakenD's: it contains none of its files.
    assert!(!folder.path().join("etc/krakend").exists());
    assert!(!folder.path().join("usr/bin/krakend").exists());
    let file = folder.path().join("etc/portcullis/krakend.json");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o640
    );
    let kept = done(
        Command::new("dpkg-deb")
            .arg("-I")
            .arg(archive)
            .arg("conffiles"),
    );
    assert_eq!(
        kept,
        "/etc/portcullis/krakend.json\n/etc/default/portcullis\n"
    );
    // In /usr: a package must not own files in /lib, which is a link on current systems.
    let unit = folder
        .path()
        .join("usr/lib/systemd/system/portcullis.service");
    let unit = fs::read_to_string(unit).unwrap();
    let settings = fs::read_to_string(folder.path().join("etc/default/portcullis")).unwrap();
    assert!(
        settings.contains("CONFIG=/etc/portcullis/krakend.json"),
        "{settings}"
    );
    for line in [
        "ExecStart=/usr/bin/portcullis run -c ${CONFIG}",
        "EnvironmentFile=-/etc/default/portcullis",
    ] {
        assert!(unit.contains(line), "{unit}");
    }
    links_of_the_documents_lead_to_files(&folder.path().join("usr/share/doc/portcullis"));
    let zsh = "usr/share/zsh/vendor-completions/_portcullis";
    assert!(folder.path().join(zsh).exists());
    let gateway = Gateway::start_file(&file);
    assert_eq!(gateway.get("/__health").status, 200);
}

fn bill_names_every_package(file: &Path) {
    let bill: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    let parts = bill["components"].as_array().unwrap();
    let find = |name: &str| parts.iter().find(|part| part["name"] == name);
    for linked in ["pingora-core", "rustls", "serde_json"] {
        let part = find(linked).unwrap_or_else(|| panic!("{linked} is missing"));
        assert_eq!(part["hashes"][0]["content"].as_str().unwrap().len(), 64);
    }
    assert!(parts.iter().all(|part| part["licenses"].is_array()));
    // Only tests use it.
    assert!(find("criterion").is_none());
}

#[test]
fn the_same_program_gives_the_same_release() {
    let folder = tempfile::tempdir().unwrap();
    let sums = ["a", "b"].map(|name| {
        let out = folder.path().join(name);
        release(&out);
        let sums = fs::read_to_string(out.join("SHA256SUMS")).unwrap();
        // Helm writes the time into the chart's archive.
        let kept = sums.lines().filter(|line| !line.ends_with(".tgz"));
        kept.map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(sums[0], sums[1]);
}

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
    eventually("the gateway is well", Duration::from_secs(20), || {
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
