//! Ranks: median, quartiles, Spearman's correlation. What is undefined is `None`, never 0 or NaN.

use alloc::vec::Vec;

use num_traits::Float;

/// The median; the mean of the two middle values for an even count, none for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(sorted[middle - 1] / 2.0 + sorted[middle] / 2.0),
    }
}

/// Ranks from 1; equal values share the mean of their ranks.
pub fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = alloc::vec![0.0; values.len()];
    let mut first = 0;
    while first < places.len() {
        let value = values[places[first]];
        let tied = places[first..]
            .iter()
            .take_while(|&&place| values[place] == value)
            .count()
            .max(1);
        let shared = first as f64 + (tied as f64 + 1.0) / 2.0;
        for &place in &places[first..first + tied] {
            ranks[place] = shared;
        }
        first += tied;
    }
    ranks
}

/// Spearman's rank correlation: Pearson's correlation of the average ranks.
///
/// Spearman, "The Proof and Measurement of Association between Two Things", 1904. `None` for fewer
/// than three pairs, for a constant side, or for a value that is not finite.
///
/// # Panics
/// If the lengths differ.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "spearman: one y per x");
    if x.len() < 3 || !x.iter().chain(y).all(|value| value.is_finite()) {
        return None;
    }
    pearson(&average_ranks(x), &average_ranks(y))
}

fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let count = x.len() as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    let scale = Float::sqrt(xx * yy);
    (scale > 0.0).then(|| (xy / scale).clamp(-1.0, 1.0))
}

/// The quartile of rank `rank` (0 is the highest value) among `count`: 1 to 4, 1 the highest.
///
/// # Panics
/// If `rank` is not below `count`.
pub fn quartile(rank: usize, count: usize) -> u8 {
    assert!(
        rank < count,
        "quartile: rank {rank} of {count} values, it must be below"
    );
    (1 + rank * 4 / count) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spearman_of_known_pairs() {
        let close = |found: Option<f64>, expected: f64| {
            assert!((found.unwrap() - expected).abs() < 5e-8, "{found:?}");
        };
        close(
            spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 5.0]),
            0.8,
        );
        close(
            spearman(&[1.0, 2.0, 2.0, 4.0], &[1.0, 3.0, 2.0, 4.0]),
            0.9486833,
        );
        assert_eq!(spearman(&[1.0; 4], &[1.0, 2.0, 3.0, 4.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[1.0, f64::NAN, 2.0], &[1.0, 2.0, 3.0]), None);
    }

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(
            average_ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]),
            [4.0, 1.0, 4.0, 2.0, 4.0]
        );
        assert!(average_ranks(&[]).is_empty());
    }

    #[test]
    fn medians_and_quartiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        let quartiles: Vec<u8> = (0..8).map(|rank| quartile(rank, 8)).collect();
        assert_eq!(quartiles, [1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!((quartile(0, 1), quartile(2, 3)), (1, 3));
    }
}
