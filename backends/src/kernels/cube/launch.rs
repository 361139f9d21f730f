//! Which kernel runs each operation.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;

use super::{FusedOps, squares};
use crate::kernels::decode_state::cube::{launch_advance, launch_begin};
use crate::kernels::draw::{self, Drawing};
use crate::kernels::prefix_attention::{Heads, flash, weights};
use crate::kernels::{decode_attention, rms_norm, rotary, swiglu};

impl FusedOps for CubeBackend {
    fn draw(
        logits: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        drawing: Drawing,
    ) -> FloatTensor<Self> {
        draw::cube::launch(logits, uniforms, drawing)
    }

    fn project_and_draw(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        inverse_temperature: f32,
        is_greedy: bool,
    ) -> FloatTensor<Self> {
        draw::head::launch(hidden, weight, uniforms, inverse_temperature, is_greedy)
    }

    fn rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        eps: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        rms_norm::cube::launch(x, gamma, eps, dtype)
    }

    fn add_rms_norm(
        x: FloatTensor<Self>,
        delta: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        eps: f32,
        dtype: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        rms_norm::cube::launch_add(x, delta, gamma, eps, dtype)
    }

    fn rms_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        eps: f32,
        strips: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        rms_norm::cube::launch_backward(x, gamma, grad, eps, strips)
    }

    fn squares(a: FloatTensor<Self>, cubes: usize) -> FloatTensor<Self> {
        squares::launch(a, cubes)
    }

    fn swiglu(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        up_start: usize,
        dtype: DType,
    ) -> FloatTensor<Self> {
        swiglu::cube::launch(gate, up, up_start, dtype)
    }

    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        dtype: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        swiglu::cube::launch_backward([gate, up, grad], dtype)
    }

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
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let operands = decode_attention::cube::Operands {
            projected,
            rotation: [cos, sin],
            prompts: [prompt_keys, prompt_values],
            own: [own_keys, own_values],
            spans,
        };
        decode_attention::cube::launch(operands, heads)
    }

    fn attention_probs(
        scores: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        group: u32,
        scale: f32,
    ) -> FloatTensor<Self> {
        weights::cube::launch(scores, lengths, group, scale)
    }

    fn attention_probs_backward(
        scores: FloatTensor<Self>,
        d_probs: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        group: u32,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        weights::cube::launch_backward(scores, d_probs, lengths, group, scale)
    }

    fn flash_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        rows: IntTensor<Self>,
        tiles: IntTensor<Self>,
        heads: Heads,
        scale: f32,
    ) -> FloatTensor<Self> {
        flash::launch([queries, keys, values], [rows, tiles], heads, scale)
    }

    fn flash_attention_backward(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rows: IntTensor<Self>,
        tiles: IntTensor<Self>,
        heads: Heads,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = [queries, keys, values];
        flash::launch_backward(inputs, grad, [rows, tiles], heads, scale)
    }

    fn turn(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        sign: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        rotary::cube::launch(x, [cos, sin], sign, dtype)
    }

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
    ) {
        let edited = [tokens, spans, uniform, uniforms, draws];
        launch_begin([given, numbers], edited).into()
    }

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
    ) {
        launch_advance([drawn, uniforms], [tokens, spans, uniform, draws]).into()
    }
}
