//! A set of networks that is searched in logarithmic time.

use std::net::IpAddr;

use ipnet::IpNet;

/// Sorted ranges of addresses that neither overlap nor touch.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    /// The set of all addresses in `networks`. IPv4 addresses that are written as IPv6 (`::ffff:a.b.c.d`) count as IPv4.
    pub(crate) fn new(networks: impl IntoIterator<Item = IpNet>) -> Networks {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match (
                network.network().to_canonical(),
                network.broadcast().to_canonical(),
            ) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.into(), last.into())),
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    v6.push((u128::from(first), u128::from(last)));
                }
                // A network is wholly within the mapped addresses or not: both ends are of one kind.
                _ => {}
            }
        }
        Networks {
            v4: merged(v4, |last| last.checked_add(1)),
            v6: merged(v6, |last| last.checked_add(1)),
        }
    }

    /// Whether `address` is in one of the networks.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_in(&self.v4, u32::from(address)),
            IpAddr::V6(address) => is_in(&self.v6, u128::from(address)),
        }
    }
}

fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if next(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

fn is_in<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after
        .checked_sub(1)
        .and_then(|index| ranges.get(index))
        .is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::new(texts.iter().map(|text| text.parse::<IpNet>().unwrap()))
    }

    fn contains(networks: &Networks, address: &str) -> bool {
        networks.contains(address.parse().unwrap())
    }

    #[test]
    fn ranges_are_merged_and_include_their_ends() {
        let set = networks(&[
            "10.0.0.0/25",
            "10.0.0.128/25",
            "10.0.0.7/32",
            "255.255.255.255/32",
            "10.0.0.0/25",
        ]);
        assert_eq!(set.v4.len(), 2);
        for (address, inside) in [
            ("10.0.0.0", true),
            ("10.0.0.255", true),
            ("10.0.1.0", false),
            ("9.255.255.255", false),
            ("255.255.255.255", true),
            ("255.255.255.254", false),
        ] {
            assert_eq!(contains(&set, address), inside, "{address}");
        }
        assert!(contains(&networks(&["0.0.0.0/0"]), "1.2.3.4"));
        assert!(!contains(&Networks::default(), "1.2.3.4"));
    }

    #[test]
    fn mapped_addresses_are_compared_as_ipv4() {
        assert!(contains(&networks(&["10.0.0.0/8"]), "::ffff:10.1.2.3"));
        assert!(contains(&networks(&["::ffff:10.0.0.0/104"]), "10.1.2.3"));
        assert!(!contains(&networks(&["::/0"]), "10.1.2.3"));
        assert!(contains(&networks(&["2001:db8::/32"]), "2001:db8::1"));
        assert!(!contains(&networks(&["2001:db8::/32"]), "2001:db9::1"));
    }

    proptest! {
        #[test]
        fn the_set_contains_the_addresses_of_its_networks(
            list in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..40),
            probes in prop::collection::vec(any::<u32>(), 1..20),
        ) {
            let list: Vec<IpNet> = list
                .into_iter()
                .map(|(address, bits)| IpNet::new(IpAddr::V4(address.into()), bits).unwrap())
                .collect();
            let set = Networks::new(list.iter().copied());
            let near = list.iter().flat_map(|net| [net.network(), net.broadcast()]);
            for probe in probes.into_iter().map(|probe| IpAddr::V4(probe.into())).chain(near) {
                let scanned = list.iter().any(|net| net.contains(&probe));
                prop_assert_eq!(set.contains(probe), scanned, "{}", probe);
            }
        }
    }
}
