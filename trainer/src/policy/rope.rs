//! Rotary position embedding in the rotate-half layout of Hugging Face checkpoints.
//!
//! Su et al., "RoFormer" (2021), arXiv:2104.09864: the pair `(x[i], x[i + K/2])` at position `p` is
//! turned by the angle `p * theta^(-2i/K)`. With `swap(x) = [x2, x1]` the two halves of a head,
//!
//! ```text
//! rotate(x) = x * [cos, cos] + swap(x) * [-sin, sin]
//! ```
//!
//! Frequencies and angles are rounded to f32 before the cosine, as the published checkpoints were
//! trained: an exact angle would differ from theirs by 1e-5 at position 1000.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::{ModelConfig, RopeScaling};

/// Frequencies of the rotary pairs, `[K / 2]`, after scaling.
pub fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let half = config.head_dim / 2;
    (0..half)
        .map(|pair| {
            let exponent = -((2 * pair) as f64) / config.head_dim as f64;
            scaled(config.rope_theta.powf(exponent), &config.rope_scaling)
        })
        .collect()
}

/// One frequency after scaling. The `Llama3` rule keeps short wavelengths, divides long ones by
/// `factor` and interpolates between (Llama 3.1 reference code, `apply_scaling`).
fn scaled(frequency: f64, scaling: &RopeScaling) -> f64 {
    match *scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            let original = original_max_position_embeddings as f64;
            let wavelength = core::f64::consts::TAU / frequency;
            if wavelength < original / high_freq_factor {
                frequency
            } else if wavelength > original / low_freq_factor {
                frequency / factor
            } else {
                let smooth = (original / wavelength - low_freq_factor)
                    / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}

/// Cosines and signed sines of every position up to a length.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

/// Cosines and signed sines of given rows, broadcast over heads.
///
/// # Shapes
/// - both: `[N or 1, T, 1, K]`
#[derive(Clone, Debug)]
pub struct RopeRows {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl RopeTable {
    /// Tables for positions `0..num_positions`, computed on the host.
    ///
    /// # Shapes
    /// - `cos`, `sin`: `[num_positions, K]`
    pub fn new(config: &ModelConfig, num_positions: usize, device: &Device) -> Self {
        let width = config.head_dim;
        let half = width / 2;
        let frequencies = frequencies(config);
        let mut cos = vec![0f32; num_positions * width];
        let mut sin = vec![0f32; num_positions * width];
        for position in 0..num_positions {
            for (pair, frequency) in frequencies.iter().enumerate() {
                let angle = f64::from(position as f32 * *frequency as f32);
                let (first, second) = (position * width + pair, position * width + half + pair);
                cos[first] = angle.cos() as f32;
                cos[second] = cos[first];
                sin[second] = angle.sin() as f32;
                sin[first] = -sin[second];
            }
        }
        let upload =
            |values| Tensor::from_data(TensorData::new(values, [num_positions, width]), device);
        Self {
            cos: upload(cos),
            sin: upload(sin),
        }
    }

    /// Rows for a batch whose column `t` is position `t`.
    ///
    /// # Shapes
    /// - output: `[1, T, 1, K]`, T being the length of the table
    pub fn all(&self) -> RopeRows {
        let [positions, width] = self.cos.dims();
        let shape = [1, positions, 1, width];
        RopeRows {
            cos: self.cos.clone().reshape(shape),
            sin: self.sin.clone().reshape(shape),
        }
    }

    /// Rows for single tokens at the given positions.
    ///
    /// # Shapes
    /// - `positions`: `[R]`
    /// - output: `[R, 1, 1, K]`
    pub fn rows(&self, positions: Tensor<1, Int>) -> RopeRows {
        let [rows] = positions.dims();
        let shape = [rows, 1, 1, self.cos.dims()[1]];
        RopeRows {
            cos: self.cos.clone().select(0, positions.clone()).reshape(shape),
            sin: self.sin.clone().select(0, positions).reshape(shape),
        }
    }
}

impl RopeRows {
    /// Turns every head of `x`.
    ///
    /// # Shapes
    /// - `x`: `[N, T, heads, K]`
    /// - output: same
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let first = x.clone().narrow(3, 0, half);
        let second = x.clone().narrow(3, half, half);
        let swapped = Tensor::cat(vec![second, first], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::decoder::tests::tiny_config;

    #[test]
    fn rotation_turns_pairs_half_a_head_apart() {
        let device = Device::default();
        let config = tiny_config();
        let width = config.head_dim;
        let values: Vec<f32> = (0..3 * width).map(|i| (i as f32 * 0.37).sin()).collect();
        let x = Tensor::<4>::from_data(TensorData::new(values.clone(), [1, 3, 1, width]), &device);
        let turned = RopeTable::new(&config, 3, &device).all().rotate(x);
        let turned = turned.into_data().try_to_vec::<f32>().unwrap();
        let frequencies = frequencies(&config);
        for position in 0..3 {
            for (pair, frequency) in frequencies.iter().enumerate() {
                let angle = position as f64 * frequency;
                let a = f64::from(values[position * width + pair]);
                let b = f64::from(values[position * width + width / 2 + pair]);
                let expected = a * angle.cos() - b * angle.sin();
                let got = f64::from(turned[position * width + pair]);
                assert!((got - expected).abs() < 1e-6, "{got} is not {expected}");
            }
        }
    }

    #[test]
    fn llama3_scaling_keeps_short_and_divides_long_wavelengths() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        };
        assert_eq!(scaled(1.0, &scaling), 1.0);
        assert_eq!(scaled(1e-4, &scaling), 1e-4 / 8.0);
        let between = scaled(core::f64::consts::TAU / 32.0, &scaling);
        let frequency = core::f64::consts::TAU / 32.0;
        assert!(between < frequency && between > frequency / 8.0);
        assert_eq!(scaled(1.0, &RopeScaling::Linear { factor: 4.0 }), 0.25);
    }
}
