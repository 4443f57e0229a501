//! Fairness and herd effects: prints the distribution of calls over hosts.
//!
//! `cargo test --lib care::simulation -- --nocapture` prints what benches/RESULTS.md records. Time is simulated and
//! nothing is random, so that the numbers are the same everywhere.

use std::time::Duration;

use super::balance::Pick;
use super::balance::tests::{Bench, bench, watched};
use super::rules::{BudgetRules, ResilienceRules};
use super::{RetryBudget, affinity};

/// Mean absolute difference between the shares of hosts and their weights, in percent of the calls.
fn unfairness(shares: &[usize], weights: &[u32]) -> f64 {
    let (calls, total): (usize, u32) = (shares.iter().sum(), weights.iter().sum());
    let pairs = shares.iter().zip(weights);
    let off = pairs.map(|(share, weight)| {
        (*share as f64 / calls as f64 - f64::from(*weight) / f64::from(total)).abs()
    });
    100.0 * off.sum::<f64>() / shares.len() as f64
}

/// The longest row of calls to one host.
fn longest_row(bench: &Bench, calls: usize) -> usize {
    let (mut last, mut row, mut longest) = (usize::MAX, 0, 0);
    for _ in 0..calls {
        let host = bench.first();
        row = if host == last { row + 1 } else { 1 };
        (last, longest) = (host, longest.max(row));
    }
    longest
}

#[tokio::test(start_paused = true)]
async fn weights_are_kept_exactly_and_smoothly() {
    println!("weights           calls per host (10,000)          off by   longest row");
    for weights in [&[1, 1, 1][..], &[5, 1, 1], &[8, 4, 2, 1], &[100, 1]] {
        let bench = bench(weights, watched());
        let shares = bench.shares(10_000);
        let (off, row) = (unfairness(&shares, weights), longest_row(&bench, 10_000));
        println!(
            "{:<17} {:<32} {off:.3} %  {row}",
            format!("{weights:?}"),
            format!("{shares:?}")
        );
        assert!(off < 0.05, "{weights:?}: {shares:?}");
    }
}

/// The calls of an unhealthy host must not fall on one neighbour.
#[tokio::test(start_paused = true)]
async fn a_lost_host_is_replaced_by_all_others() {
    println!("lost of five      calls per host (10,000)");
    for lost in [&[0][..], &[0, 1], &[1, 3, 4]] {
        let bench = bench(&[1, 1, 1, 1, 1], watched());
        lost.iter().for_each(|host| bench.check(*host, false));
        let shares = bench.shares(10_000);
        println!("{:<17} {shares:?}", format!("{lost:?}"));
        let due = 10_000 / (5 - lost.len());
        for (host, share) in shares.iter().enumerate() {
            let expected = if lost.contains(&host) { 0 } else { due };
            assert!(share.abs_diff(expected) <= 2, "{lost:?}: {shares:?}");
        }
    }
}

/// A host that comes back must not get its whole share at once, and nothing to catch up with.
#[tokio::test(start_paused = true)]
async fn a_host_that_comes_back_warms_up() {
    let rules = ResilienceRules {
        slow_start: Some(Duration::from_secs(30)),
        ..watched()
    };
    let bench = bench(&[1, 1, 1, 1], rules);
    bench.check(0, false);
    bench.shares(5_000);
    bench.check(0, true);
    println!("seconds after the return   share of the host (of 4)");
    let mut shares = Vec::new();
    for second in (0..=35).step_by(5) {
        let calls = bench.shares(4_000);
        let share = calls[0] as f64 / 40.0;
        println!("{second:>24}   {share:.1} %");
        shares.push(share);
        let rest: Vec<usize> = calls[1..].to_vec();
        assert!(
            rest.iter().max().unwrap() - rest.iter().min().unwrap() <= 120,
            "{calls:?}"
        );
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    assert!(shares[0] < 4.0, "{shares:?}");
    assert!(
        shares.windows(2).all(|pair| pair[0] <= pair[1] + 0.1),
        "{shares:?}"
    );
    assert!((shares[7] - 25.0).abs() < 0.1, "{shares:?}");
}

/// With sticky hosts, a lost host moves only its own keys, and those go to all others.
#[tokio::test(start_paused = true)]
async fn keys_of_a_lost_host_are_spread() {
    let bench = bench(&[1, 1, 1, 1, 1], watched());
    let hosts = || {
        let keys = (0..10_000_u32).map(|key| affinity(&key.to_be_bytes()));
        let picks = keys.map(|key| Pick {
            affinity: Some(key),
            ..Pick::default()
        });
        picks.map(|pick| bench.order(pick)[0]).collect::<Vec<_>>()
    };
    let count = |hosts: &[usize]| {
        let mut shares = vec![0; 5];
        hosts.iter().for_each(|host| shares[*host] += 1);
        shares
    };
    let before = hosts();
    bench.check(2, false);
    let after = hosts();
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    println!("keys per host (10,000)      {:?}", count(&before));
    println!(
        "without the third one       {:?}, {moved} moved",
        count(&after)
    );
    assert_eq!(moved, count(&before)[2]);
    for (before, after) in count(&before).iter().zip(count(&after)) {
        assert!((1_900..2_100).contains(before), "{before}");
        assert!(after == 0 || (2_350..2_650).contains(&after), "{after}");
    }
}

/// All hosts fail for a minute at 1,000 calls per second, and each failed call may be made three times more.
#[tokio::test(start_paused = true)]
async fn the_budget_prevents_a_storm_of_retries() {
    println!("budget            calls    attempts   factor");
    for (percent, min_per_second) in [(20, 3), (10, 0), (0, 5), (100, 0)] {
        let budget = RetryBudget::new(BudgetRules {
            percent,
            min_per_second,
        });
        let (mut calls, mut attempts) = (0_u32, 0_u32);
        for _ in 0..60_000 {
            budget.deposit();
            calls += 1;
            attempts += 1;
            for _ in 0..3 {
                if !budget.may_retry() {
                    break;
                }
                attempts += 1;
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let factor = f64::from(attempts) / f64::from(calls);
        println!(
            "{:<17} {calls}    {attempts:<8}   {factor:.3}",
            format!("{percent} %, {min_per_second}/s")
        );
        let most = 1.0 + f64::from(percent) / 100.0 + f64::from(min_per_second) / 1000.0;
        assert!(factor <= most + 0.002, "{factor}");
    }
}
