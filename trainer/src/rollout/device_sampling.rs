//! Tokens drawn on the device, where logits stay or are never in memory: what [`super::sampling`] does on
//! the host. A call uploads one number per row and reads three; [`rlvr_backends::kernels::draw`] says
//! how they are drawn and what differs from the host.
//!
//! There is no repetition penalty here, which would need every row's history: the engine then
//! samples on the host.

use burn::tensor::{DType, Device, Tensor, TensorData};
use rlvr_backends::kernels::{Drawing, draw};

use super::sampling::Draw;
use super::worker::read;
use super::{RolloutError, SamplingParams};
use crate::policy::decode::DecodeWeights;

/// Samples rows on the device of their logits.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSampler {
    drawing: Drawing,
}

impl DeviceSampler {
    /// A sampler. It does not read the repetition penalty.
    pub fn new(params: &SamplingParams) -> Self {
        Self {
            drawing: Drawing::at(params.temperature, params.filters()),
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
        let uniforms = upload(uniforms, &logits.device());
        drawn(draw(logits, uniforms, &self.drawing))
    }

    /// As [`DeviceSampler::draw`], from final hidden states.
    ///
    /// # Shapes
    /// - `hidden`: `[R, D]`, at least one row; `uniforms`: `[R]`
    ///
    /// # Errors
    /// As [`DeviceSampler::draw`].
    ///
    /// # Panics
    /// As [`DecodeWeights::draw`].
    pub(super) fn draw_hidden(
        &self,
        weights: &DecodeWeights,
        hidden: Tensor<2>,
        uniforms: &[f64],
    ) -> Result<Vec<Option<Draw>>, RolloutError> {
        let uniforms = upload(uniforms, &hidden.device());
        drawn(self.draw_unread(weights, hidden, uniforms))
    }

    /// As [`DeviceSampler::draw_hidden`], without waiting.
    ///
    /// # Shapes
    /// - `hidden`: `[R, D]`, at least one row; `uniforms`: `[R, 1]`
    /// - output: `[R, 3]`; what [`drawn_of`] takes
    ///
    /// # Panics
    /// As [`DecodeWeights::draw`].
    pub(super) fn draw_unread(
        &self,
        weights: &DecodeWeights,
        hidden: Tensor<2>,
        uniforms: Tensor<2>,
    ) -> Tensor<2> {
        weights.draw(hidden, uniforms, &self.drawing)
    }
}

fn upload(uniforms: &[f64], device: &Device) -> Tensor<2> {
    let rows = uniforms.len();
    let uniforms: Vec<f32> = uniforms.iter().map(|&uniform| uniform as f32).collect();
    Tensor::from_data(TensorData::new(uniforms, [rows, 1]), (device, DType::F32))
}

fn drawn(rows: Tensor<2>) -> Result<Vec<Option<Draw>>, RolloutError> {
    let rows = read(rows)?;
    Ok(rows.as_chunks().0.iter().map(drawn_of).collect())
}

/// What a row draws, from token, log-prob and entropy; nothing from a logit that is not finite.
pub(super) fn drawn_of(&[token, logprob, entropy]: &[f32; 3]) -> Option<Draw> {
    (token >= 0.0).then_some(Draw {
        token: token as u32,
        logprob,
        entropy,
    })
}
