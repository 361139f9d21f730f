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

use burn::tensor::{Device, Tensor, TensorData};
use rlvr_backends::kernels::Rotation;

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

/// Cosines and signed sines of every position up to a length, on the host.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    width: usize,
}

/// Cosines and signed sines of whole sequences, broadcast over sequences and heads.
///
/// # Shapes
/// - both: `[1, T, 1, K]`
#[derive(Clone, Debug)]
pub struct RopeRows {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl RopeTable {
    /// Tables for positions `0..num_positions`.
    pub fn new(config: &ModelConfig, num_positions: usize) -> Self {
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
        Self { cos, sin, width }
    }

    /// All positions, in order.
    pub fn all(self, device: &Device) -> RopeRows {
        let shape = [1, self.cos.len() / self.width, 1, self.width];
        let Rotation { cos, sin } = self.in_order(device);
        RopeRows {
            cos: cos.reshape(shape),
            sin: sin.reshape(shape),
        }
    }

    /// All positions, in order, for packed rows to look theirs up.
    pub fn in_order(self, device: &Device) -> Rotation {
        let shape = [self.cos.len() / self.width, self.width];
        let upload = |values| Tensor::from_data(TensorData::new(values, shape), device);
        Rotation {
            cos: upload(self.cos),
            sin: upload(self.sin),
        }
    }

    /// The given positions, one per packed row.
    pub fn rows(&self, positions: &[usize], device: &Device) -> Rotation {
        let upload = |table: &[f32]| {
            let mut values = Vec::with_capacity(self.width * positions.len());
            for position in positions {
                values.extend_from_slice(&table[position * self.width..][..self.width]);
            }
            Tensor::from_data(
                TensorData::new(values, [positions.len(), self.width]),
                device,
            )
        };
        Rotation {
            cos: upload(&self.cos),
            sin: upload(&self.sin),
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
        let swapped = swap_halves(x.clone(), 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}

/// `[x1, x2]` to `[x2, x1]` along `dim`.
fn swap_halves<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    let half = x.dims()[dim] / 2;
    let first = x.clone().narrow(dim, 0, half);
    Tensor::cat(vec![x.narrow(dim, half, half), first], dim)
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
        let turned = RopeTable::new(&config, 3).all(&device).rotate(x);
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
