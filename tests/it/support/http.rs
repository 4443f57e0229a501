//! A client that sends raw bytes and parses responses strictly.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// The time in which a read or write must make progress. Only a connection that hangs exceeds it.
const LONG: Duration = Duration::from_secs(40);

/// A response as it was received.
#[derive(Debug, Clone, Default)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, values as Latin-1 bytes, both in the received order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header with `name` (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("the body is not JSON ({e}): {:?}", self.text()))
    }

    fn is(&self, name: &str, word: &str) -> bool {
        let Some(value) = self.header(name) else {
            return false;
        };
        value
            .split(',')
            .any(|w| w.trim().eq_ignore_ascii_case(word))
    }
}

/// One connection.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LONG))?;
        stream.set_write_timeout(Some(LONG))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// The other end of an accepted connection.
    pub fn over(stream: TcpStream) -> Self {
        Self {
            reader: BufReader::new(stream),
        }
    }

    /// Reads one complete request: its first line, its headers with names in lower case, its body.
    pub fn request(
        &mut self,
    ) -> io::Result<(String, std::collections::BTreeMap<String, String>, Vec<u8>)> {
        let first = self.line()?;
        let mut headers = std::collections::BTreeMap::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.insert(name.trim().to_lowercase(), value.trim().to_owned());
        }
        let length = headers
            .get("content-length")
            .and_then(|text| text.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.reader.read_exact(&mut body)?;
        if headers
            .get("transfer-encoding")
            .is_some_and(|value| value == "chunked")
        {
            while let Some(chunk) = self.chunk()? {
                body.extend_from_slice(&chunk);
            }
        }
        Ok((first, headers, body))
    }

    /// The timeout of reads; a test that expects silence makes it short.
    pub fn timeout(self, time: Duration) -> Self {
        self.reader.get_ref().set_read_timeout(Some(time)).unwrap();
        self
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Closes the sending side, and continues to read.
    pub fn finish_sending(&self) {
        let _ = self.reader.get_ref().shutdown(Shutdown::Write);
    }

    /// Reads status line and headers; informational responses except 100 are also returned.
    pub fn head(&mut self) -> io::Result<Response> {
        loop {
            let response = self.any_head()?;
            if response.status != 100 {
                return Ok(response);
            }
        }
    }

    /// Reads one status line and its headers, also of a `100 Continue`.
    pub fn any_head(&mut self) -> io::Result<Response> {
        let line = self.line()?;
        let mut words = line.splitn(3, ' ');
        let (version, status) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if !version.starts_with("HTTP/1.") {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("no status line: {line:?}"),
            ));
        }
        let status = status
            .parse()
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("no status: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Response {
                    status,
                    headers,
                    body: Vec::new(),
                });
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((
                name.to_ascii_lowercase(),
                value.trim_start_matches([' ', '\t']).to_owned(),
            ));
        }
    }

    /// Reads a complete response to a request of `method`. It is an error if the response is incomplete.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.head()?;
        response.body = self.body(&response, method)?;
        Ok(response)
    }

    /// Reads the body that belongs to `head`.
    pub fn body(&mut self, head: &Response, method: &str) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
            return Ok(body);
        }
        if head.is("transfer-encoding", "chunked") {
            while let Some(chunk) = self.chunk()? {
                body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = head.header("content-length") {
            let length = length
                .trim()
                .parse()
                .map_err(|_| io::Error::new(ErrorKind::InvalidData, "no length"))?;
            body.resize(length, 0);
            self.reader.read_exact(&mut body)?;
        } else {
            self.reader.read_to_end(&mut body)?;
        }
        Ok(body)
    }

    /// Reads one chunk of a chunked body; `None` is its regular end.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or("").trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| {
            io::Error::new(ErrorKind::InvalidData, format!("no chunk size: {line:?}"))
        })?;
        if size == 0 {
            while !self.line()?.is_empty() {}
            return Ok(None);
        }
        let mut data = vec![0; size + 2];
        self.reader.read_exact(&mut data)?;
        data.truncate(size);
        Ok(Some(data))
    }

    /// Reads up to `buffer.len()` bytes as they are, with the framing.
    pub fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.reader.read(buffer) {
                // A process that was stopped continues.
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    pub fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(buffer)
    }

    /// Reads everything until the other side closes; a reset counts as a close.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Err(e) if e.kind() != ErrorKind::ConnectionReset => Err(e),
            _ => Ok(rest),
        }
    }

    /// Whether the other side closes (or resets) without another byte.
    pub fn is_closed_by_peer(&mut self) -> bool {
        matches!(self.rest(), Ok(rest) if rest.is_empty())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line.into_iter().map(char::from).collect())
    }
}

/// The bytes of a request without a body, with a `Host` and these headers.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n"
}
