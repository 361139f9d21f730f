//! All randomness of a run: counter-based streams, one per purpose.
//!
//! A stream is keyed by (seed, stage, step, prompt id, rollout index) and read by position, so a
//! draw depends on what it is for and on nothing else: not on batch composition, slot, order or
//! what was drawn before.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::record::PromptId;

/// What a stream is for. The discriminants are part of the reproducibility promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// Order in which prompts are visited.
    Select = 1,
    /// Sampling of training completions.
    Rollout = 2,
    /// Sampling of evaluation completions.
    Eval = 3,
    /// Order of rows in an inner epoch.
    Update = 4,
    /// Procedural problems.
    Dataset = 5,
    /// Weight initialisation.
    Init = 6,
    /// Bootstrap intervals.
    Bootstrap = 7,
    /// The `generate` command.
    Generate = 8,
    /// Fresh rollouts for the report.
    Report = 20,
    /// Prompts and completions of a reward model.
    RewardModel = 21,
    /// Draws of the history filter; position 1 is the second draw of `greso_code`.
    Stage1 = 9,
    /// Draws of the random gate; the index is the round.
    RandomGate = 10,
    /// Which rejected prompts are audited.
    AuditChoice = 11,
    /// Sampling of audit completions.
    AuditRollout = 12,
    /// Pass rates drawn from posteriors.
    Posterior = 13,
}

/// A counter-based stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
}

/// The stream for one purpose. ChaCha8 (Bernstein, 2008) keyed by the five coordinates.
pub fn stream(
    seed: u64,
    stage: Stage,
    step: u64,
    prompt_id: PromptId,
    rollout_index: u32,
) -> Stream {
    let mut key = [0u8; 32];
    key[0..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&step.to_le_bytes());
    key[16..24].copy_from_slice(&prompt_id.0.to_le_bytes());
    key[24..28].copy_from_slice(&rollout_index.to_le_bytes());
    key[28..32].copy_from_slice(&(stage as u32).to_le_bytes());
    Stream {
        rng: ChaCha8Rng::from_seed(key),
    }
}

impl Stream {
    /// A uniform number in [0, 1) with 53 random bits, a function of the key and `position` alone.
    pub fn uniform_at(&mut self, position: u64) -> f64 {
        self.rng.set_word_pos(2 * u128::from(position));
        self.uniform()
    }

    /// The next uniform number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The next integer in `0..bound`, without modulo bias.
    ///
    /// # Panics
    /// If `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "below: bound must be positive");
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.rng.next_u64();
            if draw < zone {
                return draw % bound;
            }
        }
    }

    /// A standard normal number (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (core::f64::consts::TAU * self.uniform()).cos()
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_its_key_and_position_alone() {
        let mut forward = stream(1, Stage::Rollout, 2, PromptId(3), 4);
        let drawn: Vec<f64> = (0..8)
            .map(|position| forward.uniform_at(position))
            .collect();
        let mut backward = stream(1, Stage::Rollout, 2, PromptId(3), 4);
        for position in (0..8).rev() {
            assert_eq!(backward.uniform_at(position), drawn[position as usize]);
        }
        for other in [
            stream(2, Stage::Rollout, 2, PromptId(3), 4),
            stream(1, Stage::Eval, 2, PromptId(3), 4),
            stream(1, Stage::Rollout, 3, PromptId(3), 4),
            stream(1, Stage::Rollout, 2, PromptId(4), 4),
            stream(1, Stage::Rollout, 2, PromptId(3), 5),
        ] {
            assert_ne!(other.clone().uniform_at(0), drawn[0]);
        }
    }

    #[test]
    fn uniform_numbers_have_the_right_mean_and_variance() {
        let mut stream = stream(0, Stage::Init, 0, PromptId(0), 0);
        let draws: Vec<f64> = (0..40_000).map(|_| stream.uniform()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.006, "mean {mean}");
        assert!((variance - 1.0 / 12.0).abs() < 0.002, "variance {variance}");
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..100).collect();
        stream(5, Stage::Select, 0, PromptId(0), 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
