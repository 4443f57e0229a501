//! The gateway as a library: an application that answers requests itself, with the gateway in front of it.
//!
//! ```sh
//! cargo run --example embed -- 8080
//! curl http://127.0.0.1:8080/greeting
//! ```
//!
//! The first argument is the port of the gateway. `SIGTERM` or Ctrl-C stops it as it stops `portcullis run`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;

fn main() -> ExitCode {
    let port = std::env::args().nth(1).unwrap_or_else(|| "8080".to_owned());
    match application() {
        // This call serves until the process is told to stop.
        Ok(address) => portcullis::serve(&configuration(&port, address)),
        Err(error) => {
            eprintln!("the application cannot listen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a file for `portcullis run` would say.
fn configuration(port: &str, application: SocketAddr) -> String {
    format!(
        r#"{{
            "version": 3,
            "listen_ip": "127.0.0.1",
            "port": {port},
            "host": ["http://{application}"],
            "endpoints": [{{
                "endpoint": "/greeting",
                "backend": [{{ "url_pattern": "/", "allow": ["greeting"] }}]
            }}]
        }}"#
    )
}

/// The application: an HTTP server on a port of its own.
fn application() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is not an error of the application.
            let _ = response(stream);
        }
    });
    Ok(address)
}

fn response(mut stream: TcpStream) -> io::Result<()> {
    let head = BufReader::new(stream.try_clone()?).lines();
    for line in head {
        if line?.is_empty() {
            break;
        }
    }
    let body = r#"{"greeting": "hello", "internal": "not for clients"}"#;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())
}
