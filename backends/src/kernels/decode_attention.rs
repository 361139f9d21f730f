//! Attention of one decode step: a query per row against the row's own slot of the cache.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use rayon::prelude::*;
use rlvr_core::Precision;

use super::host::{Values, tensor};
use super::lanes::{softmax_of, wide, work};
use super::prefix_attention::Heads;
use super::tile::tile;

/// Columns that the query heads of a key head go through together.
const LANES: usize = 32;

/// `softmax(q k^T / sqrt(K)) v` of every row over the columns of its slot up to its position. Both
/// products are computed in `precision`, in which keys and values may be stored already.
///
/// A row's result depends on that row alone: each sum runs front to back, over positions for the
/// output and over the head width for the scores.
///
/// # Shapes
/// - `queries`: `[R, Hkv * g * K]`, rotated; row `r` reads slot `r`
/// - `keys`: `[slots, Hkv, K, S]`, `values`: `[slots, Hkv, S, K]`
/// - `positions`: `[R]`; `bias`: `[R, 1, 1, S']`, zero up to the row's position and very negative
///   behind it
/// - output: `[R, Hkv * g * K]`
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
    precision: Precision,
) -> Tensor<2> {
    assert_eq!(queries.dims()[0], positions.len(), "decode_attention: [R]");
    let operands = (Values::of(&queries), Values::of(keys), Values::of(values));
    let (Precision::F32, (Some(q), Some(k), Some(v))) = (precision, operands) else {
        return portable(queries, keys, values, bias, heads, precision);
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

fn portable(
    queries: Tensor<2>,
    keys: &Tensor<4>,
    values: &Tensor<4>,
    bias: &Tensor<4>,
    heads: Heads,
    precision: Precision,
) -> Tensor<2> {
    let [rows, width] = queries.dims();
    let columns = bias.dims()[3];
    let own = |cache: &Tensor<4>| cache.clone().narrow(0, 0, rows);
    // Rounded before they are scaled, as in `prefix_attention`.
    let queries = precision.result(precision.operand(queries));
    let queries = queries * (1.0 / (heads.width as f64).sqrt());
    let queries = queries.reshape([rows, heads.num_kv_heads, heads.group, heads.width]);
    let scores = precision.matmul(queries, own(keys).narrow(3, 0, columns));
    let probs = softmax(scores + bias.clone(), 3);
    let attended = precision.matmul(probs, own(values).narrow(2, 0, columns));
    attended.reshape([rows, width])
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
    /// `[R, Hkv * g * K]`.
    fn attend(&self, queries: &[f32], positions: &[usize]) -> Vec<f32> {
        let width = queries.len() / positions.len().max(1);
        let mut output = vec![0f32; queries.len()];
        let rows = output.par_chunks_mut(width).zip(queries.par_chunks(width));
        rows.zip(positions)
            .enumerate()
            .for_each(|(row, ((output, queries), position))| {
                wide::<AttendRow>((self, queries, row, position + 1, output));
            });
        output
    }
}

work!(AttendRow = attend_row, 'a, (&'a Cache<'a>, &'a [f32], usize, usize, &'a mut [f32]) => ());

/// All heads of one row over the first `length` columns of its slot, `[Hkv * g * K]`.
#[inline(always)]
fn attend_row(
    (cache, queries, row, length, output): (&Cache<'_>, &[f32], usize, usize, &mut [f32]),
) {
    let Heads {
        num_kv_heads,
        group,
        width,
    } = cache.heads;
    let columns = cache.columns;
    let scale = 1.0 / (width as f32).sqrt();
    let mut scores = vec![0f32; group * length];
    let panel = width * columns;
    let groups = queries.chunks_exact(group * width);
    let groups = groups.zip(output.chunks_exact_mut(group * width));
    for (head, (queries, output)) in groups.enumerate() {
        let start = (row * num_kv_heads + head) * panel;
        let queries: Vec<f32> = queries.iter().map(|query| query * scale).collect();
        let keys = Panel {
            values: &cache.keys[start..][..panel],
            stride: columns,
            width: length,
        };
        multiply(&queries, width, keys, &mut scores);
        for scores in scores.chunks_mut(length) {
            softmax_of(scores);
        }
        let values = Panel {
            values: &cache.values[start..][..panel],
            stride: width,
            width,
        };
        multiply(&scores, length, values, output);
    }
}

/// Rows `stride` apart, of which the first `width` columns are wanted.
#[derive(Clone, Copy)]
struct Panel<'a> {
    values: &'a [f32],
    stride: usize,
    width: usize,
}

/// `output[row][c] = sum_i factors[row][i] * panel[i][c]`, with rows of `terms` factors.
#[inline(always)]
fn multiply(factors: &[f32], terms: usize, panel: Panel<'_>, output: &mut [f32]) {
    // As many rows at a time as leave their sums in registers.
    let parts = factors.chunks(4 * terms);
    for (factors, output) in parts.zip(output.chunks_mut(4 * panel.width)) {
        match factors.len() / terms {
            1 => strips::<1>(factors, terms, panel, output),
            2 => strips::<2>(factors, terms, panel, output),
            3 => strips::<3>(factors, terms, panel, output),
            _ => strips::<4>(factors, terms, panel, output),
        }
    }
}

#[inline(always)]
fn strips<const ROWS: usize>(factors: &[f32], terms: usize, panel: Panel<'_>, output: &mut [f32]) {
    let mut rows = [factors; ROWS];
    for (row, values) in rows.iter_mut().enumerate() {
        *values = &factors[row * terms..][..terms];
    }
    let Panel {
        values,
        stride,
        width,
    } = panel;
    let mut first = 0;
    while first < width {
        // A strip may reach behind the outputs wanted, but not behind a row of the panel.
        if first + LANES <= stride {
            let taken = LANES.min(width - first);
            let sums = tile::<ROWS, LANES>(rows, &values[first..], stride);
            for (row, sums) in sums.iter().enumerate() {
                output[row * width + first..][..taken].copy_from_slice(&sums[..taken]);
            }
            first += LANES;
        } else {
            let sums = tile::<ROWS, 1>(rows, &values[first..], stride);
            for (row, sums) in sums.iter().enumerate() {
                output[row * width + first] = sums[0];
            }
            first += 1;
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
        let queries = noise([3, 36], 1) * 3.0;
        let keys = cache(4, 2).reshape([4, 2, 6, COLUMNS]);
        let values = cache(4, 3).reshape([4, 2, COLUMNS, 6]);
        let bias = bias(&positions);
        let found = decode_attention(
            queries.clone(),
            &keys,
            &values,
            &positions,
            &bias,
            HEADS,
            Precision::F32,
        );
        let expected = portable(queries, &keys, &values, &bias, HEADS, Precision::F32);
        close(&host(found), &host(expected), 1e-5);
    }

    #[test]
    fn a_cache_in_half_precision_changes_nothing_but_its_size() {
        let positions = [0, 5, 641];
        let queries = noise([3, 36], 1);
        let keys = cache(4, 2).reshape([4, 2, 6, COLUMNS]);
        let values = cache(4, 3).reshape([4, 2, COLUMNS, 6]);
        let bias = bias(&positions);
        let attend = |keys, values, precision| {
            let queries = queries.clone();
            let found =
                decode_attention(queries, keys, values, &positions, &bias, HEADS, precision);
            host(found)
        };
        let stored = [&keys, &values].map(|x| Precision::Bf16.operand(x.clone()));
        let found = attend(&keys, &values, Precision::Bf16);
        assert_eq!(attend(&stored[0], &stored[1], Precision::Bf16), found);
        let exact = attend(&keys, &values, Precision::F32);
        close(&found, &exact, 3e-2);
        assert_ne!(found, exact);
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let keys = cache(4, 2).reshape([4, 2, 6, COLUMNS]);
        let values = cache(4, 3).reshape([4, 2, COLUMNS, 6]);
        let queries = noise([3, 36], 1);
        let rows = |positions: &[usize], queries: Tensor<2>| {
            let bias = bias(positions);
            let found = decode_attention(
                queries,
                &keys,
                &values,
                positions,
                &bias,
                HEADS,
                Precision::F32,
            );
            host(found.narrow(0, 0, 1))
        };
        let alone = rows(&[37], queries.clone().narrow(0, 0, 1));
        assert_eq!(rows(&[37, 99, 3], queries), alone);
    }
}
