//! An adapter of a few bits: one multiplier per norm of the decoder, from a small fixed grid.
//!
//! The class of all its settings is finite and known before any prompt is seen, so a union bound
//! over it certifies the setting that training chose **on the training prompts themselves**
//! (`rlvr_bounds::finite_class`). Training is a coordinate search over the grid by mean reward:
//! any rule may be used, the bound holds for every member of the class at once. Rollouts share
//! their random numbers between settings, as the one-step bound asks.

use burn::module::Module;
use burn::nn::RmsNorm;
use serde::Serialize;

use crate::policy::decoder::Decoder;

/// Bits of a multiplier: at most this many, so that the grid stays readable.
pub const MAX_BITS: u32 = 8;

/// A setting: one grid index per norm, the final norm last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NormAdapter {
    /// Bits of each index.
    pub bits_each: u32,
    /// `0..2^bits_each`, two per block and one for the final norm.
    pub levels: Vec<u32>,
}

impl NormAdapter {
    /// The setting that changes nothing.
    ///
    /// # Panics
    /// If `bits_each` is not from 2 to [`MAX_BITS`].
    pub fn identity(decoder: &Decoder, bits_each: u32) -> Self {
        assert!(
            (2..=MAX_BITS).contains(&bits_each),
            "NormAdapter: 2 to 8 bits"
        );
        let norms = 2 * decoder.layers.len() + 1;
        let levels = vec![1 << (bits_each - 1); norms];
        Self { bits_each, levels }
    }

    /// Multiplier of a norm: `2^((level - half) / quarter)`, from 1/4 to below 4; 1 in the middle.
    pub fn multiplier(&self, norm: usize) -> f64 {
        let half = f64::from(1 << (self.bits_each - 1));
        ((f64::from(self.levels[norm]) - half) / (half / 2.0)).exp2()
    }

    /// The decoder with its norm gains multiplied.
    pub fn apply(&self, decoder: &Decoder) -> Decoder {
        let mut adapted = decoder.clone();
        let scale = |norm: &mut RmsNorm, by: f64| {
            norm.gamma = norm.gamma.clone().map(|gamma| gamma.mul_scalar(by));
        };
        for (index, block) in adapted.layers.iter_mut().enumerate() {
            scale(&mut block.input_layernorm, self.multiplier(2 * index));
            scale(
                &mut block.post_attention_layernorm,
                self.multiplier(2 * index + 1),
            );
        }
        let last = self.levels.len() - 1;
        scale(&mut adapted.norm, self.multiplier(last));
        adapted
    }

    /// The setting with one level moved; `None` outside the grid.
    fn moved(&self, norm: usize, by: i64) -> Option<Self> {
        let level = i64::from(self.levels[norm]) + by;
        let level = u32::try_from(level)
            .ok()
            .filter(|level| *level < 1 << self.bits_each)?;
        let mut moved = self.clone();
        moved.levels[norm] = level;
        Some(moved)
    }
}

/// Climbs from `start` by mean reward: for strides of a quarter of the grid down to 1, every norm
/// tries one stride up and down and keeps what earns more. The final norm comes first: it acts as
/// the temperature. Returns the setting and its reward.
///
/// # Errors
/// What `reward` returns.
pub fn climb<E>(
    start: NormAdapter,
    mut reward: impl FnMut(&NormAdapter) -> Result<f64, E>,
) -> Result<(NormAdapter, f64), E> {
    let mut best = (start.clone(), reward(&start)?);
    let mut stride = 1 << (start.bits_each - 2);
    while stride > 0 {
        for norm in (0..start.levels.len()).rev() {
            for by in [stride, -stride] {
                let Some(tried) = best.0.moved(norm, by) else {
                    continue;
                };
                let found = reward(&tried)?;
                if found > best.1 {
                    best = (tried, found);
                    break;
                }
            }
        }
        stride /= 2;
    }
    Ok(best)
}

/// An untracked copy of the decoder under a setting.
pub fn adapted(decoder: &Decoder, setting: &NormAdapter) -> Decoder {
    setting.apply(decoder).valid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::config::{Architecture, ModelConfig, RopeScaling};
    use burn::tensor::Tensor;

    fn decoder() -> Decoder {
        let config = ModelConfig {
            architecture: Architecture::Llama,
            vocab_size: 11,
            hidden_size: 8,
            intermediate_size: 12,
            num_layers: 2,
            num_heads: 2,
            num_kv_heads: 1,
            head_dim: 4,
            rms_norm_eps: 1e-5,
            rope_theta: 1e4,
            rope_scaling: RopeScaling::None,
            max_position_embeddings: 16,
            tie_word_embeddings: true,
            attention_bias: false,
            qk_norm: false,
        };
        Decoder::init(&config, 1, &crate::test_device())
    }

    fn hidden(decoder: &Decoder) -> Vec<f32> {
        let tokens = Tensor::from_ints([[1, 2, 3]], &crate::test_device());
        decoder.hidden(tokens).into_data().iter().collect()
    }

    #[test]
    fn the_middle_of_the_grid_changes_nothing_and_the_last_norm_scales() {
        let decoder = decoder();
        let mut setting = NormAdapter::identity(&decoder, 4);
        assert_eq!(setting.levels.len(), 5);
        let before = hidden(&decoder);
        assert_eq!(hidden(&setting.apply(&decoder)), before);
        setting.levels[4] = 12;
        assert_eq!(setting.multiplier(4), 2.0);
        let after = hidden(&setting.apply(&decoder));
        for (after, before) in after.iter().zip(&before) {
            assert!((after - 2.0 * before).abs() < 1e-5);
        }
        setting.levels[4] = 8;
        setting.levels[0] = 0;
        assert_eq!(setting.multiplier(0), 0.25);
        assert_ne!(hidden(&setting.apply(&decoder)), before);
    }

    #[test]
    fn the_climb_finds_the_peak_of_a_smooth_reward() {
        let start = NormAdapter::identity(&decoder(), 4);
        let peak = [3, 8, 11, 8, 15];
        let mut tried = 0;
        let reward = |setting: &NormAdapter| {
            tried += 1;
            let levels = setting.levels.iter().zip(peak);
            let far: f64 = levels
                .map(|(&l, p)| (f64::from(l) - f64::from(p)).powi(2))
                .sum();
            Ok::<f64, ()>(-far)
        };
        let (found, _) = climb(start, reward).unwrap();
        assert_eq!(found.levels, peak);
        assert!(tried < 40, "{tried}");
    }
}
