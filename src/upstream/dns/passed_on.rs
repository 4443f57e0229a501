//! The addresses that a process passes to the one that takes over from it: it serves although names cannot be looked up.
//!
//! | kind | of | value |
//! |---|---|---|
//! | `addresses` | the host name | its addresses, one in each line |
//! | `targets` | the SRV name | its targets as `port host`, one in each line |

use std::sync::Arc;

use super::srv::SrvTarget;
use super::table::DnsTable;
use crate::upstream::passed::{self, Lines, write_text};

const ADDRESSES: &str = "addresses";
const TARGETS: &str = "targets";

impl DnsTable {
    /// The result of the last successful lookup of each name, a line for each (see `passed`).
    pub(in crate::upstream) fn give(&self) -> String {
        let mut text = String::new();
        let mut left_out = 0;
        for name in self.names_in_use() {
            let response = name.response();
            if !response.fixed && !response.addresses.is_empty() {
                let lines: Vec<_> = response.addresses.iter().map(ToString::to_string).collect();
                let lines = lines.join("\n");
                left_out += usize::from(!write_text(&mut text, ADDRESSES, &name.host(), lines));
            }
        }
        for service in self.services_in_use() {
            if let Some(targets) = service.targets.load().as_deref() {
                let line = |target: &SrvTarget| format!("{} {}", target.port, target.host);
                let lines = targets.iter().map(line).collect::<Vec<_>>().join("\n");
                left_out += usize::from(!write_text(&mut text, TARGETS, &service.name(), lines));
            }
        }
        passed::warn_left_out(left_out, "[SERVICE: Gateway]", "addresses of names");
        text
    }

    /// Uses what another process has found, for names that have no result yet. They are looked up soon in any case.
    pub(in crate::upstream) fn take(&self, given: &str) {
        let lines = Lines::new(given, ADDRESSES);
        for name in self.names_in_use() {
            if name.response().addresses.is_empty() {
                let text = lines.text(&name.host());
                name.keep(text.lines().filter_map(|line| line.parse().ok()).collect());
            }
        }
        let lines = Lines::new(given, TARGETS);
        for service in self.services_in_use() {
            let text = lines.text(&service.name());
            let targets: Vec<SrvTarget> = text.lines().filter_map(target).collect();
            if service.targets.load().is_none() && !targets.is_empty() {
                service.targets.store(Some(Arc::new(targets)));
            }
        }
    }
}

fn target(line: &str) -> Option<SrvTarget> {
    let (port, host) = line.split_once(' ')?;
    Some(SrvTarget {
        host: host.into(),
        port: port.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_that_were_found_are_known_before_their_first_lookup() {
        let (old, new) = (DnsTable::with_resolver(None), DnsTable::with_resolver(None));
        let addresses: Vec<IpAddr> = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let minute = Duration::from_secs(60);
        let target = SrvTarget {
            host: "b.test".into(),
            port: 8080,
        };
        let (name, unknown) = (old.name("a.test"), old.name("unknown.test"));
        name.keep(addresses.clone());
        let service = old.service("_http._tcp.a.test", minute);
        service.targets.store(Some(Arc::new(vec![target.clone()])));
        let literal = old.name("127.0.0.1");
        let given = old.give();
        assert_eq!(given.lines().count(), 2, "{given}");
        let (name, known) = (new.name("a.test"), new.name("c.test"));
        known.keep(vec![[192, 0, 2, 3].into()]);
        let service = new.service("_http._tcp.a.test", minute);
        new.take(&given);
        new.take("addresses x\ntargets y 0 - z");
        assert_eq!(*name.response().addresses, *addresses);
        assert_eq!(known.response().addresses.len(), 1);
        assert_eq!(service.targets.load().as_deref(), Some(&vec![target]));
        drop((unknown, literal));
    }
}
