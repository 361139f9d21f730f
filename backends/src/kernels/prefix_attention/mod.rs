//! Causal attention of packed sequences that share prompts.
//!
//! The completions of one prompt attend to a single copy of its keys and values, so a prompt goes
//! through the model once however many completions it has. No row is padding, and rows of
//! different prompts or different completions never meet: attention goes segment by segment on a CPU
//! ([`kernel`]), tile by tile on tensor cores of CUDA devices ([`flash`]), and elsewhere, in Burn's
//! operations, by batches of segments that are padded for the moment ([`portable`]), between whose
//! products CubeCL devices have kernels ([`weights`]).
//!
//! Query heads that share a key head (Ainslie et al., "GQA", 2023, arXiv:2305.13245) are folded
//! into the row axis, so keys and values are not repeated.

mod batches;
#[cfg(feature = "cube")]
pub(in crate::kernels) mod flash;
mod kernel;
mod portable;
pub(in crate::kernels) mod weights;

use std::cell::OnceCell;

use burn::tensor::{Device, Tensor};
use rlvr_core::Precision;

use super::host::{Values, tensor};
use crate::BackendKind;
use batches::{Batches, MOST_SCORES};
pub use portable::attention_bytes;

/// Rows of one prompt and, behind them, of every completion that continues it.
///
/// Spans lie one after the other in a packed batch, without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptSpan {
    /// Rows of the prompt, at least one.
    pub num_prompt_rows: usize,
    /// Rows of each completion; none of them is needed when only its first token counts.
    pub completion_rows: Vec<usize>,
}

impl PromptSpan {
    /// Rows of the prompt and its completions.
    pub fn num_rows(&self) -> usize {
        self.num_prompt_rows + self.completion_rows.iter().sum::<usize>()
    }

    /// Position of every row in its sequence: completions go on where the prompt ends.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        let prompt = self.num_prompt_rows;
        let completions = self.completion_rows.iter();
        (0..prompt).chain(completions.flat_map(move |&rows| prompt..prompt + rows))
    }
}

/// How the columns of queries, keys and values divide into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Key-value heads, Hkv.
    pub num_kv_heads: usize,
    /// Query heads per key-value head, g.
    pub group: usize,
    /// Head width, K.
    pub width: usize,
}

/// Columns, and rows, of what tensor cores multiply at once.
const WHOLE_PRODUCT: usize = 16;

/// The widest head whose tiles fit into the shared memory of every device with tensor cores for bf16.
const MOST_WIDTH: usize = 128;

impl Heads {
    /// True if kernels of tiles take them.
    fn fit_tiles(&self) -> bool {
        self.width.is_multiple_of(WHOLE_PRODUCT) && self.width <= MOST_WIDTH
    }
}

/// True if [`prefix_attention`] holds scores ([`attention_bytes`]): not on a CPU in f32, nor in bf16 on
/// CUDA, where kernels go through them by tiles.
pub fn holds_scores(kind: BackendKind, precision: Precision, heads: Heads) -> bool {
    match (kind, precision) {
        (BackendKind::Cpu, Precision::F32) => false,
        (BackendKind::Cuda, Precision::Bf16) => !heads.fit_tiles(),
        _ => true,
    }
}

/// Spans of a packed batch, prepared once for all blocks and both directions.
#[derive(Debug)]
pub struct PrefixSpans<'a> {
    spans: &'a [PromptSpan],
    heads: Heads,
    device: Device,
    /// What the portable path goes by, made when it is first asked for.
    batches: OnceCell<Batches>,
    /// What kernels of tiles go by, likewise.
    #[cfg(feature = "cube")]
    layout: OnceCell<flash::Layout>,
}

impl<'a> PrefixSpans<'a> {
    /// For inputs on `device`.
    pub fn new(spans: &'a [PromptSpan], heads: Heads, device: &Device) -> Self {
        Self {
            spans,
            heads,
            device: device.clone(),
            batches: OnceCell::new(),
            #[cfg(feature = "cube")]
            layout: OnceCell::new(),
        }
    }

