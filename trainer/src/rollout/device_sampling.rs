//! Tokens from logits that stay on their device: what [`super::sampling`] does on the host. A call
//! uploads one number per row and reads three; [`rlvr_backends::kernels::draw`] says how they are
//! drawn and what differs from the host.
//!
//! There is no repetition penalty here, which would need every row's history: the engine then
//! samples on the host.

use burn::tensor::{DType, Tensor, TensorData};
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
        let rows = uniforms.len();
        if logits.dims()[0] == 0 && rows == 0 {
            return Ok(Vec::new());
        }
        let uniforms: Vec<f32> = uniforms.iter().map(|&uniform| uniform as f32).collect();
        let uniforms = TensorData::new(uniforms, [rows, 1]);
        let uniforms = Tensor::<2>::from_data(uniforms, (&logits.device(), DType::F32));
        let drawn = read(self.draw_unread(logits, uniforms))?;
        Ok(drawn.as_chunks().0.iter().map(drawn_of).collect())
    }

    /// As [`DeviceSampler::draw`], without waiting.
    ///
    /// # Shapes
    /// - `logits`: `[R, V]`, at least one row; `uniforms`: `[R, 1]`
    /// - output: `[R, 3]`; what [`drawn_of`] takes
    ///
    /// # Panics
    /// As [`draw`].
    pub(super) fn draw_unread(&self, logits: Tensor<2>, uniforms: Tensor<2>) -> Tensor<2> {
        draw(logits, uniforms, &self.drawing)
    }
}

/// What a row draws, from token, log-prob and entropy; nothing from a logit that is not finite.
pub(super) fn drawn_of(&[token, logprob, entropy]: &[f32; 3]) -> Option<Draw> {
    (token >= 0.0).then_some(Draw {
        token: token as u32,
        logprob,
        entropy,
    })
}
