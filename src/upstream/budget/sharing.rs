//! How two processes divide the memory during an upgrade.
//!
//! Both have a limit, and the limits of both together never exceed the memory. What is free is divided equally, again
//! whenever much of it was taken or freed: so each of both can take nearly all that the other does not need. The new
//! process decides. A limit is lowered, and that is confirmed, before the other one is raised.

use std::fmt;
use std::str::FromStr;

/// The minimum memory of a process without traffic, including its threads.
const IDLE: u64 = 40 << 20;

/// Smaller changes are not worth a message.
const STEP: u64 = 1 << 20;

/// What is known about the memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sharing {
    /// The memory that the system grants.
    pub available: u64,
    /// What the process uses without traffic. 0 before that is known.
    pub own: u64,
    /// The maximum that the processes use from which this one took over.
    pub others: u64,
    /// The limit that leaves a successor its part.
    pub cap: Option<u64>,
}

impl Sharing {
    pub(super) const UNKNOWN: Sharing = Sharing {
        available: 0,
        own: 0,
        others: 0,
        cap: None,
    };

    /// What may be taken of the memory. It is what remains after the memory that the process uses itself. An eighth is
    /// for what is not counted, and for pages that the allocator keeps. A quarter is granted in any case: a configuration
    /// that leaves less may run at its own risk. It is a sixteenth as long as another process ends.
    pub(super) fn granted(&self) -> u64 {
        let used = self.base().saturating_add(self.others);
        let part = if self.others == 0 { 4 } else { 16 };
        let left = self
            .usable()
            .saturating_sub(used)
            .max(self.available / part);
        left.min(self.cap.unwrap_or(u64::MAX))
    }

    /// The limit while a new process starts: what it needs itself is left to it.
    pub(super) fn before_successor(&self) -> u64 {
        self.for_both(self.base()).max(self.available / 8)
    }

    /// The limit when it has started, until it decides: half of what is left, if it uses `successor` without traffic.
    pub(super) fn beside_successor(&self, successor: u64, taken: u64) -> u64 {
        let both = self.for_both(successor.max(IDLE));
        taken + (both.saturating_sub(taken) / 2).max(self.available / 32)
    }

    /// What this process and its successor may take together.
    fn for_both(&self, successor: u64) -> u64 {
        let used = self.base().saturating_add(successor);
        self.usable()
            .saturating_sub(used.saturating_add(self.others))
    }

    /// The limit of the process from which this one takes over: half of what is free, if this one has taken `taken`.
    /// `None` if this process is itself being replaced.
    fn limit_of_old(&self, old: &Report, taken: u64) -> Option<u64> {
        let used = self.base() + old.base;
        let free = self.usable().saturating_sub(used + old.taken + taken);
        self.cap.is_none().then_some(old.taken + free / 2)
    }

    /// The state for the process that takes over. The system may not have got back yet what is no longer taken, so it
    /// may count more as `resident`.
    pub(super) fn report(&self, taken: u64, resident: u64, number: u64) -> Report {
        let base = self.base().max(resident.saturating_sub(taken));
        Report {
            base: base.saturating_add(self.others),
            limit: self.granted().max(taken),
            taken,
            number,
        }
    }

    /// Whether the memory has no space for a process that takes over, although it would have if no request used any.
    pub(super) fn must_wait(&self, taken: u64, resident: u64) -> bool {
        let needed = |resident: u64| resident + self.own + self.others > self.usable();
        needed(resident) && !needed(resident.saturating_sub(taken).max(self.own))
    }

    fn base(&self) -> u64 {
        self.own.max(IDLE)
    }

    fn usable(&self) -> u64 {
        self.available - self.available / 8
    }
}

/// What an old process tells the new one: `memory` and four numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// What it uses without its requests, and what those before it use.
    base: u64,
    /// What its requests may take.
    limit: u64,
    /// What they have taken.
    taken: u64,
    /// The number of the last [`Decision`] that it follows.
    number: u64,
}

impl Report {
    /// Whether the new process would decide the same after both reports.
    pub(crate) fn is_like(&self, other: &Report) -> bool {
        let parts = |all: &Report| [all.base, all.limit, all.taken].map(|bytes| bytes / STEP);
        self.number == other.number && parts(self) == parts(other)
    }

    /// What its requests may take.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The most that it uses.
    #[cfg(test)]
    fn most(&self) -> u64 {
        self.base.saturating_add(self.limit)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            base,
            limit,
            taken,
            number,
        } = self;
        write!(f, "memory {base} {limit} {taken} {number}")
    }
}