    /// Tables for kernels of tiles, where there are such kernels.
    #[cfg(feature = "cube")]
    fn layout(&self, precision: Precision) -> Option<&flash::Layout> {
        flash::has_kernel(&self.device, precision, self.heads).then(|| {
            let new = || flash::Layout::new(self.spans, &self.device);
            self.layout.get_or_init(new)
        })
    }

    fn batches(&self) -> &Batches {
        let new = || Batches::new(self.spans, self.heads, MOST_SCORES, &self.device);
        self.batches.get_or_init(new)
    }
}

/// Gradients of [`prefix_attention`].
#[derive(Clone, Debug)]
pub struct AttentionGradients {
    /// With respect to the queries, `[L, Hkv * g * K]`.
    pub queries: Tensor<2>,
    /// With respect to the keys, `[L, Hkv * K]`.
    pub keys: Tensor<2>,
    /// With respect to the values, `[L, Hkv * K]`; f32 as the others, or an operand.
    pub values: Tensor<2>,
}

/// `softmax(q k^T / sqrt(K)) v` of every row over the rows of its own sequence up to itself: for a
/// row of a completion, the whole prompt and that completion's earlier rows. Products are computed
/// in `precision`, in which the inputs may be stored already.
///
/// # Shapes
/// - `queries`: `[L, Hkv * g * K]`, rotated; `keys`, `values`: `[L, Hkv * K]`, keys rotated
/// - output: `[L, Hkv * g * K]`, f32 or an operand
///
/// # Panics
/// If the spans do not cover the rows, or the columns are not whole heads.
pub fn prefix_attention(
    queries: Tensor<2>,
    keys: Tensor<2>,
    values: Tensor<2>,
    spans: &PrefixSpans<'_>,
    heads: Heads,
    precision: Precision,
) -> Tensor<2> {
    check(&queries, &keys, &values, spans.spans, heads);
    #[cfg(feature = "cube")]
    if let Some(layout) = spans.layout(precision) {
        return flash::forward([queries, keys, values], layout, heads);
    }
    let operands = (Values::of(&queries), Values::of(&keys), Values::of(&values));
    let (Precision::F32, (Some(q), Some(k), Some(v))) = (precision, operands) else {
        return portable::forward([queries, keys, values], spans.batches(), heads, precision);
    };
    let inputs = kernel::Inputs {
        queries: q.slice(),
        keys: k.slice(),
        values: v.slice(),
    };
    let attended = kernel::forward(inputs, spans.spans, heads);
    tensor(attended, queries.dims(), &queries.device())
}

/// Gradients of a loss whose gradient with respect to the output of [`prefix_attention`] is
/// `grad`. The weights are computed again, so nothing of the forward pass is kept.
///
/// With `P` the weights and `dP = grad v^T`:
///
/// ```text
/// dv = P^T grad,   dS = P (dP - sum_j P_j dP_j),   dq = dS k / sqrt(K),   dk = dS^T q / sqrt(K)
/// ```
///
/// Keys and values of a prompt sum over its own rows and all its completions, in this order.
///
/// # Shapes
/// - `grad`: `[L, Hkv * g * K]`, f32 or an operand; others as in [`prefix_attention`]
///
/// # Panics
/// As [`prefix_attention`].
pub fn prefix_attention_backward(
    queries: Tensor<2>,
    keys: Tensor<2>,
    values: Tensor<2>,
    grad: Tensor<2>,
    spans: &PrefixSpans<'_>,
    heads: Heads,
    precision: Precision,
) -> AttentionGradients {
    check(&queries, &keys, &values, spans.spans, heads);
    #[cfg(feature = "cube")]
    if let Some(layout) = spans.layout(precision) {
        return flash::backward([queries, keys, values], grad, layout, heads);
    }
    let grad = precision.result(grad);
    let operands = (
        Values::of(&queries),
        Values::of(&keys),
        Values::of(&values),
        Values::of(&grad),
    );
    let (Precision::F32, (Some(q), Some(k), Some(v), Some(g))) = (precision, operands) else {
        let inputs = [queries, keys, values];
        return portable::backward(inputs, grad, spans.batches(), heads, precision);
    };
    let inputs = kernel::Inputs {
        queries: q.slice(),
        keys: k.slice(),
        values: v.slice(),
    };
    let [d_queries, d_keys, d_values] = kernel::backward(inputs, g.slice(), spans.spans, heads);
    let device = queries.device();
    AttentionGradients {
        queries: tensor(d_queries, queries.dims(), &device),
        keys: tensor(d_keys, keys.dims(), &device),
        values: tensor(d_values, values.dims(), &device),
    }
}

