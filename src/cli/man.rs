//! The man pages: the text of `--help`, and additional sections.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::config::variables::GROUPS;

/// The program's own page.
const PROGRAM: &str = "portcullis";
/// The date of the pages. Programs that read them expect one, and it must not depend on the time of the build.
const DATE: &str = "2026-11-29";
/// The page of the command that serves.
const RUN: &str = "portcullis-run";
/// Commands that need neither a file nor a gateway.
const WITHOUT_FILE: &[&str] = &[
    "portcullis-version",
    "portcullis-schema",
    "portcullis-completions",
    "portcullis-man",
    "portcullis-openapi-import",
];

/// Descriptions: paragraphs after the title of the command.
const DESCRIPTIONS: &[(&str, &[&str])] = &[
    (
        PROGRAM,
        &[
            "Portcullis is an API gateway in one program. It reads configuration files of KrakenD (\"version\": 3 and 4), in JSON, YAML or TOML, verifies tokens, merges responses of several backends, limits rates, and forwards streams.",
            "It understands the command line of krakend(1). If the first argument is the name of a program, as in \"portcullis krakend run\", it is ignored.",
        ],
    ),
    (
        RUN,
        &[
            "Reads, checks and compiles the configuration, and serves it until the process gets SIGTERM or SIGINT. If the configuration has an error, all errors are printed and nothing is started.",
            "Without -c the file is the argument. \"-\" reads standard input; then the configuration cannot be reloaded.",
        ],
    ),
    (
        "portcullis-check",
        &[
            "Does everything that a start does, except for opening listeners and calling other machines. All errors are printed at once, each with its place in the file and often with a hint.",
            "Warnings do not change the exit status, unless --strict is given.",
        ],
    ),
    (
        "portcullis-audit",
        &[
            "Compares the configuration with rules about security, limits and deprecated parts. The ids of the rules are those of krakend audit.",
        ],
    ),
    (
        "portcullis-reload",
        &[
            "Tells the gateway that runs this file to read it again, and waits for the result. If the file has errors, they are printed, and the gateway continues with the configuration that it has. The command must run as the user of the gateway or as root.",
        ],
    ),
    (
        "portcullis-demo",
        &[
            "Starts a token issuer, a sample backend and the gateway on the loopback address, and prints commands to try. The keys of the issuer are made at start, and its secret is known to everybody: it is not for production.",
            "The configuration is written to portcullis-demo-PORT.json in the folder for temporary files.",
        ],
    ),
    (
        "portcullis-token-explain",
        &[
            "Verifies a token as the endpoint does, and prints each check with its result. The key sets of the file are fetched once. No gateway needs to run.",
        ],
    ),
    (
        "portcullis-jwks",
        &[
            "Fetches every key set of the configuration once, as the gateway does, and prints the keys with their algorithms, or the reason why there are none. No gateway needs to run.",
        ],
    ),
    (
        "portcullis-openapi-export",
        &[
            "Prints an OpenAPI 3.1 document with one operation for each endpoint. documentation/openapi in the file adds descriptions, parameters and schemas.",
        ],
    ),
    (
        "portcullis-openapi-import",
        &[
            "Prints a configuration of version 3 with one endpoint for each operation of an OpenAPI 3 document. What cannot be used is named on standard error.",
        ],
    ),
    (
        "portcullis-healthcheck",
        &[
            "Sends one request to a running gateway. With a file, the port, the path and the TLS settings are those of the file. Without one, the port is that of PORTCULLIS_PORT or KRAKEND_PORT, or 8080.",
        ],
    ),
];

const FILES: &[(&str, &str)] = &[
    (
        "/etc/portcullis/krakend.json",
        "The configuration of the service of the Debian package.",
    ),
    (
        "/etc/default/portcullis",
        "Variables of the service: CONFIG names another configuration.",
    ),
    (
        "/etc/krakend/krakend.json",
        "The configuration in the container image.",
    ),
    (
        "portcullis-PORT.sock",
        "The control socket, which portcullis reload uses. It is in the folder $RUNTIME_DIRECTORY, or else $XDG_RUNTIME_DIR, /run/portcullis or /run/user/UID. The folder must belong to the user of the gateway.",
    ),
    (
        "portcullis-ADDRESS-upgrade.sock",
        "The socket through which an upgrade passes the listening sockets, in the same folder.",
    ),
];

/// Also in `docs/operations.md`.
const SIGNALS: &[(&str, &str)] = &[
    ("SIGHUP", "reads the configuration and certificates again"),
    (
        "SIGTERM, SIGINT",
        "stops accepting after shutdown_delay, finishes the requests in flight, exits with 0; a second signal stops at once",
    ),
    ("SIGUSR1", "reopens log files, for log rotation"),
    (
        "SIGUSR2",
        "starts the current binary, passes the listening sockets to it, then drains",
    ),
    (
        "SIGQUIT",
        "passes the listening sockets to a process started with run --upgrade, then drains; stops if there is no such process within 5 s",
    ),
];

