//! One arm against another, paired by seed.

use serde::{Deserialize, Serialize};

use super::outcome::{Curve, Outcome};
use super::statistics::{Estimate, estimate, ratio_estimate};

/// How far below the final accuracy of the reference the level lies at which costs are compared.
pub const LEVEL_BELOW: f64 = 0.01;

/// What a comparison says of the first arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval is on the good side.
    Better,
    /// The whole interval is on the bad side.
    Worse,
    /// The interval holds "no difference".
    NotDistinguished,
    /// Fewer than three seeds.
    Exploratory,
    /// In some seed a run did not reach the level.
    Censored,
}

impl core::fmt::Display for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NotDistinguished => "not distinguished",
            Self::Exploratory => "exploratory: too few seeds",
            Self::Censored => "censored: not reached in every seed",
        })
    }
}

/// A paired comparison of two arms in one quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// What it is compared with.
    pub against: String,
    /// What is compared.
    pub quantity: String,
    /// Difference, or ratio if `is_ratio`, over the seeds in which both are known.
    pub estimate: Option<Estimate>,
    /// True for a ratio, whose neutral value is 1 instead of 0.
    pub is_ratio: bool,
    /// Seeds in which this arm or the other did not reach the level.
    pub num_censored: usize,
    /// What follows.
    pub verdict: Verdict,
}

/// Runs of two arms with the same seed.
type Pair<'a> = (&'a Outcome, &'a Outcome);

/// A cost of an outcome, where lower is better.
type Cost = fn(&Outcome) -> f64;

