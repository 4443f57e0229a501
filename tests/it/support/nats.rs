//! A real NATS server on its own port, and a client of a few lines.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::{eventually, ports};

/// A started server; it is killed when this value is dropped.
pub struct Nats {
    port: u16,
    /// More arguments of its command line.
    more: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl Nats {
    /// `None`, with a note, if NATS is not installed. On a build machine (`CI=true`) this is an error.
    pub fn start() -> Option<Nats> {
        Nats::start_with(&[])
    }

    /// The same with more arguments.
    pub fn start_with(more: &[&str]) -> Option<Nats> {
        if let Err(error) = Command::new("nats-server").arg("--version").output() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "nats-server: {error}"
            );
            eprintln!("skipped: nats-server: {error}");
            return None;
        }
        let nats = Nats {
            port: ports::free(),
            more: more.iter().map(|argument| (*argument).to_owned()).collect(),
            process: Mutex::new(None),
        };
        nats.begin();
        Some(nats)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts the process, for the first time or again.
    pub fn begin(&self) {
        let process = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string()])
            .args(&self.more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *self.process.lock().unwrap() = Some(process);
        eventually("nats-server listens", Duration::from_secs(30), || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// Ends the process; its port refuses connections afterwards.
    pub fn end(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn client(&self) -> NatsClient {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut client = NatsClient(BufReader::new(stream));
        let greeting = client.line().unwrap();
        assert!(greeting.starts_with("INFO "), "{greeting}");
        client.write(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n");
        client.pong();
        client
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.end();
    }
}

/// A connection of the test's own.
pub struct NatsClient(BufReader<TcpStream>);

impl NatsClient {
    fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Waits until the server has done all that was asked before.
    fn pong(&mut self) {
        self.write(b"PING\r\n");
        while self.line().unwrap() != "PONG" {}
    }

    pub fn subscribe(&mut self, subject: &str) {
        self.write(format!("SUB {subject} 1\r\n").as_bytes());
        self.pong();
    }

    pub fn publish(&mut self, subject: &str, body: &[u8]) {
        self.write(format!("PUB {subject} {}\r\n", body.len()).as_bytes());
        self.write(&[body, b"\r\n"].concat());
        self.pong();
    }

    /// The same with this block of headers, which may be invalid.
    pub fn publish_with(&mut self, subject: &str, headers: &[u8], body: &[u8]) {
        let (head, whole) = (headers.len(), headers.len() + body.len());
        self.write(format!("HPUB {subject} {head} {whole}\r\n").as_bytes());
        self.write(&[headers, body, b"\r\n"].concat());
        self.pong();
    }

    /// The headers and the body of the next message.
    pub fn message(&mut self) -> (String, Vec<u8>) {
        loop {
            let line = self.line().unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            let size = |word: &str| word.parse::<usize>().unwrap();
            let (head, whole) = match words.as_slice() {
                ["HMSG", .., head, whole] => (size(head), size(whole)),
                ["MSG", .., whole] => (0, size(whole)),
                _ => continue,
            };
            let mut bytes = vec![0; whole + 2];
            self.0.read_exact(&mut bytes).unwrap();
            let head = String::from_utf8(bytes.drain(..head).collect()).unwrap();
            bytes.truncate(bytes.len() - 2);
            return (head, bytes);
        }
    }
}