/// The meaning of the exit codes 0 and 1 for a command, if it is not the usual one.
const STATUS: &[(&str, &str, &str)] = &[
    (
        RUN,
        "The gateway was told to stop, and has stopped.",
        "The configuration has an error, an address cannot be used, or the gateway failed.",
    ),
    (
        "portcullis-check",
        "The configuration can be served.",
        "It has errors, or, with --strict, warnings.",
    ),
    (
        "portcullis-audit",
        "There is nothing to recommend.",
        "There are recommendations, or the configuration has errors.",
    ),
    (
        "portcullis-reload",
        "The gateway serves the new configuration.",
        "The configuration was rejected, or no gateway runs.",
    ),
    (
        "portcullis-token-explain",
        "The endpoint accepts the token.",
        "It rejects the token, or the token could not be checked.",
    ),
    (
        "portcullis-jwks",
        "All key sets were fetched.",
        "A key set could not be fetched, or the configuration has errors.",
    ),
    (
        "portcullis-healthcheck",
        "The response has a status from 200 to 299.",
        "It has another status, or there is no response in time.",
    ),
];

/// Prints the page of the program, or writes the pages of all commands into `dir`.
pub(super) fn man(cli: Command, dir: Option<&Path>) -> ExitCode {
    // The names must not depend on the name of this executable.
    let mut cli = cli.bin_name(PROGRAM).disable_help_subcommand(true);
    cli.build();
    let written = match dir {
        Some(dir) => std::fs::create_dir_all(dir).and_then(|()| write_all(&cli, dir)),
        None => page(&cli).map(|page| super::say(&String::from_utf8_lossy(&page))),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("man: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(command: &Command, dir: &Path) -> io::Result<()> {
    for command in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        write_all(command, dir)?;
    }
    std::fs::write(dir.join(format!("{}.1", name(command))), page(command)?)
}

/// `portcullis-token-explain`
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let name = name(command);
    let version = format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).date(DATE).source(version);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    let mut roff = Roff::new();
    for paragraph in described(name) {
        roff.control("PP", []).text([roman(*paragraph)]);
    }
    roff.to_writer(&mut out)?;
    if command.get_arguments().any(|it| !it.is_hide_set()) {
        man.render_options_section(&mut out)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    sections(command, name).to_writer(&mut out)?;
    Ok(out)
}

fn described(name: &str) -> &'static [&'static str] {
    let found = DESCRIPTIONS.iter().find(|(known, _)| *known == name);
    found.map_or(&[], |(_, paragraphs)| paragraphs)
}

/// The sections after the options.
fn sections(command: &Command, name: &str) -> Roff {
    let mut roff = Roff::new();
    exit_status(&mut roff, name);
    let serves = name == PROGRAM || name == RUN;
    if serves {
        section(&mut roff, "SIGNALS", SIGNALS);
        section(&mut roff, "FILES", FILES);
        environment(&mut roff);
    } else if !WITHOUT_FILE.contains(&name) && !command.has_subcommands() {
        roff.control("SH", ["ENVIRONMENT"]);
        let text = "The variables that change how the file is read, such as FC_ENABLE and KRAKEND_PORT, are the same as for";
        roff.text([
            roman(text),
            roman(" "),
            bold("portcullis-run"),
            roman("(1)."),
        ]);
    }
    examples(&mut roff, command);
    roff.control("SH", ["SEE ALSO"]);
    let others: &[&str] = if name == PROGRAM {
        &["portcullis-run(1)", "portcullis-check(1)"]
    } else {
        &["portcullis(1)"]
    };
    let documents =
        "The documentation is in /usr/share/doc/portcullis, if the package is installed.";
    roff.text([roman(format!("{}. {documents}", others.join(", ")))]);
    roff
}

fn section(roff: &mut Roff, title: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (name, text) in entries {
        entry(roff, name, text);
    }
}

fn entry(roff: &mut Roff, name: &str, text: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]).text([roman(text)]);
}

fn exit_status(roff: &mut Roff, name: &str) {
    let own = STATUS.iter().find(|(known, ..)| *known == name);
    let (good, bad) = own.map_or(
        (
            "Success.",
            "The configuration has an error, or the command failed.",
        ),
        |(_, good, bad)| (good, bad),
    );
    let entries = [
        ("0", good),
        ("1", bad),
        ("2", "The command line has an error."),
    ];
    section(roff, "EXIT STATUS", &entries);
}

fn environment(roff: &mut Roff) {
    roff.control("SH", ["ENVIRONMENT"]);
    for group in GROUPS {
        roff.control("SS", [group.title]);
        for (names, text) in group.variables {
            entry(roff, &names.join(", "), text);
        }
    }
}

/// The examples of `--help`.
fn examples(roff: &mut Roff, command: &Command) {
    let Some(help) = command.get_after_help() else {
        return;
    };
    let help = help.to_string();
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in help.lines().filter(|line| *line != "Examples:") {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signals_are_those_of_the_document() {
        let document = include_str!("../../docs/operations.md").replace('`', "");
        for (name, effect) in SIGNALS {
            let row = format!("| {name} | {effect} |");
            assert!(
                document.contains(&row),
                "docs/operations.md has no row {row}"
            );
        }
    }

    #[test]
    fn every_table_names_only_commands_that_exist() {
        use clap::CommandFactory as _;
        let mut cli = crate::cli::Cli::command().bin_name(PROGRAM);
        cli.build();
        let mut names = Vec::new();
        collect(&cli, &mut names);
        let described = DESCRIPTIONS.iter().map(|(name, _)| *name);
        let with_status = STATUS.iter().map(|(name, ..)| *name);
        for name in described
            .chain(with_status)
            .chain(WITHOUT_FILE.iter().copied())
        {
            assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
        }
    }

    fn collect(command: &Command, names: &mut Vec<String>) {
        names.push(name(command).to_owned());
        for command in command.get_subcommands() {
            collect(command, names);
        }
    }
}
