//! One token from one row of logits, on the host.
//!
//! The reported log-prob and entropy are those of `softmax(logits / temperature)` over the whole
//! vocabulary, summed in f64 in token order. Repetition penalty (Keskar et al., "CTRL", 2019,
//! arXiv:1909.05858), top-k, top-p (Holtzman et al., "The Curious Case of Neural Text
//! Degeneration", 2020, arXiv:1904.09751) and min-p (Nguyen et al., 2024, arXiv:2407.01082) shape
//! only what is drawn. The draw inverts the cumulative distribution in token order.

use std::cmp::Ordering;

use super::SamplingParams;

/// A sampled token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The token.
    pub token: u32,
    /// Its log-probability before any filter, nats.
    pub logprob: f32,
    /// Entropy of the unfiltered distribution, nats.
    pub entropy: f32,
}

/// Samples rows; keeps its buffers between rows.
#[derive(Debug)]
pub struct Sampler<'a> {
    params: &'a SamplingParams,
    weights: Vec<f64>,
    penalised: Vec<f32>,
    kept: Vec<u32>,
}

/// Sums of one softmax whose weights are `exp((x - max) / temperature)`.
struct Sums {
    max: f64,
    inverse_temperature: f64,
    total: f64,
    /// Sum of weight times exponent.
    moment: f64,
}

impl Sums {
    fn logprob(&self, logit: f32) -> f64 {
        (f64::from(logit) - self.max) * self.inverse_temperature - self.total.ln()
    }

    fn entropy(&self) -> f64 {
        self.total.ln() - self.moment / self.total
    }
}

