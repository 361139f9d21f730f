//! Tokens drawn from hidden states by two kernels that multiply with the vocabulary themselves, so that no
//! logit is ever in memory: on CUDA devices with tensor cores, in bf16, without filters.
//!
//! The first, [`strips`], multiplies by tiles and leaves of every row and strip of [`STRIP`] tokens what
//! the softmax needs of it: largest logit, sum of weights, and their mean exponent. The second,
//! [`pick`], chooses a strip by those sums, multiplies its 64 tokens once more, for the logits are gone,
//! and chooses among them. Both add a logit's terms in the same order, so it has the same bits in
//! both, whatever rows stand beside it, and it is rounded as a product's result is. Where a logit in
//! bf16 is written once and read twice, six bytes, this leaves three quarters of one, and a strip of
//! weights to be read for every row.

mod pick;
mod strips;

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor as Rows, bf16};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use rlvr_core::Precision;

use super::{Drawing, Filters};
use crate::kernels::Projection;
use crate::kernels::cube::FusedOps;
use crate::kernels::cube::tensor_cores::{has_tensor_cores, in_pieces};

pub(super) fn has_kernel(
    hidden: &Rows<2>,
    head: &Projection,
    filters: &Filters,
    precision: Precision,
) -> bool {
    let [vocab, width] = head.weight.dims();
    super::fits_kernel(precision, [width, vocab], filters)
        && head.bias.is_none()
        && has_tensor_cores(&hidden.device())
}

/// As [`super::project_and_draw`].
pub(super) fn draw(
    hidden: Rows<2>,
    weight: Rows<2>,
    uniforms: Rows<2>,
    drawing: &Drawing,
) -> Rows<2> {
    let [hidden, weight] = [hidden, weight].map(|it| Precision::Bf16.operand(it));
    Rows::from_dispatch(Dispatch::project_and_draw(
        hidden.into_dispatch(),
        weight.into_dispatch(),
        uniforms.into_dispatch(),
        drawing.inverse_temperature,
        drawing.is_greedy,
    ))
}

/// As [`super::project_and_draw`], of operands in bf16.
pub(in crate::kernels) fn launch(
    hidden: CubeTensor,
    weight: CubeTensor,
    uniforms: CubeTensor,
    inverse_temperature: f32,
    is_greedy: bool,
) -> CubeTensor {
    let (hidden, weight) = (in_pieces(hidden), in_pieces(weight));
    let parts = strips::launch(hidden.clone(), weight.clone(), inverse_temperature);
    pick::launch(
        parts,
        [hidden, weight],
        uniforms,
        inverse_temperature,
        is_greedy,
    )
}

/// An f32 tensor beside another.
fn beside(tensor: &CubeTensor, shape: [usize; 2]) -> CubeTensor {
    let (client, device) = (tensor.client.clone(), tensor.device.clone());
    empty_device_dtype(client, device, shape.into(), DType::F32)
}

/// As a product in bf16 leaves a sum.
#[cube]
fn rounded(sum: f32) -> f32 {
    f32::cast_from(bf16::cast_from(sum))
}
