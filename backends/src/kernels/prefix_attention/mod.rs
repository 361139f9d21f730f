//! Causal attention of packed sequences that share prompts.
//!
//! The completions of one prompt attend to a single copy of its keys and values, so a prompt goes
//! through the model once however many completions it has. No row is padding, and rows of
//! different prompts or different completions never meet: attention goes segment by segment.
//!
//! Query heads that share a key head (Ainslie et al., "GQA", 2023, arXiv:2305.13245) are folded
//! into the row axis, so keys and values are not repeated.

mod kernel;

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use rlvr_core::Precision;

use super::host::{Values, tensor};

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

/// Gradients of [`prefix_attention`].
#[derive(Clone, Debug)]
pub struct AttentionGradients {
    /// With respect to the queries, `[L, Hkv * g * K]`.
    pub queries: Tensor<2>,
    /// With respect to the keys, `[L, Hkv * K]`.
    pub keys: Tensor<2>,
    /// With respect to the values, `[L, Hkv * K]`.
    pub values: Tensor<2>,
}

/// `softmax(q k^T / sqrt(K)) v` of every row over the rows of its own sequence up to itself: for a
/// row of a completion, the whole prompt and that completion's earlier rows. Products are computed
/// in `precision`, in which the inputs may be stored already.
///
/// # Shapes
/// - `queries`: `[L, Hkv * g * K]`, rotated; `keys`, `values`: `[L, Hkv * K]`, keys rotated
/// - output: `[L, Hkv * g * K]`
///
/// # Panics
/// If the spans do not cover the rows, or the columns are not whole heads.
pub fn prefix_attention(
    queries: Tensor<2>,
    keys: Tensor<2>,
    values: Tensor<2>,
    spans: &[PromptSpan],
    heads: Heads,
    precision: Precision,
) -> Tensor<2> {
    check(&queries, &keys, &values, spans, heads);
    let operands = (Values::of(&queries), Values::of(&keys), Values::of(&values));
    let (Precision::F32, (Some(q), Some(k), Some(v))) = (precision, operands) else {
        return portable(queries, keys, values, spans, heads, precision);
    };
    let inputs = kernel::Inputs {
        queries: q.slice(),
        keys: k.slice(),
        values: v.slice(),
    };
    let attended = kernel::forward(inputs, spans, heads);
    tensor(attended, queries.dims(), &queries.device())
}

