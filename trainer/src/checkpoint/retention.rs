//! Which checkpoints stay.

use std::cmp::Ordering;

/// How many checkpoints stay; the newest always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Newest ones.
    pub keep_last: usize,
    /// Those of highest score besides them.
    pub keep_best: usize,
}

impl Retention {
    /// The steps that may go. Among equal scores the earliest is the better one; a step without a
    /// score, or with one that is not a number, is never among the best.
    pub(super) fn superfluous(&self, checkpoints: &[(u64, Option<f64>)]) -> Vec<u64> {
        let mut newest: Vec<_> = checkpoints.to_vec();
        newest.sort_by_key(|&(step, _)| std::cmp::Reverse(step));
        let older = newest.split_off(self.keep_last.max(1).min(newest.len()));
        let is_number = |score: &Option<f64>| score.is_some_and(|score| !score.is_nan());
        let mut ranked: Vec<_> = checkpoints.to_vec();
        ranked.retain(|(_, score)| is_number(score));
        ranked.sort_by(|a, b| {
            let by_score = b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal);
            by_score.then(a.0.cmp(&b.0))
        });
        ranked.truncate(self.keep_best);
        let mut steps: Vec<u64> = older.into_iter().map(|(step, _)| step).collect();
        steps.retain(|step| !ranked.iter().any(|(best, _)| best == step));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_the_best_stay() {
        let checkpoints = [
            (10, Some(0.5)),
            (20, Some(0.9)),
            (30, Some(0.9)),
            (40, None),
            (50, Some(f64::NAN)),
            (60, Some(0.7)),
        ];
        let superfluous = |keep_last, keep_best| {
            let retention = Retention {
                keep_last,
                keep_best,
            };
            retention.superfluous(&checkpoints)
        };
        assert_eq!(superfluous(2, 1), [40, 30, 10]);
        assert_eq!(superfluous(1, 2), [50, 40, 10]);
        assert_eq!(superfluous(0, 0), [50, 40, 30, 20, 10]);
        assert!(superfluous(9, 0).is_empty());
    }
}
