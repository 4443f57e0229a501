//! The process: calls the command line, turns its result into an exit code.

fn main() -> std::process::ExitCode {
    portcullis::cli::main()
}
