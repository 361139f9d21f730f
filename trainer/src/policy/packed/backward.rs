//! The backward pass, block by block.

use burn::nn::{Linear, RmsNorm};
use burn::optim::GradientsParams;
use burn::tensor::{IndexingUpdateOp, Tensor};
use rlvr_backends::Precision;
use rlvr_backends::kernels::{
    matmul, matmul_raw, prefix_attention_backward, rms_norm_backward, rotate_back, swiglu_backward,
};

use super::{BlockTrace, Frame, PackedTokens, Products, Trace, gamma, norm_operand, weight};
use crate::policy::attention::Attention;
use crate::policy::decoder::{Block, Decoder};

impl Decoder {
    /// Parameter gradients of a loss, from its gradient with respect to the hidden states, `[L,
    /// D]`, and to the head weight, `[V, D]`.
    pub fn packed_backward(
        &self,
        packed: &PackedTokens,
        trace: Trace,
        grad_hidden: Tensor<2>,
        grad_head: Tensor<2>,
    ) -> GradientsParams {
        let Trace {
            precision,
            rotation,
            blocks,
            last,
        } = trace;
        let frame = self.frame(&packed.spans, &rotation, precision);
        let mut gradients = Gradients {
            found: GradientsParams::new(),
            precision,
        };
        let mut grad = gradients.norm(&self.norm, last, grad_hidden);
        for (block, kept) in self.layers.iter().zip(blocks).rev() {
            let BlockTrace { input, products } = kept;
            let products = products.unwrap_or_else(|| block.packed(input.clone(), &frame).1);
            grad = block.packed_backward(input, products, grad, &frame, &mut gradients);
        }
        self.embedding_gradients(packed, grad, grad_head, &mut gradients);
        gradients.found
    }

    /// A tied embedding gets the sum of what comes from both of its ends.
    fn embedding_gradients(
        &self,
        packed: &PackedTokens,
        grad: Tensor<2>,
        grad_head: Tensor<2>,
        gradients: &mut Gradients,
    ) {
        let embedding = &self.embed_tokens.weight;
        let start = match &self.lm_head {
            None => grad_head,
            Some(head) => {
                let zeros = grad_head.zeros_like();
                gradients.found.register(head.id, grad_head);
                zeros
            }
        };
        let tokens = packed.tokens.clone();
        let sum = start.select_assign(0, tokens, grad, IndexingUpdateOp::Add);
        gradients.found.register(embedding.id, sum);
    }
}

impl Block {
    /// Gradient with respect to the block's input, `[L, D]`.
    fn packed_backward(
        &self,
        input: Tensor<2>,
        kept: Products,
        grad: Tensor<2>,
        frame: &Frame<'_>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let grad = self.feed_forward_backward(kept.middle, kept.gate, kept.up, grad, gradients);
        let grad_attended = gradients.linear(&self.self_attn.o_proj, kept.attended, grad.clone());
        let parts = prefix_attention_backward(
            kept.queries,
            kept.keys,
            kept.values,
            grad_attended,
            &frame.spans,
            frame.heads,
            frame.precision,
        );
        let attention: &Attention = &self.self_attn;
        let turned = match kept.raw {
            Some(_) => Precision::F32,
            None => frame.precision,
        };
        let mut grad_queries = rotate_back(parts.queries, frame.rotation, turned);
        let mut grad_keys = rotate_back(parts.keys, frame.rotation, turned);
        if let Some((raw_queries, raw_keys)) = kept.raw {
            grad_queries = gradients.heads(&attention.q_norm, raw_queries, grad_queries, frame);
            grad_keys = gradients.heads(&attention.k_norm, raw_keys, grad_keys, frame);
        }
        let normed = norm_operand(&self.input_layernorm, input.clone(), frame.precision);
        let products = [
            gradients.linear(&attention.q_proj, normed.clone(), grad_queries),
            gradients.linear(&attention.k_proj, normed.clone(), grad_keys),
            gradients.linear(&attention.v_proj, normed, parts.values),
        ];
        let [queries, keys, values] = products.map(|it| frame.precision.result(it));
        let grad_normed = queries + keys + values;
        gradients.norm(&self.input_layernorm, input, grad_normed) + grad
    }

    /// Gradient with respect to the input of the feed-forward half, `[L, D]`.
    fn feed_forward_backward(
        &self,
        middle: Tensor<2>,
        gate: Tensor<2>,
        up: Tensor<2>,
        grad: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let (mlp, precision) = (&self.mlp, gradients.precision);
        gradients.bias(&mlp.down_proj, &grad);
        let rounded = precision.operand(grad.clone());
        let grad_inner = gradients.input(&mlp.down_proj, rounded.clone());
        let parts = swiglu_backward(gate, up, grad_inner, precision);
        gradients.weights(&mlp.down_proj, parts.value, rounded);
        let normed = norm_operand(&self.post_attention_layernorm, middle.clone(), precision);
        let products = [
            gradients.linear(&mlp.gate_proj, normed.clone(), parts.gate),
            gradients.linear(&mlp.up_proj, normed, parts.up),
        ];
        let [gate, up] = products.map(|it| precision.result(it));
        let grad_normed = gate + up;
        gradients.norm(&self.post_attention_layernorm, middle, grad_normed) + grad
    }
}

/// Collects the gradients of parameters on the way back; each method returns the gradient with
/// respect to its layer's input, that of a product as it was left. Gradients that are multiplied come
/// in 32 bits or as operands.
struct Gradients {
    found: GradientsParams,
    precision: Precision,
}

impl Gradients {
    /// `x`: `[L, in]`, `grad`: `[L, out]`.
    fn linear(&mut self, linear: &Linear, x: Tensor<2>, grad: Tensor<2>) -> Tensor<2> {
        self.bias(linear, &grad);
        // Once for both products.
        let grad = self.precision.operand(grad);
        self.weights(linear, x, grad.clone());
        self.input(linear, grad)
    }

    /// The gradient with respect to the layer's input alone.
    fn input(&self, linear: &Linear, grad: Tensor<2>) -> Tensor<2> {
        let weight = weight(linear, self.precision).transpose();
        matmul_raw(grad, weight, self.precision)
    }

    /// The sum in 32 bits.
    fn bias(&mut self, linear: &Linear, grad: &Tensor<2>) {
        if let Some(bias) = &linear.bias {
            let grad = self.precision.result(grad.clone());
            let sum: Tensor<1> = grad.sum_dim(0).squeeze_dim(0);
            self.found.register(bias.id, sum);
        }
    }

    fn weights(&mut self, linear: &Linear, x: Tensor<2>, grad: Tensor<2>) {
        let sum = matmul(x.transpose(), grad, self.precision);
        self.found.register(linear.weight.id, sum);
    }

    fn norm(&mut self, norm: &RmsNorm, x: Tensor<2>, grad: Tensor<2>) -> Tensor<2> {
        let (grad, grad_gamma) = rms_norm_backward(x, gamma(norm), norm.epsilon, grad);
        self.found.register(norm.gamma.id, grad_gamma);
        grad
    }

    /// Norm of every head; passes through if there is none.
    fn heads(
        &mut self,
        norm: &Option<RmsNorm>,
        x: Tensor<2>,
        grad: Tensor<2>,
        frame: &Frame<'_>,
    ) -> Tensor<2> {
        let Some(norm) = norm else { return grad };
        let shape = x.dims();
        let flat = |x: Tensor<2>| x.reshape([-1, frame.heads.width as i32]);
        self.norm(norm, flat(x), flat(grad)).reshape(shape)
    }
}
