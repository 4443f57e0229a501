use std::time::Duration;

use http::StatusCode;

use super::super::rules::{EjectionRules, ResilienceRules};
use super::super::{Monitor, Resilience, affinity};
use super::*;
use crate::upstream::client::{Client, Settings};
use crate::upstream::dns::DnsTable;

/// Hosts with names, and their features.
pub(in crate::upstream::resilience) struct Bench {
    pub(in crate::upstream::resilience) hosts: Vec<Host>,
    pub(in crate::upstream::resilience) resilience: Resilience,
}

pub(in crate::upstream::resilience) fn bench(weights: &[u32], rules: ResilienceRules) -> Bench {
    let client = Client::new(
        Settings::default(),
        std::sync::Arc::new(DnsTable::default()),
    );
    let client = client.unwrap();
    let url = |index: usize| format!("http://10.0.0.{index}:80");
    let named = weights.iter().enumerate();
    let rules = ResilienceRules {
        weights: named
            .map(|(index, weight)| (url(index).into(), *weight))
            .collect(),
        ..rules
    };
    let monitor = rules
        .is_watched()
        .then(|| std::sync::Arc::new(Monitor::new(&rules)));
    let mut resilience = Resilience::new(rules, monitor, None);
    let mut hosts: Vec<Host> = (0..weights.len())
        .map(|index| Host::new(&url(index), &client))
        .collect();
    hosts.iter_mut().for_each(|host| resilience.adopt(host));
    resilience.balance.begin_at(&hosts, 0);
    Bench { hosts, resilience }
}

impl Bench {
    pub(in crate::upstream::resilience) fn first(&self) -> usize {
        self.order(Pick::default())[0]
    }

    pub(in crate::upstream::resilience) fn order(&self, pick: Pick<'_>) -> Order {
        self.resilience.balance.order(&self.hosts, pick)
    }

    /// How many of so many calls each host gets.
    pub(in crate::upstream::resilience) fn shares(&self, calls: usize) -> Vec<usize> {
        let mut shares = vec![0; self.hosts.len()];
        for _ in 0..calls {
            shares[self.first()] += 1;
        }
        shares
    }

    pub(in crate::upstream::resilience) fn check(&self, host: usize, good: bool) {
        let result = if good { Ok(()) } else { Err("no".to_owned()) };
        self.hosts[host].health().unwrap().checked(result, 1, 1);
    }

    pub(in crate::upstream::resilience) fn answer(&self, host: usize, status: u16) {
        let health = self.hosts[host].health().unwrap();
        let resilience = self.hosts[host].resilience.as_ref().unwrap();
        health.answered(StatusCode::from_u16(status).unwrap(), || {
            let ejected = self.hosts.iter().filter(|host| host.is_ejected()).count();
            ejected < resilience.most_ejected(self.hosts.len())
        });
    }
}

pub(in crate::upstream::resilience) fn watched() -> ResilienceRules {
    ResilienceRules {
        ejection: Some(EjectionRules {
            consecutive_5xx: 2,
            base_time: Duration::from_secs(5),
            max_time: Duration::from_secs(60),
            max_percent: 50,
        }),
        ..ResilienceRules::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_share_of_an_unhealthy_host_goes_to_all_others_by_their_weights() {
    let bench = bench(&[4, 2, 1, 1], watched());
    assert_eq!(bench.shares(800), [400, 200, 100, 100]);
    bench.check(0, false);
    let shares = bench.shares(800);
    assert_eq!(shares, [0, 400, 200, 200]);
    bench.check(0, true);
    assert_eq!(bench.shares(800), [400, 200, 100, 100]);
}

#[tokio::test(start_paused = true)]
async fn hosts_that_are_not_available_come_last() {
    let bench = bench(&[1, 1, 1, 0], watched());
    bench.check(1, false);
    for _ in 0..6 {
        let order = bench.order(Pick::default());
        let (good, bad) = order.split_at(2);
        assert!(good.contains(&0) && good.contains(&2), "{order:?}");
        assert!(bad.contains(&1) && bad.contains(&3), "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_too_few_healthy_hosts_all_are_used() {
    let rules = ResilienceRules {
        panic_threshold: 50,
        ..watched()
    };
    let bench = bench(&[1, 1, 1, 1], rules);
    bench.check(0, false);
    bench.check(1, false);
    assert_eq!(
        bench.shares(400),
        [0, 0, 200, 200],
        "half of them is enough"
    );
    bench.check(2, false);
    assert_eq!(bench.shares(400), [100, 100, 100, 100]);
}

#[tokio::test(start_paused = true)]
async fn without_a_threshold_a_single_healthy_host_gets_all_calls() {
    let bench = bench(&[1, 1, 1], watched());
    for host in 0..2 {
        bench.check(host, false);
    }
    assert_eq!(bench.shares(30), [0, 0, 30]);
    bench.check(2, false);
    assert_eq!(bench.shares(30), [10, 10, 10], "none is healthy");
}

#[tokio::test(start_paused = true)]
async fn only_a_share_of_the_hosts_is_ejected_and_each_returns_by_one_call() {
    let bench = bench(&[1, 1, 1, 1], watched());
    for host in 0..4 {
        bench.answer(host, 503);
        bench.answer(host, 503);
    }
    let ejected: Vec<bool> = bench.hosts.iter().map(Host::is_ejected).collect();
    assert_eq!(ejected, [true, true, false, false]);
    assert_eq!(bench.shares(100), [0, 0, 50, 50]);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(bench.shares(100), [1, 1, 49, 49]);
    bench.answer(0, 200);
    assert_eq!(bench.shares(90), [30, 0, 30, 30]);
}

#[tokio::test(start_paused = true)]
async fn hosts_that_were_tried_come_after_good_ones_and_before_bad_ones() {
    let bench = bench(&[1, 1, 1], watched());
    bench.check(2, false);
    let tried = Tried::default();
    tried.add(0);
    let pick = Pick {
        tried: Some(&tried),
        ..Pick::default()
    };
    for _ in 0..4 {
        assert_eq!(bench.order(pick).as_slice(), [1, 0, 2]);
    }
    tried.add(1);
    assert!(!tried.has_all(3));
    assert_ne!(
        bench.order(pick)[0],
        2,
        "a tried host is better than a bad one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_keeps_its_host_until_that_host_is_lost() {
    let bench = bench(&[1, 1, 1, 1], watched());
    let host_of = |key: u32| {
        let pick = Pick {
            affinity: Some(affinity(&key.to_be_bytes())),
            ..Pick::default()
        };
        bench.order(pick)[0]
    };
    let before: Vec<usize> = (0..1000).map(host_of).collect();
    assert_eq!(before, (0..1000).map(host_of).collect::<Vec<_>>());
    bench.check(1, false);
    for (key, before) in (0..1000).zip(&before) {
        let after = host_of(key);
        assert!(after == *before || *before == 1, "{key}");
        assert_ne!(after, 1);
    }
    bench.check(1, true);
    assert_eq!(before, (0..1000).map(host_of).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_chosen_host_is_called_first_unless_it_was_tried() {
    let bench = bench(&[1, 1, 1], watched());
    let tried = Tried::default();
    let pick = Pick {
        first: Some(2),
        tried: Some(&tried),
        ..Pick::default()
    };
    assert_eq!(bench.order(pick)[0], 2);
    tried.add(2);
    assert_ne!(bench.order(pick)[0], 2);
}
