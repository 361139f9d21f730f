//! Tokens from logits that stay on their device: what [`super::sampling`] does on the host. A call
//! uploads one number per row and reads three; [`rlvr_backends::kernels::draw`] says how they are
//! drawn and what differs from the host.
//!
//! There is no repetition penalty here, which would need every row's history: the engine then
//! samples on the host.

use burn::tensor::{DType, Int, Tensor, TensorData};
use rlvr_backends::kernels::{Drawing, Filters, draw};

use super::sampling::Draw;
use super::worker::read;
use super::{RolloutError, SamplingParams};

/// Samples rows on the device of their logits.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSampler {
    drawing: Drawing,
}

impl DeviceSampler {
    /// A sampler. It does not read the repetition penalty.
    pub fn new(params: &SamplingParams) -> Self {
        let filters = Filters {
            top_k: params.top_k,
            top_p: params.top_p,
            min_p: params.min_p,
        };
        Self {
            drawing: Drawing::at(params.temperature, filters),
        }
    }

    /// One token per row with uniform numbers in [0, 1), or nothing for a row with a logit that is
    /// not finite. Waits for the device, once.
    ///
    /// # Shapes
    /// - `logits`: `[R, V]`; `uniforms`: `[R]`
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// As [`draw`].
    pub fn draw(
        &self,
        logits: Tensor<2>,
        uniforms: &[f64],
    ) -> Result<Vec<Option<Draw>>, RolloutError> {
        if logits.dims()[0] == 0 && uniforms.is_empty() {
            return Ok(Vec::new());
        }
        read_draws(self.draw_unread(logits, uniforms))
    }

    /// As [`DeviceSampler::draw`], without waiting: what [`read_draws`] reads and [`next_tokens`]
    /// goes on with.
    ///
    /// # Shapes
    /// - `logits`: `[R, V]`, at least one row; `uniforms`: `[R]`
    /// - output: `[R, 3]`; token, log-prob and entropy
    ///
    /// # Panics
    /// As [`draw`].
    pub(super) fn draw_unread(&self, logits: Tensor<2>, uniforms: &[f64]) -> Tensor<2> {
        let uniforms: Vec<f32> = uniforms.iter().map(|&uniform| uniform as f32).collect();
        let rows = uniforms.len();
        let uniforms = TensorData::new(uniforms, [rows, 1]);
        let uniforms = Tensor::<2>::from_data(uniforms, (&logits.device(), DType::F32));
        draw(logits, uniforms, &self.drawing)
    }
}

/// The draws of some rows, on the host; nothing for a row with a logit that is not finite.
///
/// # Shapes
/// - `drawn`: `[R, 3]`, of [`DeviceSampler::draw_unread`]
///
/// # Errors
/// If the device fails.
pub(super) fn read_draws(drawn: Tensor<2>) -> Result<Vec<Option<Draw>>, RolloutError> {
    let draw = |row: &[f32; 3]| {
        let &[token, logprob, entropy] = row;
        (token >= 0.0).then_some(Draw {
            token: token as u32,
            logprob,
            entropy,
        })
    };
    Ok(read(drawn)?.as_chunks().0.iter().map(draw).collect())
}

/// The tokens of some rows, still on the device: 0 for a row without one.
///
/// # Shapes
/// - `drawn`: `[R, 3]`, of [`DeviceSampler::draw_unread`]
/// - output: `[R]`
pub(super) fn next_tokens(drawn: &Tensor<2>) -> Tensor<1, Int> {
    let tokens = drawn.clone().narrow(1, 0, 1).squeeze_dim::<1>(1);
    tokens.int().clamp_min(0)
}
