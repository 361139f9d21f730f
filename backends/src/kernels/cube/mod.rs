//! Operations that CubeCL devices (CUDA, Vulkan and the others of wgpu) have kernels for.
//!
//! The kernels stand beside their operations; [`launch`] says which is whose. Here is how they are
//! reached: Burn runs operations of its own lazily, as one stream that it fuses, and these methods put
//! ours into that stream.

mod launch;
pub(super) mod rows;
pub(super) mod squares;
pub(super) mod sums;
pub(super) mod tensor_cores;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn::tensor::{DType, Device, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;

use super::draw::Drawing;
use super::prefix_attention::Heads;

/// True if kernels of CubeCL run on `device`.
pub(super) fn is_cube(device: &Device) -> bool {
    !crate::is_host(device)
}

/// How a kernel names a type.
pub(super) fn element(dtype: DType) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(dtype)
}

/// True if the numbers along the last axis are neighbours. The other strides are free: CUDA starts
/// every row at an aligned address, so rows may have gaps between them.
pub(super) fn is_in_rows(tensor: &CubeTensor) -> bool {
    let axis = tensor.meta.num_dims() - 1;
    let is_dense = tensor.meta.shape()[axis] == 1 || tensor.meta.strides()[axis] == 1;
    is_dense && !tensor.meta.is_tiled()
}

/// The tensor with neighbours along its last axis, as the kernels read it: by its other strides.
pub(super) fn in_rows(tensor: CubeTensor) -> CubeTensor {
    match is_in_rows(&tensor) {
        true => tensor,
        false => into_contiguous(tensor),
    }
}

/// The tensor itself if nothing else holds its memory, else a copy.
pub(super) fn sole(tensor: CubeTensor) -> CubeTensor {
    match tensor.can_mut() && is_in_rows(&tensor) {
        true => tensor,
        false => tensor.copy(),
    }
}

/// Fused operations, on tensors without autodiff.
#[backend_extension(Cube, Fusion)]
pub trait FusedOps: Backend {
    /// As [`super::draw::draw`].
    #[fusion(dtype = DType::F32, shape = rows_of_three(logits))]
    fn draw(
        logits: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        drawing: Drawing,
    ) -> FloatTensor<Self>;

    /// As [`super::draw::project_and_draw`], of operands in bf16, without filters.
    #[fusion(dtype = DType::F32, shape = rows_of_three(hidden))]
    fn project_and_draw(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        inverse_temperature: f32,
        is_greedy: bool,
    ) -> FloatTensor<Self>;

