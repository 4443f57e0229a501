//! The content of a release: archives made by `scripts/release`. The image is in `image`.

mod image;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::Gateway;
use crate::support::gateway::command;

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
    done(&mut packed(out))
}

fn packed(out: &Path) -> Command {
    let mut script = Command::new(root().join("scripts/release"));
    script
        .args(["--binary", env!("CARGO_BIN_EXE_portcullis"), "--out"])
        .arg(out)
        .env("PORTCULLIS_COMPRESSION", "1")
        .env("SOURCE_DATE_EPOCH", "1700000000");
    script
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
    let package = with_ending(&out, ".deb");
    package_is_whole(&package);
    package_can_be_upgraded_whatever_administrators_do(&package);
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

/// Installs it, again and again, in a copy of this system.
fn package_can_be_upgraded_whatever_administrators_do(archive: &Path) {
    let check = root().join("packaging/check-package");
    let output = Command::new(check).arg(archive).output().unwrap();
    let said = text_of(&output);
    match output.status.code() {
        // It may not mount anything here.
        Some(77) => println!("{said}"),
        code => assert_eq!(code, Some(0), "{said}"),
    }
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
        fs::read_to_string(out.join("SHA256SUMS")).unwrap()
    });
    assert_eq!(sums[0], sums[1]);
}

/// With a key that only this test has.
#[test]
fn checksums_can_be_signed() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    fs::create_dir(&keys).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
    let gpg = |arguments: &[&str]| {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--quiet"]).args(arguments);
        gpg.env("GNUPGHOME", &keys);
        gpg
    };
    if gpg(&["--version"]).output().is_err() {
        println!("gpg is not installed: nothing is signed");
        return;
    }
    let key = "releases@example.com";
    let make = ["--passphrase", "", "--quick-generate-key", key];
    done(&mut gpg(&make));
    let out = folder.path().join("dist");
    done(packed(&out).args(["--sign", key]).env("GNUPGHOME", &keys));
    let verify = ["--verify", "SHA256SUMS.asc", "SHA256SUMS"];
    done(gpg(&verify).current_dir(&out));
    let sums = out.join("SHA256SUMS");
    let changed = fs::read_to_string(&sums).unwrap().replacen('0', "1", 1);
    fs::write(&sums, changed).unwrap();
    let output = gpg(&verify).current_dir(&out).output().unwrap();
    assert!(!output.status.success());
    // Its agent would stay.
    done(
        Command::new("gpgconf")
            .args(["--kill", "all"])
            .env("GNUPGHOME", &keys),
    );
}
