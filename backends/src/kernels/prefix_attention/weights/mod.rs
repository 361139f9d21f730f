//! Weights of attention from the scores of a batch, and the gradient of the scores.
//!
//! In Burn's operations the scores are gone over a dozen times in 32 bits. Where there is a CubeCL
//! kernel they are read, and what the next product multiplies is written, in the type of an operand,
//! which is most of the memory that attention moves; and a batch is a few launches fewer.

#[cfg(feature = "cube")]
pub(in crate::kernels) mod cube;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use rlvr_core::Precision;

use super::Heads;
use super::batches::Batch;

/// Scores of a batch as a product left them, `[n, Hkv, g * T, S]`, and how to read them.
pub(super) struct Scores<'a> {
    pub(super) raw: Tensor<4>,
    pub(super) batch: &'a Batch,
    pub(super) heads: Heads,
    pub(super) precision: Precision,
}

/// What a batch multiplies on the way back.
pub(super) struct Weights {
    /// As in the forward pass, `[n, Hkv, g * T, S]`.
    pub(super) probs: Tensor<4>,
    /// Gradient of the scores, likewise.
    pub(super) d_scores: Tensor<4>,
}

/// True if kernels compute them, and divide by the root of K; queries are divided elsewhere.
pub(super) fn has_kernel(device: &Device) -> bool {
    #[cfg(feature = "cube")]
    return crate::kernels::cube::is_cube(device);
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        false
    }
}

pub(super) fn scale(heads: Heads) -> f64 {
    1.0 / (heads.width as f64).sqrt()
}

impl Scores<'_> {
    /// The softmax over what each row sees, as an operand.
    pub(super) fn probs(self, is_fused: bool) -> Tensor<4> {
        match is_fused {
            #[cfg(feature = "cube")]
            true => cube::probs(&self),
            _ => self.precision.operand(self.softmax()),
        }
    }

    /// Weights, and the gradient of the scores from that of the weights, as a product left it, both
    /// as operands.
    pub(super) fn backward(self, d_probs: Tensor<4>, is_fused: bool) -> Weights {
        match is_fused {
            #[cfg(feature = "cube")]
            true => cube::backward(&self, d_probs),
            _ => {
                let precision = self.precision;
                let (probs, d_probs) = (self.softmax(), precision.result(d_probs));
                let along = (probs.clone() * d_probs.clone()).sum_dim(3);
                let d_scores = probs.clone() * (d_probs - along);
                Weights {
                    probs: precision.operand(probs),
                    d_scores: precision.operand(d_scores),
                }
            }
        }
    }

    /// In 32 bits.
    fn softmax(self) -> Tensor<4> {
        let shape = self.raw.dims();
        let [count, kv_heads, folded, columns] = shape;
        let group = self.heads.group;
        let scores = self.precision.result(self.raw);
        let scores = scores.reshape([count, kv_heads * group, folded / group, columns]);
        softmax(scores + self.batch.bias(), 3).reshape(shape)
    }
}
