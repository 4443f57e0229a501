//! Smooth weighted round robin, without a lock.

/// Longer schedules are scaled down: a share of one in twenty thousand is exact enough.
const MAX_TURNS: u64 = 20_000;

/// The turns of hosts, in an order that is calculated once.
///
/// The order is that of nginx's smooth weighted round robin: weights of 5, 1 and 1 give `a a b a c a a`. A host that is
/// not available is passed over together with its turn, so that its share goes to all others by their weights, and not
/// to its neighbour alone.
#[derive(Debug)]
pub(super) struct WeightedRoundRobin {
    turns: Box<[u32]>,
}

impl WeightedRoundRobin {
    /// The schedule of these weights. Without any weight above 0, all are equal.
    pub(super) fn new(weights: &[u32]) -> WeightedRoundRobin {
        let weights = reduced(weights);
        WeightedRoundRobin {
            turns: turns(&weights),
        }
    }

    /// The host of a turn. 0 without hosts.
    pub(super) fn host(&self, ticket: usize) -> usize {
        let turn = self.turns.get(ticket % self.turns.len().max(1));
        turn.map_or(0, |index| usize::try_from(*index).unwrap_or(0))
    }

    /// The number of whole rounds before a turn.
    pub(super) fn round(&self, ticket: usize) -> usize {
        ticket / self.turns.len().max(1)
    }
}

/// Small weights with the same ratios.
fn reduced(weights: &[u32]) -> Vec<u64> {
    let mut weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight)).collect();
    if weights.iter().all(|weight| *weight == 0) {
        weights.fill(1);
    }
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let total: u64 = weights.iter().map(|weight| weight / divisor).sum();
    for weight in &mut weights {
        let exact = *weight / divisor;
        *weight = match total {
            0..=MAX_TURNS => exact,
            // No weight may become 0.
            _ => (exact * MAX_TURNS / total).max(exact.min(1)),
        };
    }
    weights
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// In each turn the credit of every host grows by its weight. The host with the most credit is next and pays the sum
/// of all weights.
fn turns(weights: &[u64]) -> Box<[u32]> {
    let total: u64 = weights.iter().sum();
    if weights.iter().all(|weight| *weight == 1) {
        return (0..u32::try_from(weights.len()).unwrap_or(u32::MAX)).collect();
    }
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut credits = vec![0_i64; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..total {
        let mut best = 0;
        let mut most = i64::MIN;
        for (index, (credit, weight)) in credits.iter_mut().zip(weights).enumerate() {
            *credit += signed(*weight);
            if *weight > 0 && *credit > most {
                (best, most) = (index, *credit);
            }
        }
        if let Some(credit) = credits.get_mut(best) {
            *credit -= signed(total);
        }
        turns.push(u32::try_from(best).unwrap_or(0));
    }
    turns.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(weights: &[u32], count: usize) -> Vec<usize> {
        let schedule = WeightedRoundRobin::new(weights);
        (0..count).map(|ticket| schedule.host(ticket)).collect()
    }

    #[test]
    fn the_order_is_that_of_nginx() {
        assert_eq!(order(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(order(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(order(&[300, 100], 8), [0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(order(&[1, 0, 1], 4), [0, 2, 0, 2]);
        assert_eq!(order(&[0, 0], 4), [0, 1, 0, 1]);
        assert_eq!(order(&[], 2), [0, 0]);
    }

    #[test]
    fn a_long_schedule_is_scaled_and_leaves_no_host_out() {
        let schedule = WeightedRoundRobin::new(&[999_983, 1]);
        assert!(schedule.turns.len() <= 20_001);
        assert!(schedule.turns.contains(&1));
    }

    proptest! {
        #[test]
        fn each_host_gets_its_share_within_one_turn_at_any_time(
            weights in prop::collection::vec(1_u32..20, 1..6)
        ) {
            let total: u32 = weights.iter().sum();
            let order = order(&weights, total as usize);
            for (index, weight) in weights.iter().enumerate() {
                let mut seen = 0_f64;
                for (turn, host) in order.iter().enumerate() {
                    seen += f64::from(u8::from(*host == index));
                    let due = (turn + 1) as f64 * f64::from(*weight) / f64::from(total);
                    prop_assert!((seen - due).abs() <= weights.len() as f64, "{weights:?} {order:?}");
                }
                prop_assert_eq!(seen, f64::from(*weight));
            }
        }
    }
}
