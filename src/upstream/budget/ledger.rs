//! What each process of an upgrade uses, in a file in memory that all of them have.
//!
//! Each process has a row. It writes what it has taken before it takes more, so the others see it at once. A row ends
//! with its process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// The maximum number of processes. Each takes over from the one before, while the requests of that one end.
const ROWS: usize = 32;
const NUMBER: usize = size_of::<u64>();
const ROW: usize = 3 * NUMBER;
/// The column with the id of the process, 0 if the row is free.
const OWNER: usize = 0;
const BASE: usize = 1;
const TAKEN: usize = 2;

/// What processes use, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// Without their requests.
    pub base: u64,
    /// What their requests have taken.
    pub taken: u64,
}

/// The rows of all processes.
#[derive(Debug)]
pub(super) struct Ledger {
    file: File,
    /// The row of this process.
    own: usize,
}

impl Ledger {
    /// # Errors
    /// The system makes no such file.
    pub(super) fn create() -> io::Result<Ledger> {
        let file = File::from(memfd_create("portcullis-memory", MemfdFlags::CLOEXEC)?);
        file.set_len((ROWS * ROW) as u64)?;
        Ledger::join(file.into())
    }

    /// Takes a row of the file of another process.
    ///
    /// # Errors
    /// None is free, or it is another file.
    pub(super) fn join(file: OwnedFd) -> io::Result<Ledger> {
        let mut ledger = Ledger {
            file: file.into(),
            own: 0,
        };
        let free = ledger.rows()?.into_iter().position(|row| !row.is_in_use());
        ledger.own = free.ok_or_else(|| io::Error::other("too many processes share the memory"))?;
        ledger.write(ledger.own, OWNER, own_id())?;
        Ok(ledger)
    }

    /// The file, for another process.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Sets what this process uses.
    pub(super) fn set(&self, used: Use) {
        self.set_taken(used.taken);
        // A file in memory that has its size cannot fail.
        let _ = self.write(self.own, BASE, used.base);
        // Another process may have freed the row just before this one took it.
        let _ = self.write(self.own, OWNER, own_id());
    }

    /// Sets what its requests have taken.
    pub(super) fn set_taken(&self, taken: u64) {
        let _ = self.write(self.own, TAKEN, taken);
    }

    /// What the requests of the other processes have taken.
    pub(super) fn taken_by_others(&self) -> u64 {
        let rows = self.rows().unwrap_or_default();
        self.others(&rows).map(|(_, row)| row.used.taken).sum()
    }

    /// What the other processes use. `None` if none is left. Frees the rows of those that were killed.
    pub(super) fn others_in_use(&self) -> Option<Use> {
        let rows = self.rows().unwrap_or_default();
        let mut all: Option<Use> = None;
        for (number, row) in self.others(&rows) {
            if row.is_in_use() {
                let sum = all.get_or_insert_default();
                sum.base = sum.base.saturating_add(row.used.base);
                sum.taken = sum.taken.saturating_add(row.used.taken);
            } else {
                self.free(number);
            }
        }
        all
    }

    /// The process with this id has ended, also if its parent has not noticed yet.
    pub(super) fn free_of(&self, id: u64) {
        let rows = self.rows().unwrap_or_default();
        let of = |(number, row): (usize, &Row)| (row.owner == id).then_some(number);
        self.others(&rows)
            .filter_map(of)
            .for_each(|row| self.free(row));
    }

    /// This process ends.
    pub(super) fn leave(&self) {
        self.free(self.own);
    }

    fn free(&self, row: usize) {
        for column in [TAKEN, BASE, OWNER] {
            let _ = self.write(row, column, 0);
        }
    }

    fn others<'r>(&self, rows: &'r [Row]) -> impl Iterator<Item = (usize, &'r Row)> + use<'r> {
        let own = self.own;
        let rows = rows.iter().enumerate();
        rows.filter(move |(number, row)| *number != own && row.owner != 0)
    }

    /// The kernel copies the number as a whole, because it is aligned.
    fn write(&self, row: usize, column: usize, number: u64) -> io::Result<()> {
        let at = row * ROW + column * NUMBER;
        self.file.write_all_at(&number.to_ne_bytes(), at as u64)
    }

    fn rows(&self) -> io::Result<[Row; ROWS]> {
        let mut bytes = [0; ROWS * ROW];
        self.file.read_exact_at(&mut bytes, 0)?;
        let mut rows = [Row::default(); ROWS];
        let (numbers, _) = bytes.as_chunks::<NUMBER>();
        let (numbers, _) = numbers.as_chunks::<{ ROW / NUMBER }>();
        for (row, numbers) in rows.iter_mut().zip(numbers) {
            let [owner, base, taken] = numbers.map(u64::from_ne_bytes);
            let used = Use { base, taken };
            *row = Row { owner, used };
        }
        Ok(rows)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    owner: u64,
    used: Use,
}

impl Row {
    /// Whether its process exists. One that was killed has left its row.
    fn is_in_use(&self) -> bool {
        let id = i32::try_from(self.owner).ok().and_then(Pid::from_raw);
        id.is_some_and(|id| test_kill_process(id) != Err(Errno::SRCH))
    }
}

fn own_id() -> u64 {
    u64::from(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(other: &Ledger) -> Ledger {
        Ledger::join(other.file().try_clone_to_owned().unwrap()).unwrap()
    }

    fn used(base: u64, taken: u64) -> Use {
        Use { base, taken }
    }

    #[test]
    fn each_process_sees_what_the_others_use() {
        let first = Ledger::create().unwrap();
        assert_eq!((first.others_in_use(), first.taken_by_others()), (None, 0));
        let second = joined(&first);
        let third = joined(&second);
        first.set(used(20, 5));
        second.set(used(30, 0));
        second.set_taken(8);
        third.set(used(1, 1));
        assert_eq!(first.others_in_use(), Some(used(31, 9)));
        assert_eq!(second.others_in_use(), Some(used(21, 6)));
        assert_eq!((third.taken_by_others(), second.taken_by_others()), (13, 6));
        second.leave();
        assert_eq!(third.others_in_use(), Some(used(20, 5)));
        // Its row is free for another one, which has taken nothing yet.
        let fourth = joined(&third);
        assert_eq!(fourth.own, second.own);
        assert_eq!(first.others_in_use(), Some(used(1, 1)));
    }

    #[test]
    fn the_row_of_a_process_that_was_killed_does_not_count() {
        let first = Ledger::create().unwrap();
        let second = joined(&first);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        second.set(used(7, 9));
        second.write(1, OWNER, child.id().into()).unwrap();
        child.wait().unwrap();
        assert_eq!((first.others_in_use(), first.taken_by_others()), (None, 0));
        assert_eq!(joined(&first).own, second.own);
        second.write(1, OWNER, 1).unwrap();
        assert!(first.others_in_use().is_some());
        first.free_of(1);
        assert_eq!(first.others_in_use(), None);
    }

    #[test]
    fn there_is_a_bound_and_another_file_is_rejected() {
        let first = Ledger::create().unwrap();
        let all: Vec<Ledger> = (1..ROWS).map(|_| joined(&first)).collect();
        let more = || Ledger::join(first.file().try_clone_to_owned().unwrap());
        assert!(more().is_err());
        all[3].leave();
        assert_eq!(more().unwrap().own, 4);
        assert!(Ledger::join(tempfile::tempfile().unwrap().into()).is_err());
    }
}
