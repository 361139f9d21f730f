//! Is prompt entropy a proxy here? Correlations per prompt over a sample without gate and training.
//!
//! HIVE (arXiv 2603.25184) reports a correlation of 0.96 between means over bins of prompts. A
//! mean over a bin hides the spread within it, and a gate ranks single prompts: hence both.

use rlvr_core::{GroupKind, by_entropy, spearman};
use serde::{Deserialize, Serialize};

use super::record::GroupRecord;

/// Bins of the binned means.
const NUM_BINS: usize = 16;

/// Correlations of one sample; `None` where undefined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Prompts.
    pub num_prompts: u64,
    /// Share of mixed groups.
    pub mixed_frac: f64,
    /// Mean pass rate.
    pub pass_rate_mean: f64,
    /// Rank correlations of prompt entropy, per prompt.
    pub prompt_entropy: Correlations,
    /// Rank correlations of the question's entropy, per prompt.
    pub question_entropy: Correlations,
    /// Rank correlation of response entropy with pass rate, per prompt.
    pub response_entropy_to_pass_rate: Option<f64>,
    /// Rank correlation of prompt entropy with response entropy between means over bins of prompts
    /// of similar prompt entropy.
    pub binned_to_response_entropy: Option<f64>,
    /// Quarters by prompt entropy, highest first.
    pub quartiles: Vec<Quartile>,
}

/// Rank correlations of one kind of entropy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correlations {
    /// With response entropy.
    pub response_entropy: Option<f64>,
    /// With pass rate.
    pub pass_rate: Option<f64>,
    /// With the closeness of the pass rate to one half, `0.5 - |pass rate - 0.5|`.
    pub edge_closeness: Option<f64>,
    /// With prompt length.
    pub prompt_tokens: Option<f64>,
    /// With mean completion length.
    pub completion_tokens: Option<f64>,
}

/// A quarter of the prompts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quartile {
    /// Prompts.
    pub num_prompts: u64,
    /// Mean prompt entropy.
    pub prompt_entropy: f64,
    /// Mean response entropy.
    pub response_entropy: f64,
    /// Mean pass rate.
    pub pass_rate: f64,
    /// Share of mixed groups.
    pub mixed_frac: f64,
}

impl Calibration {
    /// The correlations of scored groups; none without any.
    pub fn of(records: &[GroupRecord]) -> Option<Self> {
        let mut scored: Vec<&GroupRecord> = records
            .iter()
            .filter(|it| it.prompt_entropy.is_some())
            .collect();
        if scored.is_empty() {
            return None;
        }
        let candidates: Vec<rlvr_core::Candidate> = scored
            .iter()
            .map(|it| rlvr_core::Candidate {
                id: it.prompt_id.0,
                entropy: entropy(it),
            })
            .collect();
        let order = by_entropy(&candidates);
        scored = order.into_iter().map(|place| scored[place]).collect();
        let question = |it: &GroupRecord| it.question_entropy.unwrap_or(f64::NAN);
        Some(Self {
            num_prompts: scored.len() as u64,
            mixed_frac: mean(&scored, is_mixed),
            pass_rate_mean: mean(&scored, |it| it.pass_rate),
            prompt_entropy: Correlations::of(&scored, entropy),
            question_entropy: Correlations::of(&scored, question),
            response_entropy_to_pass_rate: rank(
                &scored,
                |it| it.response_entropy,
                |it| it.pass_rate,
            ),
            binned_to_response_entropy: binned(&scored),
            quartiles: parts(&scored, 4).map(Quartile::of).collect(),
        })
    }
}

impl Correlations {
    fn of(scored: &[&GroupRecord], value: fn(&GroupRecord) -> f64) -> Self {
        Self {
            response_entropy: rank(scored, value, |it| it.response_entropy),
            pass_rate: rank(scored, value, |it| it.pass_rate),
            edge_closeness: rank(scored, value, |it| 0.5 - (it.pass_rate - 0.5).abs()),
            prompt_tokens: rank(scored, value, |it| it.prompt_tokens as f64),
            completion_tokens: rank(scored, value, |it| it.completion_tokens_mean),
        }
    }
}