impl<'a> Sampler<'a> {
    /// A sampler without history.
    pub fn new(params: &'a SamplingParams) -> Self {
        Self {
            params,
            weights: Vec::new(),
            penalised: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Draws one token with the given uniform number in [0, 1), or nothing if a logit is not
    /// finite. `seen` holds the tokens of prompt and completion so far.
    pub fn draw(&mut self, logits: &[f32], seen: &[u32], uniform: f64) -> Option<Draw> {
        let max = finite_max(logits)?;
        let is_greedy = self.params.temperature == 0.0;
        let inverse_temperature = match is_greedy {
            true => 1.0,
            false => 1.0 / f64::from(self.params.temperature),
        };
        let sums = weigh(logits, max, inverse_temperature, &mut self.weights);
        let token = match (is_greedy, self.penalise(logits, seen)) {
            (true, false) => argmax(logits, max),
            (true, true) => argmax(&self.penalised, finite_max(&self.penalised)?),
            (false, is_penalised) => {
                if is_penalised {
                    let max = finite_max(&self.penalised)?;
                    weigh(&self.penalised, max, inverse_temperature, &mut self.weights);
                }
                self.invert(uniform)
            }
        };
        Some(Draw {
            token,
            logprob: sums.logprob(logits[token as usize]) as f32,
            entropy: sums.entropy() as f32,
        })
    }

    /// Fills `penalised`; false if the penalty is off.
    fn penalise(&mut self, logits: &[f32], seen: &[u32]) -> bool {
        let penalty = self.params.repetition_penalty;
        if penalty == 1.0 {
            return false;
        }
        self.penalised.clear();
        self.penalised.extend_from_slice(logits);
        for &token in seen {
            let logit = logits[token as usize];
            self.penalised[token as usize] = match logit < 0.0 {
                true => logit * penalty,
                false => logit / penalty,
            };
        }
        true
    }

    /// The token at which the cumulative weight of the kept tokens passes `uniform`.
    fn invert(&mut self, uniform: f64) -> u32 {
        let SamplingParams {
            top_k,
            top_p,
            min_p,
            ..
        } = *self.params;
        let weights = &self.weights;
        if top_k.is_none() && top_p.is_none() && min_p.is_none() {
            let total: f64 = weights.iter().sum();
            return pass(0..weights.len() as u32, weights, uniform * total);
        }
        let kept = &mut self.kept;
        kept.clear();
        kept.extend(0..weights.len() as u32);
        if let Some(k) = top_k {
            keep_top_k(kept, weights, k);
        }
        if let Some(p) = top_p {
            keep_top_p(kept, weights, f64::from(p));
        }
        if let Some(p) = min_p {
            // The most likely token has weight 1.
            kept.retain(|token| weights[*token as usize] >= f64::from(p));
        }
        kept.sort_unstable();
        let total: f64 = kept.iter().map(|token| weights[*token as usize]).sum();
        pass(kept.iter().copied(), weights, uniform * total)
    }
}

/// First token whose cumulative weight exceeds `target`, or the last with any weight.
fn pass(tokens: impl Iterator<Item = u32>, weights: &[f64], target: f64) -> u32 {
    let (mut cumulative, mut last) = (0.0, 0);
    for token in tokens {
        let weight = weights[token as usize];
        cumulative += weight;
        if cumulative > target {
            return token;
        }
        if weight > 0.0 {
            last = token;
        }
    }
    last
}

/// More weight first; the smaller token first among equals.
fn by_weight(weights: &[f64]) -> impl Fn(&u32, &u32) -> Ordering + Copy {
    |a, b| {
        weights[*b as usize]
            .total_cmp(&weights[*a as usize])
            .then(a.cmp(b))
    }
}

fn keep_top_k(kept: &mut Vec<u32>, weights: &[f64], k: usize) {
    if k >= kept.len() {
        return;
    }
    let (_, last, _) = kept.select_nth_unstable_by(k - 1, by_weight(weights));
    let least = weights[*last as usize];
    kept.retain(|token| weights[*token as usize] >= least);
}

/// Keeps a token if the more likely ones together hold less than `p`.
///
/// The head of the distribution is sorted in growing pieces: it is short as a rule, and sorting a
/// whole vocabulary would cost more than the forward pass.
fn keep_top_p(kept: &mut Vec<u32>, weights: &[f64], p: f64) {
    kept.sort_unstable();
    let total: f64 = kept.iter().map(|token| weights[*token as usize]).sum();
    let (mut sorted, mut before) = (0, 0.0);
    let mut piece = 64;
    while sorted < kept.len() {
        let rest = &mut kept[sorted..];
        let length = piece.min(rest.len());
        if length < rest.len() {
            rest.select_nth_unstable_by(length, by_weight(weights));
        }
        rest[..length].sort_unstable_by(by_weight(weights));
        for place in sorted..sorted + length {
            if place > 0 && before >= p * total {
                kept.truncate(place);
                return;
            }
            before += weights[kept[place] as usize];
        }
        sorted += length;
        piece *= 8;
    }
}

fn argmax(logits: &[f32], max: f32) -> u32 {
    logits.iter().position(|x| *x == max).unwrap_or(0) as u32
}

/// The largest logit, or nothing if one of them is not finite (or there is none).
fn finite_max(logits: &[f32]) -> Option<f32> {
    const LANES: usize = 16;
    let mut max = [f32::NEG_INFINITY; LANES];
    // Zero times NaN or infinity is NaN, and stays.
    let mut poison = [0f32; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            max[lane] = if chunk[lane] > max[lane] {
                chunk[lane]
            } else {
                max[lane]
            };
            poison[lane] += chunk[lane] * 0.0;
        }
    }
    let is_finite = poison.iter().all(|x| *x == 0.0) && rest.iter().all(|x| x.is_finite());
    let max = max
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    (is_finite && max.is_finite()).then_some(max)
}

fn weigh(logits: &[f32], max: f32, inverse_temperature: f64, weights: &mut Vec<f64>) -> Sums {
    let max = f64::from(max);
    let (mut total, mut moment) = (0.0, 0.0);
    weights.clear();
    weights.extend(logits.iter().map(|logit| {
        let exponent = (f64::from(*logit) - max) * inverse_temperature;
        let weight = exponent.exp();
        total += weight;
        moment += weight * exponent;
        weight
    }));
    Sums {
        max,
        inverse_temperature,
        total,
        moment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PromptId;
    use crate::rollout::RolloutConfig;
    use crate::seed::{Stage, stream};
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Golden {
        logits: Vec<f32>,
        seen: Vec<u32>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        params: RolloutConfig,
        probs: Vec<f64>,
        logprobs: Vec<f64>,
        entropy: f64,
    }

    fn golden() -> Golden {
        let text = include_str!("../../../fixtures/golden/decoder_sampling.json");
        serde_json::from_str(text).unwrap()
    }

    /// Exact probabilities of a sampler: where a fine grid of uniform numbers lands.
    fn measured(sampler: &mut Sampler<'_>, golden: &Golden, num_draws: u32) -> Vec<f64> {
        let mut counts = vec![0.0; golden.logits.len()];
        for draw in 0..num_draws {
            let uniform = (f64::from(draw) + 0.5) / f64::from(num_draws);
            let draw = sampler.draw(&golden.logits, &golden.seen, uniform).unwrap();
            counts[draw.token as usize] += 1.0 / f64::from(num_draws);
        }
        counts
    }

    #[test]
    fn distributions_are_those_of_transformers() {
        let golden = golden();
        for case in &golden.cases {
            let params = case.params.sampling(Vec::new());
            let mut sampler = Sampler::new(&params);
            let measured = measured(&mut sampler, &golden, 20_000);
            for (token, (got, expected)) in measured.iter().zip(&case.probs).enumerate() {
                let name = &case.name;
                assert!(
                    (got - expected).abs() < 1.1e-4,
                    "{name}: {token}: {got}, not {expected}"
                );
                assert!(*got == 0.0 || *expected > 0.0, "{name}: {token}");
            }
            let draw = sampler.draw(&golden.logits, &golden.seen, 0.3).unwrap();
            assert!((f64::from(draw.logprob) - case.logprobs[draw.token as usize]).abs() < 1e-6);
            assert!((f64::from(draw.entropy) - case.entropy).abs() < 1e-6);
        }
    }

    #[test]
    fn draws_of_a_stream_follow_the_distribution() {
        let golden = golden();
        let case = &golden.cases[0];
        let params = case.params.sampling(Vec::new());
        let mut sampler = Sampler::new(&params);
        let mut stream = stream(9, Stage::Rollout, 0, PromptId(1), 2);
        let num_draws = 40_000u32;
        let mut counts = vec![0.0; golden.logits.len()];
        for position in 0..num_draws {
            let uniform = stream.uniform_at(u64::from(position));
            let draw = sampler.draw(&golden.logits, &[], uniform).unwrap();
            counts[draw.token as usize] += 1.0;
        }
        // Pearson's statistic over the cells that expect at least five draws, the rest pooled.
        let (mut statistic, mut cells, mut rest) = (0.0, 0, (0.0, 0.0));
        for (count, prob) in counts.iter().zip(&case.probs) {
            let expected = prob * f64::from(num_draws);
            if expected < 5.0 {
                rest = (rest.0 + count, rest.1 + expected);
            } else {
                statistic += (count - expected).powi(2) / expected;
                cells += 1;
            }
        }
        if rest.1 > 0.0 {
            statistic += (rest.0 - rest.1).powi(2) / rest.1;
        }
        let freedom = f64::from(cells);
        let limit = freedom + 4.0 * (2.0 * freedom).sqrt();
        assert!(statistic < limit, "{statistic} over {cells} cells");
    }

    #[test]
    fn filters_that_keep_everything_change_nothing() {
        let golden = golden();
        let free = RolloutConfig::default().sampling(Vec::new());
        let wide = SamplingParams {
            top_k: Some(1000),
            top_p: Some(1.0),
            min_p: Some(0.0),
            ..free.clone()
        };
        let (mut free, mut wide) = (Sampler::new(&free), Sampler::new(&wide));
        for uniform in (0..997).map(|i| f64::from(i) / 997.0) {
            let expected = free.draw(&golden.logits, &golden.seen, uniform);
            assert_eq!(wide.draw(&golden.logits, &golden.seen, uniform), expected);
        }
    }

    #[test]
    fn top_p_of_a_large_vocabulary_matches_a_full_sort() {
        let mut draws = stream(1, Stage::Rollout, 0, PromptId(0), 0);
        let weights: Vec<f64> = (0..5000).map(|_| draws.normal().exp()).collect();
        for p in [0.01, 0.3, 0.9, 0.999, 1.0] {
            let mut kept: Vec<u32> = (0..5000).collect();
            keep_top_p(&mut kept, &weights, p);
            let mut sorted: Vec<u32> = (0..5000).collect();
            sorted.sort_by(by_weight(&weights));
            let total: f64 = weights.iter().sum();
            let (mut before, mut length) = (0.0, 0);
            while length < 5000 && (length == 0 || before < p * total) {
                before += weights[sorted[length] as usize];
                length += 1;
            }
            kept.sort_unstable();
            sorted.truncate(length);
            sorted.sort_unstable();
            assert_eq!(kept, sorted, "p = {p}");
        }
    }

    #[test]
    fn logits_that_are_not_finite_are_refused_wherever_they_are() {
        let params = RolloutConfig::default().sampling(Vec::new());
        let mut sampler = Sampler::new(&params);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 7, 16, 31, 39] {
                let mut logits = vec![0.5; 40];
                logits[place] = bad;
                assert_eq!(sampler.draw(&logits, &[], 0.5), None);
            }
        }
        assert_eq!(sampler.draw(&[], &[], 0.5), None);
        assert!(sampler.draw(&[3.0; 40], &[], 0.999_999).is_some());
    }
}
