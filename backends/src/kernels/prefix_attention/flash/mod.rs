//! Attention of packed rows as kernels that hold a tile of scores at a time, on CUDA devices with
//! tensor cores: no score leaves the chip, no row is padding, and a block is one launch forwards and
//! two back.
//!
//! Dao, "FlashAttention-2" (2023), arXiv:2307.08691, but nothing of the forward pass is kept: the way back
//! goes over the keys of its rows once more, for the logarithm of the sum of their exponentials and the
//! mean of the weights' gradient. Which rows see which is [`Layout`]; no sum crosses cubes, so the order
//! of all sums is fixed. Products are of bf16 operands, summed in 32 bits, and everything between is in
//! 32 bits.

mod backward;
mod forward;
mod layout;
mod product;
mod tile;

use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};
use rlvr_core::Precision;

use super::weights::scale;
use super::{AttentionGradients, Heads};
use crate::kernels::cube::FusedOps;
use crate::kernels::cube::tensor_cores::has_tensor_cores;
pub(in crate::kernels) use backward::launch as launch_backward;
pub(in crate::kernels) use forward::launch;
pub(super) use layout::Layout;

/// True if the kernels run there.
pub(super) fn has_kernel(device: &Device, precision: Precision, heads: Heads) -> bool {
    precision == Precision::Bf16 && heads.fit_tiles() && has_tensor_cores(device)
}

/// As [`super::prefix_attention`], an operand.
pub(super) fn forward(inputs: [Tensor<2>; 3], layout: &Layout, heads: Heads) -> Tensor<2> {
    let [queries, keys, values] = operands(inputs);
    Tensor::from_dispatch(Dispatch::flash_attention(
        queries.into_dispatch(),
        keys.into_dispatch(),
        values.into_dispatch(),
        layout.rows.clone().into_dispatch(),
        layout.tiles.clone().into_dispatch(),
        heads,
        scale(heads) as f32,
    ))
}

/// As [`super::prefix_attention_backward`].
pub(super) fn backward(
    inputs: [Tensor<2>; 3],
    grad: Tensor<2>,
    layout: &Layout,
    heads: Heads,
) -> AttentionGradients {
    let [queries, keys, values] = operands(inputs);
    let (queries, keys, values) = Dispatch::flash_attention_backward(
        queries.into_dispatch(),
        keys.into_dispatch(),
        values.into_dispatch(),
        Precision::Bf16.operand(grad).into_dispatch(),
        layout.rows.clone().into_dispatch(),
        layout.tiles.clone().into_dispatch(),
        heads,
        scale(heads) as f32,
    );
    AttentionGradients {
        queries: Tensor::from_dispatch(queries),
        keys: Tensor::from_dispatch(keys),
        values: Tensor::from_dispatch(values),
    }
}

fn operands(inputs: [Tensor<2>; 3]) -> [Tensor<2>; 3] {
    inputs.map(|input| Precision::Bf16.operand(input))
}