impl Quartile {
    fn of(part: &[&GroupRecord]) -> Self {
        Self {
            num_prompts: part.len() as u64,
            prompt_entropy: mean(part, entropy),
            response_entropy: mean(part, |it| it.response_entropy),
            pass_rate: mean(part, |it| it.pass_rate),
            mixed_frac: mean(part, is_mixed),
        }
    }
}

fn entropy(record: &GroupRecord) -> f64 {
    record.prompt_entropy.unwrap_or(f64::NAN)
}

fn is_mixed(record: &GroupRecord) -> f64 {
    f64::from(u8::from(record.kind == GroupKind::Mixed))
}

fn mean(records: &[&GroupRecord], value: impl Fn(&GroupRecord) -> f64) -> f64 {
    records.iter().map(|it| value(it)).sum::<f64>() / records.len().max(1) as f64
}

fn rank(
    records: &[&GroupRecord],
    x: impl Fn(&GroupRecord) -> f64,
    y: impl Fn(&GroupRecord) -> f64,
) -> Option<f64> {
    let x: Vec<f64> = records.iter().map(|it| x(it)).collect();
    let y: Vec<f64> = records.iter().map(|it| y(it)).collect();
    spearman(&x, &y)
}

/// At most `count` parts of nearly equal size, none empty.
fn parts<'a, 'b>(
    records: &'a [&'b GroupRecord],
    count: usize,
) -> impl Iterator<Item = &'a [&'b GroupRecord]> {
    let all = records.len();
    (0..count)
        .map(move |part| &records[part * all / count..(part + 1) * all / count])
        .filter(|part| !part.is_empty())
}

/// Correlation between the means of bins; `records` are by entropy.
fn binned(records: &[&GroupRecord]) -> Option<f64> {
    let bins: Vec<&[&GroupRecord]> = parts(records, NUM_BINS).collect();
    let x: Vec<f64> = bins.iter().map(|bin| mean(bin, entropy)).collect();
    let y: Vec<f64> = bins
        .iter()
        .map(|bin| mean(bin, |it| it.response_entropy))
        .collect();
    spearman(&x, &y)
}

#[cfg(test)]
mod tests {
    use super::super::record::GroupSource;
    use super::*;
    use crate::record::PromptId;

    /// Entropies 0, 1, 2, ...; `noise` hides half of the relation within neighbours.
    fn records(count: usize, response: impl Fn(usize) -> f64) -> Vec<GroupRecord> {
        let record = |number: usize| {
            let pass_rate = number as f64 / count as f64;
            GroupRecord {
                step: 1,
                prompt_id: PromptId(number as u64 * 31 % 1009),
                source: GroupSource::Kept,
                is_trained: false,
                kind: match number % 2 {
                    0 => GroupKind::Mixed,
                    _ => GroupKind::Hard,
                },
                pass_rate,
                reward_mean: pass_rate,
                response_entropy: response(number),
                completion_tokens_mean: 5.0,
                prompt_tokens: 7,
                run_length: 0,
                prompt_entropy: Some(number as f64),
                question_entropy: None,
                quartile: None,
                utility: None,
            }
        };
        (0..count).map(record).collect()
    }

    #[test]
    fn correlations_are_per_prompt_and_between_bins() {
        // Within a bin of eight the order is reversed, between bins it is kept.
        let found = Calibration::of(&records(128, |it| (it / 8 * 8 + 7 - it % 8) as f64)).unwrap();
        assert_eq!(found.binned_to_response_entropy, Some(1.0));
        let per_prompt = found.prompt_entropy.response_entropy.unwrap();
        assert!((0.98..0.999).contains(&per_prompt), "{per_prompt}");
        assert_eq!(found.prompt_entropy.pass_rate, Some(1.0));
        assert!(found.prompt_entropy.edge_closeness.unwrap().abs() < 0.1);
        assert_eq!(found.prompt_entropy.prompt_tokens, None);
        assert_eq!(found.question_entropy.response_entropy, None);
        assert_eq!((found.num_prompts, found.mixed_frac), (128, 0.5));
        let [first, .., last] = &found.quartiles[..] else {
            panic!("four quartiles");
        };
        assert_eq!((first.num_prompts, first.prompt_entropy), (32, 111.5));
        assert_eq!(last.prompt_entropy, 15.5);
        assert_eq!(Calibration::of(&[]), None);
    }
}