fn portable(
    queries: Tensor<2>,
    keys: Tensor<2>,
    values: Tensor<2>,
    spans: &[PromptSpan],
    heads: Heads,
    precision: Precision,
) -> Tensor<2> {
    let parts = segments(spans).map(|segment| {
        let operands = Operands::new(&queries, &keys, &values, &segment, heads, precision);
        let probs = operands.probs(&segment, heads);
        unfold(precision.matmul(probs, operands.values), heads)
    });
    Tensor::cat(parts.collect(), 0)
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
/// - `grad`: `[L, Hkv * g * K]`; others as in [`prefix_attention`]
///
/// # Panics
/// As [`prefix_attention`].
pub fn prefix_attention_backward(
    queries: Tensor<2>,
    keys: Tensor<2>,
    values: Tensor<2>,
    grad: Tensor<2>,
    spans: &[PromptSpan],
    heads: Heads,
    precision: Precision,
) -> AttentionGradients {
    check(&queries, &keys, &values, spans, heads);
    let operands = (
        Values::of(&queries),
        Values::of(&keys),
        Values::of(&values),
        Values::of(&grad),
    );
    let (Precision::F32, (Some(q), Some(k), Some(v), Some(g))) = (precision, operands) else {
        return portable_backward(queries, keys, values, grad, spans, heads, precision);
    };
    let inputs = kernel::Inputs {
        queries: q.slice(),
        keys: k.slice(),
        values: v.slice(),
    };
    let [d_queries, d_keys, d_values] = kernel::backward(inputs, g.slice(), spans, heads);
    let device = queries.device();
    AttentionGradients {
        queries: tensor(d_queries, queries.dims(), &device),
        keys: tensor(d_keys, keys.dims(), &device),
        values: tensor(d_values, values.dims(), &device),
    }
}

fn portable_backward(
    queries: Tensor<2>,
    keys: Tensor<2>,
    values: Tensor<2>,
    grad: Tensor<2>,
    spans: &[PromptSpan],
    heads: Heads,
    precision: Precision,
) -> AttentionGradients {
    let (mut d_queries, mut d_keys, mut d_values) = (Vec::new(), Vec::new(), Vec::new());
    // Where the keys and values of the current prompt stand among the parts.
    let mut prompt = 0;
    for segment in segments(spans) {
        let operands = Operands::new(&queries, &keys, &values, &segment, heads, precision);
        let probs = operands.probs(&segment, heads);
        let part = operands.backward(probs, fold(rows_of(&grad, &segment.rows), heads), heads);
        d_queries.push(part.queries);
        let Some(shared) = &segment.prompt else {
            prompt = d_keys.len();
            d_keys.push(part.keys);
            d_values.push(part.values);
            continue;
        };
        let own = segment.rows.len();
        for (parts, whole) in [(&mut d_keys, part.keys), (&mut d_values, part.values)] {
            let to_prompt = whole.clone().narrow(0, 0, shared.len());
            let sum: &mut Tensor<2> = &mut parts[prompt];
            sum.inplace(|sum| sum + to_prompt);
            parts.push(whole.narrow(0, shared.len(), own));
        }
    }
    AttentionGradients {
        queries: Tensor::cat(d_queries, 0),
        keys: Tensor::cat(d_keys, 0),
        values: Tensor::cat(d_values, 0),
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

/// One sequence of query rows.
struct Segment {
    /// Its rows.
    rows: Range<usize>,
    /// Rows of the prompt that come before it; none if it is the prompt.
    prompt: Option<Range<usize>>,
}

/// Prompt, its completions, next prompt, and so on. Empty completions are left out.
fn segments(spans: &[PromptSpan]) -> impl Iterator<Item = Segment> {
    let mut next = 0;
    let mut segments = Vec::new();
    for span in spans {
        let prompt = next..next + span.num_prompt_rows;
        next = prompt.end;
        segments.push(Segment {
            rows: prompt.clone(),
            prompt: None,
        });
        for &rows in span.completion_rows.iter().filter(|&&rows| rows > 0) {
            segments.push(Segment {
                rows: next..next + rows,
                prompt: Some(prompt.clone()),
            });
            next += rows;
        }
    }
    segments.into_iter()
}

/// What one segment multiplies: queries `[Hkv, g * n, K]`, already divided by the root of K, keys
/// and values `[Hkv, S, K]`, rounded to the precision of the products.
struct Operands {
    queries: Tensor<3>,
    keys: Tensor<3>,
    values: Tensor<3>,
    precision: Precision,
}

impl Operands {
    fn new(
        queries: &Tensor<2>,
        keys: &Tensor<2>,
        values: &Tensor<2>,
        segment: &Segment,
        heads: Heads,
        precision: Precision,
    ) -> Self {
        let context = |x: &Tensor<2>| {
            let own = rows_of(x, &segment.rows);
            let all = match &segment.prompt {
                None => own,
                Some(prompt) => Tensor::cat(vec![rows_of(x, prompt), own], 0),
            };
            let [rows, _] = all.dims();
            all.reshape([rows, heads.num_kv_heads, heads.width])
                .swap_dims(0, 1)
        };
        Self {
            queries: {
                // Rounded before they are scaled, as those are that come in half precision.
                let queries = precision.operand(rows_of(queries, &segment.rows));
                let scaled = fold(precision.result(queries), heads) * scale(heads);
                precision.operand(scaled)
            },
            keys: precision.operand(context(keys)),
            values: precision.operand(context(values)),
            precision,
        }
    }

    /// `[Hkv, g * n, S]`.
    fn probs(&self, segment: &Segment, heads: Heads) -> Tensor<3> {
        let keys = self.keys.clone().transpose();
        let scores = self.precision.matmul(self.queries.clone(), keys);
        let [kv_heads, folded, columns] = scores.dims();
        let rows = segment.rows.len();
        let scores: Tensor<3> = scores.reshape([kv_heads * heads.group, rows, columns]);
        let bias = causal_bias(rows, columns, &scores.device());
        softmax(scores + bias.unsqueeze(), 2).reshape([kv_heads, folded, columns])
    }

    fn backward(self, probs: Tensor<3>, grad: Tensor<3>, heads: Heads) -> AttentionGradients {
        let precision = self.precision;
        let grad = precision.operand(grad);
        let d_values = precision.matmul(probs.clone().transpose(), grad.clone());
        let d_probs = precision.matmul(grad, self.values.transpose());
        let along = (probs.clone() * d_probs.clone()).sum_dim(2);
        let d_scores = precision.operand(probs * (d_probs - along));
        let d_keys = precision.matmul(d_scores.clone().transpose(), self.queries);
        let d_queries = precision.matmul(d_scores, self.keys) * scale(heads);
        let flat = |x: Tensor<3>| {
            let [_, rows, _] = x.dims();
            x.swap_dims(0, 1)
                .reshape([rows, heads.num_kv_heads * heads.width])
        };
        AttentionGradients {
            queries: unfold(d_queries, heads),
            keys: flat(d_keys),
            values: flat(d_values),
        }
    }
}

fn scale(heads: Heads) -> f64 {
    1.0 / (heads.width as f64).sqrt()
}

fn rows_of(x: &Tensor<2>, rows: &Range<usize>) -> Tensor<2> {
    x.clone().narrow(0, rows.start, rows.len())
}

/// `[n, Hkv * g * K]` to `[Hkv, g * n, K]`.
fn fold(x: Tensor<2>, heads: Heads) -> Tensor<3> {
    let [rows, _] = x.dims();
    let Heads {
        num_kv_heads,
        group,
        width,
    } = heads;
    x.reshape([rows, num_kv_heads, group, width])
        .permute([1, 2, 0, 3])
        .reshape([num_kv_heads, group * rows, width])
}

/// The inverse of [`fold`].
fn unfold(x: Tensor<3>, heads: Heads) -> Tensor<2> {
    let [kv_heads, folded, width] = x.dims();
    let rows = folded / heads.group;
    x.reshape([kv_heads, heads.group, rows, width])
        .permute([2, 0, 1, 3])
        .reshape([rows, kv_heads * heads.group * width])
}

/// Zero where row r of the last `rows` of `columns` positions may look, very negative behind it:
/// the exponential is then exactly zero in f32.
fn causal_bias(rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    let mut bias = vec![0f32; rows * columns];
    for row in 0..rows {
        bias[row * columns + columns - rows + row + 1..(row + 1) * columns].fill(-1e9);
    }
    Tensor::from_data(TensorData::new(bias, [rows, columns]), device)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{close, gradient, noise, values};

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
        for forward in [prefix_attention, portable] {
            let found = forward(
                q.clone(),
                k.clone(),
                v.clone(),
                &spans(),
                HEADS,
                Precision::F32,
            );
            close(&values(found), &value, 1e-5);
        }
        for backward in [prefix_attention_backward, portable_backward] {
            let (q, k, v) = (q.clone(), k.clone(), v.clone());
            let found = backward(q, k, v, weight.clone(), &spans(), HEADS, Precision::F32);
            close(&values(found.queries), &expected[0], 1e-5);
            close(&values(found.keys), &expected[1], 1e-5);
            close(&values(found.values), &expected[2], 1e-5);
        }
    }

    #[test]
    fn half_precision_is_near_and_inputs_may_be_stored_in_it() {
        let rows: usize = spans().iter().map(PromptSpan::num_rows).sum();
        let (q, grad) = (noise([rows, 24], 1), noise([rows, 24], 2));
        let (k, v) = (noise([rows, 8], 3), noise([rows, 8], 4));
        let run = |precision: Precision, is_stored: bool| {
            let input = |x: &Tensor<2>| match is_stored {
                true => precision.operand(x.clone()),
                false => x.clone(),
            };
            let inputs = || [&q, &k, &v].map(input);
            let [queries, keys, own] = inputs();
            let value = prefix_attention(queries, keys, own, &spans(), HEADS, precision);
            let [queries, keys, own] = inputs();
            let grad = grad.clone();
            let found =
                prefix_attention_backward(queries, keys, own, grad, &spans(), HEADS, precision);
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
    fn positions_go_on_where_the_prompt_ends() {
        let span = PromptSpan {
            num_prompt_rows: 2,
            completion_rows: vec![2, 0, 1],
        };
        let positions: Vec<usize> = span.positions().collect();
        assert_eq!(positions, [0, 1, 2, 3, 2]);
    }
}
