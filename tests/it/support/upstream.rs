//! A backend whose behaviour is code, for what routes cannot describe: partial responses, slow bodies, aborts.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One accepted connection; the head of its first request is already read.
pub struct Call {
    /// Request line and headers as received, without the empty line.
    pub head: String,
    pub reader: BufReader<TcpStream>,
}

impl Call {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Sends `data` as one chunk.
    pub fn chunk(&mut self, data: &str) -> io::Result<()> {
        self.send(format!("{:x}\r\n{data}\r\n", data.len()))
    }

    /// Reads the body of the request, however it is framed.
    pub fn body(&mut self) -> io::Result<Vec<u8>> {
        let head = self.head.to_lowercase();
        if head.contains("transfer-encoding: chunked") {
            let mut body = Vec::new();
            loop {
                let mut line = String::new();
                self.reader.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16)
                    .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, line))?;
                let start = body.len();
                body.resize(start + size + 2, 0);
                self.reader.read_exact(&mut body[start..])?;
                body.truncate(start + size);
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
        let mut body = vec![0; length.and_then(|l| l.trim().parse().ok()).unwrap_or(0)];
        self.reader.read_exact(&mut body)?;
        Ok(body)
    }

    /// Waits until the caller has closed the connection; true if it has.
    pub fn sees_hang_up(&mut self, limit: Duration) -> bool {
        let _ = self.reader.get_ref().set_read_timeout(Some(limit));
        loop {
            match self.reader.fill_buf() {
                Ok([]) => return true,
                Ok(more) => {
                    let n = more.len();
                    self.reader.consume(n);
                }
                // A process that was stopped continues.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}

/// The running backend.
pub struct Upstream {
    port: u16,
    calls: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
}

impl Upstream {
    /// Calls `handler` for each connection whose first request head has arrived.
    ///
    /// The connection closes when the handler returns. Its response should announce that (`Connection: close`) if a
    /// POST may follow: the gateway does not repeat a POST that arrives on a closing connection.
    pub fn start(handler: impl Fn(Call) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (calls, heads) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let stopped = Arc::new(AtomicBool::new(false));
        let (handler, count, seen, stop) = (
            Arc::new(handler),
            calls.clone(),
            heads.clone(),
            stopped.clone(),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, count, seen) = (handler.clone(), count.clone(), seen.clone());
                std::thread::spawn(move || {
                    let _ = stream.set_nodelay(true);
                    let mut reader = BufReader::new(stream);
                    let Ok(head) = read_head(&mut reader) else {
                        return;
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                    seen.lock().unwrap().push(head.clone());
                    let _ = handler(Call { head, reader });
                });
            }
        });
        Self {
            port,
            calls,
            heads,
            stopped,
        }
    }

    /// Responds to every request with these bytes and closes.
    pub fn raw(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(move |mut call| call.send(&response))
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many requests (first ones of a connection) have arrived.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// The heads of those requests.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut head = String::new();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line)?;
        match line.as_slice() {
            [] => return Err(io::ErrorKind::UnexpectedEof.into()),
            b"\r\n" | b"\n" => return Ok(head),
            line => head.push_str(&String::from_utf8_lossy(line)),
        }
    }
}