    /// As [`super::rms_norm::rms_norm`], with a result of type `dtype`.
    #[fusion(meta = |x, _, _, dtype| TensorSpec::new(x.shape.clone(), *dtype))]
    fn rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        eps: f32,
        dtype: DType,
    ) -> FloatTensor<Self>;

    /// As [`super::rms_norm::add_rms_norm`], with a norm of type `dtype`.
    #[fusion(meta = |x, _, _, _, dtype| {
        (x.clone(), TensorSpec::new(x.shape.clone(), *dtype))
    })]
    fn add_rms_norm(
        x: FloatTensor<Self>,
        delta: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        eps: f32,
        dtype: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// As [`super::rms_norm::cube::launch_backward`].
    #[fusion(meta = |x, gamma, _, _, strips| {
        let parts = [*strips, gamma.shape[0]];
        (x.clone(), TensorSpec::new(parts.into(), DType::F32))
    })]
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        eps: f32,
        strips: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// As [`squares::parts`].
    #[fusion(dtype = DType::F32, shape = [cubes].into())]
    fn squares(a: FloatTensor<Self>, cubes: usize) -> FloatTensor<Self>;

    /// As [`super::swiglu::cube::launch`].
    #[fusion(meta = |gate, _, up_start, dtype| {
        let shape = [gate.shape[0], gate.shape[1] - up_start];
        TensorSpec::new(shape.into(), *dtype)
    })]
    fn swiglu(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        up_start: usize,
        dtype: DType,
    ) -> FloatTensor<Self>;

    /// Value and gradients of gate and up, as [`super::swiglu::swiglu_backward`], of type `dtype`.
    #[fusion(meta = |gate, _, _, dtype| {
        let like = || TensorSpec::new(gate.shape.clone(), *dtype);
        (like(), like(), like())
    })]
    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        dtype: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// As [`super::decode_attention::decode_attention`]: what is attended, and the edited keys and
    /// values.
    #[allow(clippy::too_many_arguments)] // each tensor has to be one
    #[fusion(meta = |projected, _, _, _, _, own_keys, own_values, _, heads| {
        let shape = [projected.shape[0], heads.num_kv_heads * heads.group * heads.width];
        let attended = TensorSpec::new(shape.into(), own_keys.dtype);
        (attended, own_keys.clone(), own_values.clone())
    })]
    fn decode_attention(
        projected: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        prompt_keys: FloatTensor<Self>,
        prompt_values: FloatTensor<Self>,
        own_keys: FloatTensor<Self>,
        own_values: FloatTensor<Self>,
        spans: IntTensor<Self>,
        heads: Heads,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// As [`super::prefix_attention::weights::cube::probs`], of scores `[n, Hkv, g * T, S]`.
    #[fusion(meta = |scores, _, _, _| scores.clone())]
    fn attention_probs(
        scores: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        group: u32,
        scale: f32,
    ) -> FloatTensor<Self>;

    /// Weights and the gradient of the scores `[n, Hkv, g * T, S]`, as [`super::prefix_attention::weights::cube::backward`].
    #[fusion(meta = |scores, _, _, _, _| (scores.clone(), scores.clone()))]
    fn attention_probs_backward(
        scores: FloatTensor<Self>,
        d_probs: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        group: u32,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// As [`super::prefix_attention::flash::forward`], with the tables of a layout.
    #[fusion(meta = |queries, _, _, _, _, _, _| queries.clone())]
    fn flash_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        rows: IntTensor<Self>,
        tiles: IntTensor<Self>,
        heads: Heads,
        scale: f32,
    ) -> FloatTensor<Self>;

    /// Gradients of queries, keys and values, as [`super::prefix_attention::flash::backward`].
    #[allow(clippy::too_many_arguments)] // each tensor has to be one
    #[fusion(meta = |queries, keys, values, _, _, _, _, _| {
        let float = |it: &TensorSpec| TensorSpec::new(it.shape.clone(), DType::F32);
        (float(queries), float(keys), values.clone())
    })]
    fn flash_attention_backward(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rows: IntTensor<Self>,
        tiles: IntTensor<Self>,
        heads: Heads,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// As [`super::rotary::cube::turn`], with a result of type `dtype`.
    #[fusion(meta = |x, _, _, _, dtype| TensorSpec::new(x.shape.clone(), *dtype))]
    fn turn(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        sign: f32,
        dtype: DType,
    ) -> FloatTensor<Self>;

    /// Writes what some decode steps begin with: tokens, spans, the first number, all numbers, no draws.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)] // each tensor has to be one
    #[fusion(meta = |_, _, tokens, spans, uniform, uniforms, draws| {
        (tokens.clone(), spans.clone(), uniform.clone(), uniforms.clone(), draws.clone())
    })]
    fn begin_rows(
        given: IntTensor<Self>,
        numbers: FloatTensor<Self>,
        tokens: IntTensor<Self>,
        spans: IntTensor<Self>,
        uniform: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        draws: FloatTensor<Self>,
    ) -> (
        IntTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );

    /// Writes what a decode step leaves to the next: tokens, spans, its number, all draws.
    #[fusion(meta = |_, _, tokens, spans, uniform, draws| {
        (tokens.clone(), spans.clone(), uniform.clone(), draws.clone())
    })]
    fn advance_rows(
        drawn: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        tokens: IntTensor<Self>,
        spans: IntTensor<Self>,
        uniform: FloatTensor<Self>,
        draws: FloatTensor<Self>,
    ) -> (
        IntTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );
}

fn rows_of_three(rows: &Shape) -> Shape {
    [rows[0], 3].into()
}
