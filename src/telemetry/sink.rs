//! A bounded queue to a writer thread. Pushing never blocks: a line that does not fit is dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::time::Duration;

use crate::telemetry::gelf::Gelf;
use crate::telemetry::syslog::Syslog;

/// The maximum number of waiting lines. At a hundred bytes each, less than a megabyte.
const CAPACITY: usize = 8192;

/// The maximum size of waiting lines in bytes, because clients influence the length of a line.
const CAPACITY_BYTES: usize = 8 << 20;

/// What a short line counts as, so that one number limits bytes and lines.
const LEAST_BYTES: usize = CAPACITY_BYTES / CAPACITY;

/// The size at which collected lines are written, even if more are waiting.
const BATCH_BYTES: usize = 16 * 1024;

/// How long the writer lets lines collect after it has written some. To wake it for each line costs more than all the
/// rest that is done for the line.
const PAUSE: Duration = Duration::from_millis(5);

/// The destination of lines.
pub(crate) enum Output {
    Stdout,
    /// Appended to, and reopened on request, for log rotation.
    File(PathBuf),
    /// Each line is one message.
    Syslog(Syslog),
    /// Each push is one message.
    Gelf(Gelf),
    /// Any other writer.
    #[cfg(test)]
    Writer(Box<dyn Write + Send>),
}