fn check(
    queries: &Tensor<2>,
    keys: &Tensor<2>,
    values: &Tensor<2>,
    spans: &[PromptSpan],
    heads: Heads,
) {
    let covered: usize = spans.iter().map(PromptSpan::num_rows).sum();
    let columns = heads.num_kv_heads * heads.width;
    let whole = [covered, columns * heads.group];
    assert_eq!(
        queries.dims(),
        whole,
        "prefix_attention: queries [L, Hkv * g * K]"
    );
    let shared = [covered, columns];
    assert_eq!(keys.dims(), shared, "prefix_attention: keys [L, Hkv * K]");
    assert_eq!(
        values.dims(),
        shared,
        "prefix_attention: values [L, Hkv * K]"
    );
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{close, gradient, noise, values};
    use burn::tensor::TensorData;
    use burn::tensor::activation::softmax;

    const HEADS: Heads = Heads {
        num_kv_heads: 2,
        group: 3,
        width: 4,
    };

    /// A prompt longer than a block of the kernel, an empty completion, a lone prompt.
    fn spans() -> Vec<PromptSpan> {
        [(70, vec![3, 0, 66]), (2, vec![5]), (1, vec![])]
            .map(|(num_prompt_rows, completion_rows)| PromptSpan {
                num_prompt_rows,
                completion_rows,
            })
            .to_vec()
    }

    /// Every row by itself, over the list of the rows it may see.
    fn by_rows(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>) -> Tensor<2> {
        let mut rows = Vec::new();
        let mut start = 0;
        for span in spans() {
            let prompt: Vec<usize> = (start..start + span.num_prompt_rows).collect();
            rows.extend((1..=prompt.len()).map(|seen| prompt[..seen].to_vec()));
            start += prompt.len();
            for count in span.completion_rows {
                let own: Vec<usize> = (start..start + count).collect();
                rows.extend((1..=count).map(|seen| [&prompt, &own[..seen]].concat()));
                start += count;
            }
        }
        let attended = rows.into_iter().enumerate().map(|(row, seen)| {
            let seen: Vec<i64> = seen.into_iter().map(|row| row as i64).collect();
            let length = seen.len();
            let seen = Tensor::from_data(TensorData::new(seen, [length]), &q.device());
            let head = |head: usize| {
                let own = head * HEADS.width;
                let shared = head / HEADS.group * HEADS.width;
                let q = q.clone().narrow(0, row, 1).narrow(1, own, HEADS.width);
                let at = |x: &Tensor<2>| {
                    let seen = x.clone().select(0, seen.clone());
                    seen.narrow(1, shared, HEADS.width)
                };
                softmax(q.matmul(at(&k).transpose()) / 2.0, 1).matmul(at(&v))
            };
            Tensor::cat((0..6).map(head).collect(), 1)
        });
        Tensor::cat(attended.collect(), 0)
    }

    #[test]
    fn kernel_and_portable_path_agree_with_autodiff_row_by_row() {
        let rows: usize = spans().iter().map(PromptSpan::num_rows).sum();
        let (q, weight) = (noise([rows, 24], 1) * 3.0, noise([rows, 24], 2));
        let (k, v) = (noise([rows, 8], 3) * 3.0, noise([rows, 8], 4));
        let inputs = [q.clone(), k.clone(), v.clone()];
        let (value, expected) = gradient(inputs, &weight, |[q, k, v]| by_rows(q, k, v));
        let spans = spans();
        let prepared = PrefixSpans::new(&spans, HEADS, &q.device());
        let inputs = || [&q, &k, &v].map(Tensor::clone);
        let [a, b, c] = inputs();
        let found = prefix_attention(a, b, c, &prepared, HEADS, Precision::F32);
        close(&values(found), &value, 1e-5);
        let [a, b, c] = inputs();
        let grad = weight.clone();
        let found = prefix_attention_backward(a, b, c, grad, &prepared, HEADS, Precision::F32);
        let agree = |found: AttentionGradients| {
            let found = [found.queries, found.keys, found.values];
            for (found, expected) in found.into_iter().zip(&expected) {
                close(&values(found), expected, 1e-5);
            }
        };
        agree(found);
        // All segments of a kind at once, a few at a time, one by one.
        for most_scores in [MOST_SCORES, 70_000, 3_000, 1] {
            let batches = Batches::new(&spans, HEADS, most_scores, &q.device());
            let found = portable::forward(inputs(), &batches, HEADS, Precision::F32);
            close(&values(found), &value, 1e-5);
            let grad = weight.clone();
            agree(portable::backward(
                inputs(),
                grad,
                &batches,
                HEADS,
                Precision::F32,
            ));
        }
    }

    #[test]
    fn half_precision_is_near_and_inputs_may_be_stored_in_it() {
        let spans = spans();
        let rows: usize = spans.iter().map(PromptSpan::num_rows).sum();
        let (q, grad) = (noise([rows, 24], 1), noise([rows, 24], 2));
        let prepared = PrefixSpans::new(&spans, HEADS, &q.device());
        let (k, v) = (noise([rows, 8], 3), noise([rows, 8], 4));
        let run = |precision: Precision, is_stored: bool| {
            let input = |x: &Tensor<2>| match is_stored {
                true => precision.operand(x.clone()),
                false => x.clone(),
            };
            let inputs = || [&q, &k, &v].map(input);
            let [queries, keys, own] = inputs();
            let value = prefix_attention(queries, keys, own, &prepared, HEADS, precision);
            let [queries, keys, own] = inputs();
            let grad = grad.clone();
            let found =
                prefix_attention_backward(queries, keys, own, grad, &prepared, HEADS, precision);
            [value, found.queries, found.keys, found.values].map(values)
        };
        let (exact, half) = (run(Precision::F32, false), run(Precision::Bf16, false));
        let stored = run(Precision::Bf16, true);
        for part in 0..4 {
            close(&half[part], &exact[part], 2e-2);
            assert_eq!(stored[part], half[part]);
            assert_ne!(half[part], exact[part]);
        }
    }

    #[test]
    fn scores_are_held_where_no_kernel_goes_through_them() {
        let heads = |width| Heads { width, ..HEADS };
        let holds = |kind, precision, width| holds_scores(kind, precision, heads(width));
        assert!(!holds(BackendKind::Cpu, Precision::F32, 24));
        assert!(holds(BackendKind::Cpu, Precision::Bf16, 64));
        for width in [16, 64, 80, 128] {
            assert!(!holds(BackendKind::Cuda, Precision::Bf16, width));
        }
        for width in [24, 256] {
            assert!(holds(BackendKind::Cuda, Precision::Bf16, width));
        }
        assert!(holds(BackendKind::Cuda, Precision::F32Split, 64));
        assert!(holds(BackendKind::Wgpu, Precision::F32, 64));
    }

    #[test]
    fn positions_go_on_where_the_prompt_ends() {
        let span = PromptSpan {
            num_prompt_rows: 2,
            completion_rows: vec![2, 0, 1],
        };
        let positions: Vec<usize> = span.positions().collect();
        assert_eq!(positions, [0, 1, 2, 3, 2]);
    }
}
