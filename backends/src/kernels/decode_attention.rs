//! Attention of one decode step: a query per row against the row's own slot of the cache.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use rayon::prelude::*;

use super::host::{Values, tensor};
use super::lanes::{softmax_of, wide, work};
use super::prefix_attention::Heads;

/// Longest inner axis of one product in the rollout path.
const SUM_BLOCK: usize = 512;

/// Columns that are added to a sum in one pass over it.
const TERMS: usize = 4;

/// `softmax(q k^T / sqrt(K)) v` of every row over the columns of its slot up to its position.
///
/// A row's result depends on that row alone: each sum runs front to back, over positions for the
/// output and over the head width for the scores.
///
/// # Shapes
/// - `queries`: `[Hkv * g * K, R]`, rotated; row `r` reads slot `r`
/// - `keys`: `[slots, Hkv, K, S]`, `values`: `[slots, Hkv, S, K]`
/// - `positions`: `[R]`; `bias`: `[R, 1, 1, S']`, zero up to the row's position and very negative
///   behind it
/// - output: `[Hkv * g * K, R]`
///
/// # Panics
/// If there are less slots than rows, or a position lies behind S.
pub fn decode_attention(
    queries: Tensor<2>,
    keys: &Tensor<4>,
    values: &Tensor<4>,
    positions: &[usize],
    bias: &Tensor<4>,
    heads: Heads,
) -> Tensor<2> {
    assert_eq!(queries.dims()[1], positions.len(), "decode_attention: [R]");
    let operands = (Values::of(&queries), Values::of(keys), Values::of(values));
    let (Some(q), Some(k), Some(v)) = operands else {
        return portable(queries, keys, values, bias, heads);
    };
    let cache = Cache {
        keys: k.slice(),
        values: v.slice(),
        columns: keys.dims()[3],
        heads,
    };
    tensor(
        cache.attend(q.slice(), positions),
        queries.dims(),
        &queries.device(),
    )
}

/// `probs x values` with the inner axis cut at multiples of 512, added front to back: a longer
/// axis would be cut elsewhere by the matrix kernel, depending on its length.
///
/// # Shapes
/// - `probs`: `[N, Hkv, n, S]`, `values`: `[N, Hkv, S, K]`; output: `[N, Hkv, n, K]`
pub fn weigh(probs: Tensor<4>, values: Tensor<4>) -> Tensor<4> {
    let columns = probs.dims()[3];
    if columns <= SUM_BLOCK {
        return probs.matmul(values);
    }
    let block = |start: usize| {
        let length = SUM_BLOCK.min(columns - start);
        let probs = probs.clone().narrow(3, start, length);
        probs.matmul(values.clone().narrow(2, start, length))
    };
    (SUM_BLOCK..columns)
        .step_by(SUM_BLOCK)
        .fold(block(0), |sum, start| sum + block(start))
}

fn portable(
    queries: Tensor<2>,
    keys: &Tensor<4>,
    values: &Tensor<4>,
    bias: &Tensor<4>,
    heads: Heads,
) -> Tensor<2> {
    let [width, rows] = queries.dims();
    let columns = bias.dims()[3];
    let own = |cache: &Tensor<4>| cache.clone().narrow(0, 0, rows);
    let queries = queries * (1.0 / (heads.width as f64).sqrt());
    let queries = queries
        .reshape([heads.num_kv_heads, heads.group, heads.width, rows])
        .permute([3, 0, 1, 2]);
    let scores = queries.matmul(own(keys).narrow(3, 0, columns));
    let probs = softmax(scores + bias.clone(), 3);
    let attended = weigh(probs, own(values).narrow(2, 0, columns));
    attended.permute([1, 2, 3, 0]).reshape([width, rows])
}

/// The cache of one block.
struct Cache<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    /// S.
    columns: usize,
    heads: Heads,
}

impl Cache<'_> {
    /// `[Hkv * g * K, R]`.
    fn attend(&self, queries: &[f32], positions: &[usize]) -> Vec<f32> {
        let rows = positions.len();
        let parts: Vec<Vec<f32>> = (0..rows)
            .into_par_iter()
            .map(|row| {
                let queries: Vec<f32> = queries.iter().skip(row).step_by(rows).copied().collect();
                wide::<AttendRow>((self, &queries, row, positions[row] + 1))
            })
            .collect();
        let mut output = vec![0f32; queries.len()];
        for (row, part) in parts.iter().enumerate() {
            for (place, value) in part.iter().enumerate() {
                output[place * rows + row] = *value;
            }
        }
        output
    }
}

