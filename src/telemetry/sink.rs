//! A bounded queue to a writer thread. Who pushes never waits: what does not fit is dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use crate::telemetry::syslog::Syslog;

/// Lines that may wait to be written. At a hundred bytes each, less than a megabyte.
const CAPACITY: usize = 8192;

/// Bytes that may wait to be written: a client decides how long a line is.
const CAPACITY_BYTES: usize = 8 << 20;

/// How much is gathered before it is written out, though more lines wait.
const BATCH_BYTES: usize = 16 * 1024;

/// Where lines go.
pub enum Output {
    Stdout,
    /// Appended to, and opened again on request, for log rotation.
    File(PathBuf),
    /// Each line is one message.
    Syslog(Syslog),
    /// Anything else, for tests.
    Writer(Box<dyn Write + Send>),
}

/// A queue of lines on their way to one [`Output`]. Cloning gives the same queue.
#[derive(Debug, Clone)]
pub struct Sink {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    /// Bytes of the lines in the queue.
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Message {
    /// Whole lines, each with its end.
    Line(Vec<u8>),
    Reopen,
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl Sink {
    /// Opens `output` and starts its writer thread.
    ///
    /// # Errors
    /// When a file cannot be opened or the thread cannot be started.
    pub fn open(output: Output) -> io::Result<Sink> {
        let (queue, lines) = sync_channel(CAPACITY);
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

    /// Hands over one line or more, with their ends. Dropped and counted when the writer is too far behind.
    pub fn push(&self, lines: Vec<u8>) {
        // What is allocated counts, not what is used of it.
        let bytes = lines.capacity();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= CAPACITY_BYTES;
        if !fits || self.queue.try_send(Message::Line(lines)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file again, after a log rotation moved it away.
    pub fn reopen(&self) {
        // A queue that is full stays with the old file; the next request will find room.
        if self.queue.try_send(Message::Reopen).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Pushes dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything pushed before is written, at most `limit`. For the end of the process.
    pub fn flush(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            // Neither a writer that is gone nor one that hangs may keep the process.
            let _ = written.recv_timeout(limit);
        }
    }
}

struct Writer {
    target: Target,
    /// Gathered, not yet written out. Forgotten when that fails: a pipe that broke once stays broken, and what it
    /// did not take must not be tried, nor counted, again.
    batch: Vec<u8>,
    /// How many pushes `batch` is made of.
    pushes: u64,
    dropped: Arc<AtomicU64>,
    waiting: Arc<AtomicUsize>,
}

enum Target {
    Stream(Box<dyn Write + Send>),
    File(PathBuf, File),
    Syslog(Syslog),
}

impl Writer {
    fn open(
        output: Output,
        dropped: Arc<AtomicU64>,
        waiting: Arc<AtomicUsize>,
    ) -> io::Result<Writer> {
        let target = match output {
            Output::Stdout => Target::Stream(Box::new(io::stdout())),
            Output::Writer(writer) => Target::Stream(writer),
            Output::File(path) => {
                let file = append_to(&path)?;
                Target::File(path, file)
            }
            Output::Syslog(syslog) => Target::Syslog(syslog),
        };
        Ok(Writer {
            target,
            batch: Vec::new(),
            pushes: 0,
            dropped,
            waiting,
        })
    }

    /// Writes until nobody can push any more. Lines are written out as soon as the queue is empty.
    fn run(&mut self, lines: &Receiver<Message>) {
        loop {
            let message = match lines.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.write_out();
                    match lines.recv() {
                        Ok(message) => message,
                        Err(_) => break,
                    }
                }
            };
            match message {
                Message::Line(line) => {
                    self.write(&line);
                    self.waiting.fetch_sub(line.capacity(), Ordering::Relaxed);
                }
                Message::Reopen => self.reopen(),
                Message::Flush(done) => {
                    self.write_out();
                    // Whoever asked may have given up.
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
        let written = match &mut self.target {
            Target::Stream(stream) => stream.write_all(&self.batch).and_then(|()| stream.flush()),
            Target::File(_, file) => file.write_all(&self.batch),
            Target::Syslog(_) => Ok(()),
        };
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

    /// A full disk or a reader that went away costs lines, never requests.
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
    fn a_rotated_file_is_opened_again() {
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

    /// A pipe that nobody reads: each write waits for leave.
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
    fn a_pipe_that_nobody_reads_costs_lines_and_nothing_else() {
        let (leave, wait) = mpsc::channel();
        let sink = Sink::open(Output::Writer(Box::new(Stuck(wait)))).unwrap();
        for _ in 0..3 * CAPACITY {
            sink.push(vec![b'x'; 10_000]);
        }
        assert!(sink.dropped() >= CAPACITY as u64);
        drop(leave);
    }

    #[test]
    fn long_lines_wait_within_a_bound_in_bytes() {
        let (leave, wait) = mpsc::channel();
        let sink = Sink::open(Output::Writer(Box::new(Stuck(wait)))).unwrap();
        for _ in 0..100 {
            sink.push(vec![b'x'; 1 << 20]);
            let waiting = sink.waiting.load(Ordering::Relaxed);
            assert!(waiting <= CAPACITY_BYTES, "{waiting}");
        }
        assert!(sink.dropped() >= 90, "{}", sink.dropped());
        drop(leave);
        // The reader went away: what waited is counted as lost, and there is room again.
        sink.flush(LIMIT);
        assert_eq!(sink.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(sink.dropped(), 100);
        sink.push(vec![b'x'; 1 << 20]);
        sink.flush(LIMIT);
        assert_eq!(sink.dropped(), 101);
    }

    #[test]
    fn a_closed_pipe_is_counted() {
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
