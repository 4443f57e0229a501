//! Reads files for requests: on a small number of threads, and for a short time each.
//!
//! Many clients may ask for large files at once, and a disk may hang. A thread for each of them would take more memory
//! than the files. So each read waits for a turn, which holds no thread, and a client that does not read has no turn.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use once_cell::sync::Lazy;
use tokio::sync::Semaphore;

use crate::runtime::failure::{Failure, Kind};
use crate::upstream::budget::{Budget, Charge, FREE};
use crate::upstream::large_buffer::LargeBuffer;
use crate::upstream::processors;

/// The size of one piece of a file.
const PIECE: usize = 64 * 1024;
/// How much of a file that is needed whole is read in one turn.
const STEP: usize = 1 << 20;

/// The number of concurrent reads. Reads from the page cache keep a processor busy; others wait for a disk.
static TURNS: Lazy<Semaphore> =
    Lazy::new(|| Semaphore::new((2 * processors::granted()).clamp(4, 32)));

/// Does short work with files on a thread for blocking work, when it is its turn. The caller limits the time. Work that
/// the caller no longer waits for keeps its turn until it ends.
///
/// # Errors
/// The thread could not do its work.
pub(crate) async fn in_turn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let turn = TURNS.acquire().await.map_err(|_| unreadable())?;
    let working = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    working.await.map_err(|_| unreadable())
}

/// Reads a file that is needed whole, from its current position. It is charged until its last copy is dropped.
///
/// # Errors
/// The process holds too many bytes, or the file cannot be read, which is logged.
pub(crate) async fn read_whole(mut file: File, length: u64) -> Result<Bytes, Failure> {
    let size = usize::try_from(length).map_err(|_| unreadable())?;
    let mut charge = Budget::process().charge();
    charge.cover(size).map_err(|_| Failure::full())?;
    let mut body = LargeBuffer::new(size);
    while body.len() < size {
        let step = STEP.min(size - body.len());
        let reading = move || {
            let read = read_large(&mut file, &mut body, step);
            (read, file, body)
        };
        let read;
        (read, file, body) = in_turn(reading).await?;
        read.map_err(|error| {
            log::error!("[SERVICE: Gateway] a file cannot be read: {error}");
            unreadable()
        })?;
    }
    Ok(charge.hold(body.into_bytes()))
}

/// Reads the next piece of a file of which `left` bytes are left, charged until its last copy is dropped. The piece is
/// small if half of the budget is used. This belongs on a thread for blocking work.
///
/// # Errors
/// The file cannot be read, or it is shorter than it was.
pub(crate) fn read_piece(file: &mut File, left: u64) -> io::Result<Bytes> {
    let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
    let mut charge = Budget::process().charge();
    let size = if most <= FREE || charge.reserve(most) {
        most
    } else {
        FREE
    };
    read_charged(file, size, charge)
}

/// Reads a small file at once. `None` if half of the budget is used. This belongs on a thread for blocking work.
///
/// # Errors
/// The file cannot be read, or it is shorter than it was.
pub(crate) fn read_small(file: &mut File, length: u64) -> io::Result<Option<Bytes>> {
    let size = usize::try_from(length).map_err(io::Error::other)?;
    let mut charge = Budget::process().charge();
    if size > FREE && !charge.reserve(size) {
        return Ok(None);
    }
    read_charged(file, size, charge).map(Some)
}

fn read_charged(file: &mut File, size: usize, charge: Charge) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(size);
    read_into(file, &mut bytes, size)?;
    Ok(charge.hold(Bytes::from(bytes)))
}

/// Appends exactly `size` bytes.
fn read_large(file: &mut File, into: &mut LargeBuffer, size: usize) -> io::Result<()> {
    let read = io::copy(&mut file.take(size as u64), into)?;
    if read < size as u64 {
        return Err(truncated());
    }
    Ok(())
}

/// Appends exactly `size` bytes.
fn read_into(file: &mut File, into: &mut Vec<u8>, size: usize) -> io::Result<()> {
    let read = file.take(size as u64).read_to_end(into)?;
    if read < size {
        return Err(truncated());
    }
    Ok(())
}

fn truncated() -> io::Error {
    io::Error::other("it was truncated while it was read")
}

fn unreadable() -> Failure {
    Failure::new(Kind::Rejected, "a file could not be read")
}