/// A queue of lines for one [`Output`]. Clones share the same queue.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    queue: Sender<Message>,
    dropped: Arc<AtomicU64>,
    /// The size of the lines in the queue, which has no limit of its own: it would need its whole memory at once.
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Message {
    /// Complete lines with their line ends.
    Line(Vec<u8>),
    Reopen,
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl Sink {
    /// Opens `output` and starts its writer thread.
    ///
    /// # Errors
    /// A file cannot be opened, or the thread cannot be started.
    pub(crate) fn open(output: Output) -> io::Result<Sink> {
        let (queue, lines) = channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut writer = Writer::open(output, Arc::clone(&dropped), Arc::clone(&waiting))?;
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(&lines))?;
        Ok(Sink {
            queue,
            dropped,
            waiting,
        })
    }

    /// Queues one or more lines with their line ends. They are dropped and counted if the writer is too slow.
    pub(crate) fn push(&self, lines: Vec<u8>) {
        let bytes = weight(&lines);
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= CAPACITY_BYTES;
        if !fits || self.queue.send(Message::Line(lines)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether lines of this many bytes would be queued now. If not, they count as dropped.
    #[cfg(feature = "lua")]
    pub(crate) fn accepts(&self, bytes: usize) -> bool {
        let fits = self.waiting.load(Ordering::Relaxed) + bytes <= CAPACITY_BYTES;
        if !fits {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// Reopens the file, after a log rotation moved it.
    pub(crate) fn reopen(&self) {
        // An error means that the writer has ended.
        let _ = self.queue.send(Message::Reopen);
    }

    /// The number of dropped pushes.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything pushed before is written, at most `limit`. For the end of the process.
    pub(crate) fn flush(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            // Neither an ended nor a blocked writer may delay the end of the process.
            let _ = written.recv_timeout(limit);
        }
    }
}

/// The allocated size counts, not the used size.
fn weight(lines: &Vec<u8>) -> usize {
    lines.capacity().max(LEAST_BYTES)
}

struct Writer {
    target: Target,
    /// Collected lines that are not written yet. They are dropped if writing fails: a broken pipe stays broken, and
    /// its lines must not be written or counted again.
    batch: Vec<u8>,
    /// The number of pushes in `batch`.
    pushes: u64,
    dropped: Arc<AtomicU64>,
    waiting: Arc<AtomicUsize>,
}

enum Target {
    Stream(Box<dyn Write + Send>),
    File(PathBuf, File),
    Syslog(Syslog),
    Gelf(Gelf),
}

impl Target {
    /// Writes lines, which are messages of their own elsewhere.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Target::Stream(stream) => stream.write_all(lines).and_then(|()| stream.flush()),
            Target::File(_, file) => file.write_all(lines),
            Target::Syslog(_) | Target::Gelf(_) => Ok(()),
        }
    }
}

impl Writer {
    fn open(
        output: Output,
        dropped: Arc<AtomicU64>,
        waiting: Arc<AtomicUsize>,
    ) -> io::Result<Writer> {
        let target = match output {
            Output::Stdout => Target::Stream(Box::new(io::stdout())),
            #[cfg(test)]
            Output::Writer(writer) => Target::Stream(writer),
            Output::File(path) => {
                let file = append_to(&path)?;
                Target::File(path, file)
            }
            Output::Syslog(syslog) => Target::Syslog(syslog),
            Output::Gelf(gelf) => Target::Gelf(gelf),
        };
        Ok(Writer {
            target,
            batch: Vec::new(),
            pushes: 0,
            dropped,
            waiting,
        })
    }

    /// Writes until the queue is closed. A line is written at once if none was for a moment, and otherwise with those
    /// that follow soon.
    #[expect(
        clippy::disallowed_methods,
        reason = "the writer has a thread of its own"
    )]
    fn run(&mut self, lines: &Receiver<Message>) {
        let mut wrote = false;
        loop {
            let message = match lines.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.write_out();
                    if std::mem::take(&mut wrote) {
                        std::thread::sleep(PAUSE);
                        continue;
                    }
                    match lines.recv() {
                        Ok(message) => message,
                        Err(_) => break,
                    }
                }
            };
            match message {
                Message::Line(line) => {
                    self.write(&line);
                    wrote = true;
                    self.waiting.fetch_sub(weight(&line), Ordering::Relaxed);
                }
                Message::Reopen => self.reopen(),
                Message::Flush(done) => {
                    self.write_out();
                    // The caller may no longer be waiting.
                    let _ = done.send(());
                }
            }
        }
        self.write_out();
    }

    fn write(&mut self, line: &[u8]) {
        if let Target::Syslog(syslog) = &mut self.target {
            let sent = syslog.send(line);
            return self.count(sent, 1);
        }
        if let Target::Gelf(gelf) = &mut self.target {
            let sent = gelf.send(line);
            return self.count(sent, 1);
        }
        if line.len() >= BATCH_BYTES {
            self.write_out();
            let written = self.target.write(line);
            return self.count(written, 1);
        }
        self.batch.extend_from_slice(line);
        self.pushes += 1;
        if self.batch.len() >= BATCH_BYTES {
            self.write_out();
        }
    }

    fn write_out(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let written = self.target.write(&self.batch);
        self.count(written, self.pushes);
        self.batch.clear();
        self.batch.shrink_to(2 * BATCH_BYTES);
        self.pushes = 0;
    }

    fn reopen(&mut self) {
        self.write_out();
        let Target::File(path, file) = &mut self.target else {
            return;
        };
        let reopened = append_to(path).map(|new| *file = new);
        self.count(reopened, 1);
    }

    /// A full disk or a closed pipe loses lines, never requests.
    fn count(&self, result: io::Result<()>, pushes: u64) {
        if result.is_err() {
            self.dropped.fetch_add(pushes, Ordering::Relaxed);
        }
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_rotated_file_is_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        let sink = Sink::open(Output::File(path.clone())).unwrap();
        sink.push(b"one\n".to_vec());
        sink.flush(LIMIT);
        std::fs::rename(&path, &old).unwrap();
        sink.reopen();
        sink.push(b"two\n".to_vec());
        sink.flush(LIMIT);
        assert_eq!(std::fs::read_to_string(old).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "two\n");
        assert_eq!(sink.dropped(), 0);
    }

    /// A pipe without a reader: each write waits for permission.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_without_a_reader_loses_only_lines() {
        let (leave, wait) = mpsc::channel();
        let sink = Sink::open(Output::Writer(Box::new(Stuck(wait)))).unwrap();
        for _ in 0..3 * CAPACITY {
            sink.push(vec![b'x'; 10_000]);
        }
        assert!(sink.dropped() >= CAPACITY as u64);
        drop(leave);
    }

    #[test]
    fn short_lines_are_limited_in_number() {
        let (leave, wait) = mpsc::channel();
        let sink = Sink::open(Output::Writer(Box::new(Stuck(wait)))).unwrap();
        for _ in 0..2 * CAPACITY {
            sink.push(vec![b'x'; 10]);
        }
        // The writer has taken some of them.
        let lost = usize::try_from(sink.dropped()).unwrap();
        let taken = BATCH_BYTES / 10 + 1;
        assert!((CAPACITY - taken..=CAPACITY).contains(&lost), "{lost}");
        drop(leave);
    }

    #[test]
    fn waiting_lines_are_limited_in_bytes() {
        let (leave, wait) = mpsc::channel();
        let sink = Sink::open(Output::Writer(Box::new(Stuck(wait)))).unwrap();
        for _ in 0..100 {
            sink.push(vec![b'x'; 1 << 20]);
            let waiting = sink.waiting.load(Ordering::Relaxed);
            assert!(waiting <= CAPACITY_BYTES, "{waiting}");
        }
        assert!(sink.dropped() >= 90, "{}", sink.dropped());
        drop(leave);
        // The reader closed the pipe: the waiting lines are counted as lost, and there is space again.
        sink.flush(LIMIT);
        assert_eq!(sink.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(sink.dropped(), 100);
        sink.push(vec![b'x'; 1 << 20]);
        sink.flush(LIMIT);
        assert_eq!(sink.dropped(), 101);
    }

    #[cfg(feature = "lua")]
    #[test]
    fn a_line_that_would_not_fit_counts_as_dropped_before_it_is_made() {
        let (_leave, wait) = mpsc::channel();
        let sink = Sink::open(Output::Writer(Box::new(Stuck(wait)))).unwrap();
        assert!(sink.accepts(CAPACITY_BYTES));
        sink.push(vec![b'x'; CAPACITY_BYTES]);
        assert!(!sink.accepts(1));
        assert_eq!(sink.dropped(), 1);
    }

    #[test]
    fn lines_to_a_closed_pipe_are_counted() {
        let (leave, wait) = mpsc::channel();
        drop(leave);
        let sink = Sink::open(Output::Writer(Box::new(Stuck(wait)))).unwrap();
        for lost in 1..=3 {
            sink.push(b"lost\n".to_vec());
            sink.flush(LIMIT);
            assert_eq!(sink.dropped(), lost);
        }
    }
}