impl FromStr for Report {
    type Err = ();

    fn from_str(line: &str) -> Result<Report, ()> {
        let [base, limit, taken, number] = numbers(line, "memory")?;
        Ok(Report {
            base,
            limit,
            taken,
            number,
        })
    }
}

/// What the new process tells the old one: `limit` and two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    number: u64,
    limit: u64,
}

impl Decision {
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Decisions are numbered from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit {} {}", self.number, self.limit)
    }
}

impl FromStr for Decision {
    type Err = ();

    fn from_str(line: &str) -> Result<Decision, ()> {
        let [number, limit] = numbers(line, "limit")?;
        Ok(Decision { number, limit })
    }
}

fn numbers<const COUNT: usize>(line: &str, word: &str) -> Result<[u64; COUNT], ()> {
    let mut fields = line.split_ascii_whitespace();
    if fields.next() != Some(word) {
        return Err(());
    }
    let numbers: Result<Vec<u64>, ()> = fields.map(|text| text.parse().map_err(|_| ())).collect();
    numbers?.try_into().map_err(|_| ())
}

/// The decisions about the limit of an old process.
#[derive(Debug, Default)]
pub(crate) struct Division {
    number: u64,
    /// The highest limit that the old process may have now.
    highest: u64,
}

impl Division {
    /// What to leave to the old process after its report, and what to tell it after that.
    pub(super) fn decide(
        &mut self,
        sharing: &Sharing,
        old: &Report,
        taken: u64,
    ) -> (u64, Option<Decision>) {
        self.highest = if old.number == self.number {
            old.limit
        } else {
            self.highest.max(old.limit)
        };
        let limit = sharing.limit_of_old(old, taken);
        let limit = limit.filter(|limit| limit.abs_diff(self.highest) >= STEP);
        let decision = limit.map(|limit| {
            self.number += 1;
            self.highest = self.highest.max(limit);
            Decision {
                number: self.number,
                limit,
            }
        });
        (old.base.saturating_add(self.highest), decision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn alone(available: u64, own: u64) -> Sharing {
        Sharing {
            available: available * MIB,
            own: own * MIB,
            ..Sharing::UNKNOWN
        }
    }

    #[test]
    fn memory_that_the_process_uses_itself_is_not_granted() {
        let left = |available, own| alone(available, own).granted() / MIB;
        assert_eq!(left(256, 20), 184);
        assert_eq!(left(256, 100), 124);
        assert_eq!(left(256, 300), 64);
    }

    #[test]
    fn a_process_that_is_to_be_replaced_leaves_only_what_the_new_one_needs_itself() {
        assert_eq!(alone(256, 20).before_successor() / MIB, 144);
        assert_eq!(alone(256, 60).before_successor() / MIB, 104);
        assert_eq!(alone(256, 100).before_successor() / MIB, 32);
        assert_eq!(alone(256, 40).beside_successor(20 * MIB, 0) / MIB, 72);
        let taken = alone(256, 40).beside_successor(20 * MIB, 100 * MIB);
        assert_eq!(taken / MIB, 122);
        assert_eq!(
            alone(256, 90).beside_successor(90 * MIB, 50 * MIB) / MIB,
            58
        );
    }

    /// Two processes that exchange their messages in order, but late.
    struct Both {
        old: Sharing,
        new: Sharing,
        division: Division,
        reports: Vec<Report>,
        decisions: Vec<Decision>,
        number: u64,
        /// What each of both has taken.
        taken: [u64; 2],
    }

    impl Both {
        fn begin(own: u64, taken: u64) -> Both {
            let (mut old, mut new) = (alone(256, own), alone(256, own));
            old.cap = Some(old.beside_successor(own * MIB, taken));
            let first = old.report(taken, own * MIB + taken, 0);
            new.others = first.most();
            Both {
                old,
                new,
                division: Division::default(),
                reports: vec![first],
                decisions: Vec::new(),
                number: 0,
                taken: [taken, 0],
            }
        }

        fn old_reads(&mut self) {
            if !self.decisions.is_empty() {
                let decision = self.decisions.remove(0);
                self.old.cap = Some(decision.limit());
                self.number = decision.number();
            }
            let taken = self.taken[0];
            let report = self.old.report(taken, self.old.own + taken, self.number);
            self.reports.push(report.to_string().parse().unwrap());
        }

        fn new_reads(&mut self) {
            if self.reports.is_empty() {
                return;
            }
            let report = self.reports.remove(0);
            let (others, decision) = self.division.decide(&self.new, &report, self.taken[1]);
            self.new.others = others;
            let sent = |decision: Decision| decision.to_string().parse().unwrap();
            let decision: Option<Decision> = decision.map(sent);
            self.decisions.extend(decision);
        }

        /// The sum of what both use without traffic, and the higher of limit and use.
        fn most(&self) -> u64 {
            let (old, new) = (self.old.granted(), self.new.granted());
            let bases = self.old.base() + self.new.base();
            bases + old.max(self.taken[0]) + new.max(self.taken[1])
        }

        fn settle(&mut self) {
            for _ in 0..40 {
                self.new_reads();
                self.old_reads();
            }
        }
    }

    #[test]
    fn each_of_both_can_take_what_the_other_does_not_need() {
        let mut both = Both::begin(40, 0);
        both.settle();
        let limits = |both: &Both| [both.old.granted() / MIB, both.new.granted() / MIB];
        assert_eq!(limits(&both), [72, 72]);
        both.taken = [60 * MIB, 0];
        both.settle();
        assert_eq!(limits(&both), [102, 42]);
        both.taken = [100 * MIB, 0];
        both.settle();
        assert_eq!(limits(&both), [122, 22]);
        both.taken = [0, 16 * MIB];
        both.settle();
        assert_eq!(limits(&both), [64, 80]);
        both.taken = [4 * MIB, 80 * MIB];
        both.settle();
        both.taken = [4 * MIB, 110 * MIB];
        both.settle();
        assert_eq!(limits(&both), [19, 125]);
        // Freed memory that the system does not have back yet is not free.
        let report = both.old.report(4 * MIB, 144 * MIB, both.number);
        assert_eq!(report.base / MIB, 140);
    }

    proptest::proptest! {
        /// Whatever both take, and however late their messages are.
        #[test]
        fn both_stay_within_the_memory(
            own in 20_u64..50,
            begin in 0_u64..100,
            steps in proptest::collection::vec((0_u8..6, 0_u64..160), 0..400),
        ) {
            let mut both = Both::begin(own, begin * MIB);
            for (step, bytes) in steps {
                match step {
                    0 | 1 => both.old_reads(),
                    2 | 3 => both.new_reads(),
                    4 => both.taken[0] = (bytes * MIB).min(both.old.granted()),
                    _ => both.taken[1] = (bytes * MIB).min(both.new.granted()),
                }
                // The new one may always use a sixteenth.
                proptest::prop_assert!(both.most() <= (224 + 16) * MIB);
                if both.new.granted() > 16 * MIB && both.taken[1] <= both.new.granted() {
                    proptest::prop_assert!(both.most() <= 224 * MIB);
                }
            }
        }
    }

    #[test]
    fn a_third_process_learns_about_both() {
        let mut second = alone(256, 40);
        second.others = 50 * MIB;
        second.cap = Some(8 * MIB);
        let report = second.report(4 * MIB, 44 * MIB, 0);
        assert_eq!((report.base / MIB, report.most() / MIB), (90, 98));
        // It no longer decides about the first.
        let mut division = Division::default();
        let first = alone(256, 40).report(MIB, 41 * MIB, 0);
        let (others, decision) = division.decide(&second, &first, 4 * MIB);
        assert_eq!((others, decision), (first.most(), None));
    }

    #[test]
    fn lines_of_another_form_are_ignored() {
        assert!("memory 1 2 3 4\n".parse::<Report>().is_ok());
        for line in [
            "memory 1 2 3",
            "memory 1 2 3 4 5",
            "memory 1 2 3 -4",
            "limit 1 2 3 4",
            "",
        ] {
            assert!(line.parse::<Report>().is_err(), "{line}");
        }
        assert!("limit 1 2".parse::<Decision>().is_ok());
        assert!("limit 1".parse::<Decision>().is_err());
    }

    #[test]
    fn an_upgrade_waits_only_for_what_requests_hold() {
        let waits = |own, taken: u64| {
            let resident = (own + taken) * MIB;
            alone(256, own).must_wait(taken * MIB, resident)
        };
        assert!(!waits(20, 100) && !waits(20, 184));
        assert!(waits(20, 190) && waits(100, 124) && !waits(100, 20));
        assert!(!waits(150, 50), "it would never end");
    }
}
