//! Accuracy and pass@k over sampled completions, with intervals that know about prompts.

use serde::{Deserialize, Serialize};

/// Two-sided 95 % normal quantile.
const Z95: f64 = 1.959_963_984_540_054;

/// A share with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Point estimate, 0 to 1.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Mean of per-prompt pass rates with a 95 % interval clustered by prompt.
///
/// Samples of one prompt are not independent, so the unit is the prompt: the variance of the mean
/// is the sample variance of the pass rates over their number. The interval is Wilson's (1927) at
/// the effective sample size `value (1 - value) / variance`, so that it stays inside [0, 1] and
/// does not collapse at 0 or 1. With one sample a prompt this is the ordinary Wilson interval, up
/// to the factor n / (n - 1). No prompts give 0 in [0, 1].
pub fn clustered_share(pass_rates: &[f64]) -> Share {
    let num_prompts = pass_rates.len() as f64;
    if pass_rates.is_empty() {
        return Share {
            value: 0.0,
            low: 0.0,
            high: 1.0,
        };
    }
    let value = pass_rates.iter().sum::<f64>() / num_prompts;
    let spread: f64 = pass_rates.iter().map(|rate| (rate - value).powi(2)).sum();
    let variance = spread / (num_prompts - 1.0).max(1.0) / num_prompts;
    let effective = if variance > 0.0 {
        // Never fewer than the prompts: equal pass rates are information, not its absence.
        (value * (1.0 - value) / variance).max(1.0)
    } else {
        num_prompts
    };
    let z2 = Z95 * Z95;
    let centre = (value + z2 / (2.0 * effective)) / (1.0 + z2 / effective);
    let half = Z95 / (1.0 + z2 / effective)
        * (value * (1.0 - value) / effective + z2 / (4.0 * effective * effective)).sqrt();
    Share {
        value,
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    }
}

/// Unbiased estimate of the chance that at least one of `k` samples is right, from `num_correct`
/// of `num_samples` (Chen et al., arXiv 2107.03374): `1 - C(n - c, k) / C(n, k)`.
///
/// `None` if fewer than `k` samples exist or `k` is zero.
pub fn pass_at_k(num_samples: usize, num_correct: usize, k: usize) -> Option<f64> {
    if k == 0 || k > num_samples || num_correct > num_samples {
        return None;
    }
    let failures = num_samples - num_correct;
    if failures < k {
        return Some(1.0);
    }
    let none_right: f64 = (0..k)
        .map(|i| (failures - i) as f64 / (num_samples - i) as f64)
        .product();
    Some(1.0 - none_right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PromptId;
    use crate::seed::{Stage, stream};

    #[test]
    fn single_samples_give_wilsons_interval() {
        let rates: Vec<f64> = (0..500).map(|i| f64::from(u8::from(i < 400))).collect();
        let share = clustered_share(&rates);
        assert_eq!(share.value, 0.8);
        // Wilson for 400 of 500: 0.7627 to 0.8327.
        assert!((share.low - 0.7627).abs() < 5e-4, "{share:?}");
        assert!((share.high - 0.8327).abs() < 5e-4, "{share:?}");
    }

    #[test]
    fn samples_of_one_prompt_do_not_narrow_the_interval() {
        // Pass rates of 0 or 1 are as informative as one sample a prompt.
        let all_or_nothing: Vec<f64> = (0..40).map(|i| f64::from(i % 2)).collect();
        let mixed = vec![0.5; 40];
        let width = |share: Share| share.high - share.low;
        assert!(width(clustered_share(&all_or_nothing)) > 0.28);
        assert!(width(clustered_share(&mixed)) < width(clustered_share(&all_or_nothing)) + 0.02);
    }

    #[test]
    fn extremes_keep_an_interval_inside_the_unit() {
        for rates in [vec![0.0; 30], vec![1.0; 30], vec![1.0], Vec::new()] {
            let share = clustered_share(&rates);
            assert!(
                share.low >= 0.0 && share.high <= 1.0 && share.low < share.high,
                "{share:?}"
            );
        }
    }

    #[test]
    fn the_interval_covers() {
        let mut covered = 0;
        for trial in 0..1000 {
            let mut draws = stream(1, Stage::Bootstrap, trial, PromptId(0), 0);
            // Pass rate of a prompt uniform in [0, 1], 4 samples: mean 0.5.
            let rates: Vec<f64> = (0..60)
                .map(|_| {
                    let rate = draws.uniform();
                    (0..4).filter(|_| draws.uniform() < rate).count() as f64 / 4.0
                })
                .collect();
            let share = clustered_share(&rates);
            covered += usize::from(share.low <= 0.5 && 0.5 <= share.high);
        }
        assert!((930..=975).contains(&covered), "covered {covered} of 1000");
    }

    #[test]
    fn pass_at_k_is_the_enumerated_chance() {
        // 5 samples, 2 right: subsets of size 2 without a right one: C(3,2)/C(5,2) = 3/10.
        assert!((pass_at_k(5, 2, 2).unwrap() - 0.7).abs() < 1e-12);
        assert_eq!(pass_at_k(5, 2, 1), Some(0.4));
        assert_eq!(pass_at_k(5, 4, 2), Some(1.0));
        assert_eq!(pass_at_k(5, 0, 5), Some(0.0));
        assert_eq!(pass_at_k(5, 1, 6), None);
    }
}