work!(AttendRow = attend_row, 'a, (&'a Cache<'a>, &'a [f32], usize, usize) => Vec<f32>);

/// All heads of one row over the first `length` columns of its slot, `[Hkv * g * K]`.
#[inline(always)]
fn attend_row((cache, queries, row, length): (&Cache<'_>, &[f32], usize, usize)) -> Vec<f32> {
    let Heads {
        num_kv_heads,
        group,
        width,
    } = cache.heads;
    let columns = cache.columns;
    let scale = 1.0 / (width as f32).sqrt();
    let mut output = vec![0f32; queries.len()];
    let mut scores = vec![0f32; length];
    let panel = width * columns;
    for head in 0..num_kv_heads * group {
        let start = (row * num_kv_heads + head / group) * panel;
        let (keys, values) = (
            &cache.keys[start..][..panel],
            &cache.values[start..][..panel],
        );
        let own = head * width..(head + 1) * width;
        scores.fill(0.0);
        let query = &queries[own.clone()];
        accumulate(
            &mut scores,
            width,
            |k| query[k] * scale,
            |k| &keys[k * columns..],
        );
        softmax_of(&mut scores);
        let output = &mut output[own];
        accumulate(output, length, |s| scores[s], |s| &values[s * width..]);
    }
    output
}

/// `sums += sum_i factor(i) * column(i)`, one term after the other, several terms per pass.
#[inline(always)]
fn accumulate<'a>(
    sums: &mut [f32],
    count: usize,
    factor: impl Fn(usize) -> f32,
    column: impl Fn(usize) -> &'a [f32],
) {
    let length = sums.len();
    let whole = count / TERMS * TERMS;
    for first in (0..whole).step_by(TERMS) {
        let factors: [f32; TERMS] = core::array::from_fn(|term| factor(first + term));
        let columns: [&[f32]; TERMS] = core::array::from_fn(|term| &column(first + term)[..length]);
        for (place, sum) in sums.iter_mut().enumerate() {
            for term in 0..TERMS {
                *sum = factors[term].mul_add(columns[term][place], *sum);
            }
        }
    }
    for term in whole..count {
        let (factor, column) = (factor(term), &column(term)[..length]);
        for (sum, value) in sums.iter_mut().zip(column) {
            *sum = factor.mul_add(*value, *sum);
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::kernels::test_tools::{close, noise, values as host};
    use burn::tensor::TensorData;

    const HEADS: Heads = Heads {
        num_kv_heads: 2,
        group: 3,
        width: 6,
    };
    const COLUMNS: usize = 700;

    fn cache(slots: usize, salt: usize) -> Tensor<2> {
        noise([slots * 2, 6 * COLUMNS], salt) * 3.0
    }

    fn bias(positions: &[usize]) -> Tensor<4> {
        let mut bias = vec![-1e9f32; positions.len() * COLUMNS];
        for (row, position) in positions.iter().enumerate() {
            bias[row * COLUMNS..][..=*position].fill(0.0);
        }
        let shape = [positions.len(), 1, 1, COLUMNS];
        Tensor::from_data(TensorData::new(bias, shape), &cache(1, 0).device())
    }

    #[test]
    fn kernel_and_portable_path_agree() {
        let positions = [0, 5, 641];
        let queries = noise([36, 3], 1) * 3.0;
        let keys = cache(4, 2).reshape([4, 2, 6, COLUMNS]);
        let values = cache(4, 3).reshape([4, 2, COLUMNS, 6]);
        let bias = bias(&positions);
        let found = decode_attention(queries.clone(), &keys, &values, &positions, &bias, HEADS);
        let expected = portable(queries, &keys, &values, &bias, HEADS);
        close(&host(found), &host(expected), 1e-5);
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let keys = cache(4, 2).reshape([4, 2, 6, COLUMNS]);
        let values = cache(4, 3).reshape([4, 2, COLUMNS, 6]);
        let queries = noise([36, 3], 1);
        let rows = |positions: &[usize], queries: Tensor<2>| {
            let bias = bias(positions);
            let found = decode_attention(queries, &keys, &values, positions, &bias, HEADS);
            host(found.narrow(1, 0, 1))
        };
        let alone = rows(&[37], queries.clone().narrow(1, 0, 1) * 1.0);
        assert_eq!(rows(&[37, 99, 3], queries), alone);
    }
}