/// Everything that is compared between an arm and another. `level` is the accuracy at which costs
/// are compared, seed by seed.
pub fn comparisons(
    arm: &str,
    against: &str,
    pairs: &[Pair<'_>],
    levels: &[f64],
) -> Vec<Comparison> {
    let named = |quantity: String, found: Found| Comparison {
        arm: arm.into(),
        against: against.into(),
        verdict: found.verdict(),
        quantity,
        estimate: found.estimate,
        is_ratio: found.is_ratio,
        num_censored: found.num_censored,
    };
    let mut all = vec![
        named(
            "final accuracy (equal steps)".into(),
            difference(pairs, |it| it.last().accuracy),
        ),
        named(
            "test accuracy at the best checkpoint".into(),
            difference(pairs, |it| it.best_test_accuracy),
        ),
        named(
            "mixed share of generated groups".into(),
            difference(pairs, |it| it.mixed_frac),
        ),
    ];
    for curve in [Curve::Tokens, Curve::Secs] {
        let quantity = format!("accuracy at equal {}", curve.name());
        all.push(named(quantity, at_equal_cost(pairs, curve)));
    }
    let costs: [(&str, Cost); 3] = [
        ("completions of the whole run", |it| it.last().completions),
        ("generated tokens of the whole run", |it| it.last().tokens),
        ("seconds of the whole run", |it| it.last().secs),
    ];
    for (quantity, cost) in costs {
        let ratios = pairs.iter().map(|(a, b)| Some(cost(a) / cost(b)));
        all.push(named(quantity.into(), Found::ratio(ratios)));
    }
    for curve in Curve::ALL {
        let ratios = pairs.iter().zip(levels).map(|((a, b), level)| {
            // A level that is reached before the first step costs nothing on either side.
            let ratio = a.reach(curve, *level)? / b.reach(curve, *level)?;
            Some(if ratio.is_finite() { ratio } else { 1.0 })
        });
        let quantity = format!("{} to the reference accuracy", curve.name());
        all.push(named(quantity, Found::ratio(ratios)));
    }
    all
}

/// An estimate before its verdict.
struct Found {
    estimate: Option<Estimate>,
    is_ratio: bool,
    num_censored: usize,
}

impl Found {
    fn ratio(ratios: impl Iterator<Item = Option<f64>>) -> Self {
        let all: Vec<Option<f64>> = ratios.collect();
        let known: Vec<f64> = all.iter().flatten().copied().collect();
        Self {
            estimate: ratio_estimate(&known),
            is_ratio: true,
            num_censored: all.len() - known.len(),
        }
    }

    /// More is better for differences, less for ratios of costs.
    fn verdict(&self) -> Verdict {
        if self.num_censored > 0 {
            return Verdict::Censored;
        }
        let Some((low, high)) = self.estimate.and_then(|it| it.interval) else {
            return Verdict::Exploratory;
        };
        let neutral = if self.is_ratio { 1.0 } else { 0.0 };
        match (low > neutral, high < neutral, self.is_ratio) {
            (true, _, false) | (_, true, true) => Verdict::Better,
            (_, true, false) | (true, _, true) => Verdict::Worse,
            _ => Verdict::NotDistinguished,
        }
    }
}

fn difference(pairs: &[Pair<'_>], value: impl Fn(&Outcome) -> f64) -> Found {
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| value(a) - value(b)).collect();
    Found {
        estimate: estimate(&differences),
        is_ratio: false,
        num_censored: 0,
    }
}

/// Difference in accuracy at the cost of the cheaper of the two runs.
fn at_equal_cost(pairs: &[Pair<'_>], curve: Curve) -> Found {
    let differences: Vec<f64> = pairs
        .iter()
        .filter_map(|(a, b)| {
            let cost = curve.of(&a.last()).min(curve.of(&b.last()));
            Some(a.accuracy_at(curve, cost)? - b.accuracy_at(curve, cost)?)
        })
        .collect();
    Found {
        estimate: estimate(&differences),
        is_ratio: false,
        num_censored: pairs.len() - differences.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::outcome::CurvePoint;

    /// A run whose accuracy rises from 0.2 to `accuracy` over `completions`.
    fn outcome(accuracy: f64, completions: f64) -> Outcome {
        let point = |share: f64| CurvePoint {
            accuracy: 0.2 + share * (accuracy - 0.2),
            completions: share * completions,
            tokens: share * completions * 20.0,
            secs: share * 60.0,
            ..CurvePoint::default()
        };
        Outcome {
            points: vec![point(0.0), point(0.5), point(1.0)],
            best_test_accuracy: accuracy,
            mixed_frac: 0.5,
            ..Outcome::default()
        }
    }

    fn find<'a>(all: &'a [Comparison], quantity: &str) -> &'a Comparison {
        all.iter().find(|it| it.quantity == quantity).unwrap()
    }

    #[test]
    fn verdicts_follow_the_paired_interval() {
        let left = [
            outcome(0.82, 100.0),
            outcome(0.721, 110.0),
            outcome(0.919, 95.0),
        ];
        let right = [
            outcome(0.80, 200.0),
            outcome(0.70, 210.0),
            outcome(0.90, 210.0),
        ];
        let pairs: Vec<Pair<'_>> = left.iter().zip(&right).collect();
        let levels: Vec<f64> = right
            .iter()
            .map(|it| it.last().accuracy - LEVEL_BELOW)
            .collect();
        let all = comparisons("a", "b", &pairs, &levels);
        // Seeds differ by 0.1 each, the pairs by 0.019 to 0.021.
        let accuracy = find(&all, "final accuracy (equal steps)");
        assert!((accuracy.estimate.unwrap().mean - 0.02).abs() < 1e-12);
        assert_eq!(accuracy.verdict, Verdict::Better);
        assert_eq!(
            find(&all, "completions of the whole run").verdict,
            Verdict::Better
        );
        assert_eq!(
            find(&all, "seconds of the whole run").verdict,
            Verdict::NotDistinguished
        );
        let reached = find(&all, "completions to the reference accuracy");
        assert!(reached.estimate.unwrap().mean < 0.55);
        assert_eq!(reached.verdict, Verdict::Better);
        let swapped: Vec<Pair<'_>> = right.iter().zip(&left).collect();
        let swapped = comparisons("b", "a", &swapped, &levels);
        assert_eq!(
            find(&swapped, "completions of the whole run").verdict,
            Verdict::Worse
        );
        assert_eq!(
            find(&swapped, "mixed share of generated groups").verdict,
            Verdict::NotDistinguished
        );
    }

    #[test]
    fn what_is_not_reached_is_censored_and_two_seeds_are_not_enough() {
        let left = [
            outcome(0.6, 100.0),
            outcome(0.8, 100.0),
            outcome(0.8, 100.0),
        ];
        let right = [
            outcome(0.8, 200.0),
            outcome(0.8, 200.0),
            outcome(0.8, 200.0),
        ];
        let pairs: Vec<Pair<'_>> = left.iter().zip(&right).collect();
        let all = comparisons("a", "b", &pairs, &[0.79; 3]);
        let reached = find(&all, "generated tokens to the reference accuracy");
        assert_eq!(
            (reached.num_censored, reached.verdict),
            (1, Verdict::Censored)
        );
        let all = comparisons("a", "b", &pairs[1..], &[0.79; 2]);
        assert_eq!(all[0].verdict, Verdict::Exploratory);
    }
}
