//! The kernel of the CPU.

use std::ops::Range;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::super::host::{Values, edit, is_host, tensor};
use super::super::lanes::{softmax_of, wide, work};
use super::super::prefix_attention::Heads;
use super::super::rotary::rotate;
use super::super::tile::tile;
use super::rows::Path;
use super::{DecodeRows, KvPanels, Projected, RowSpan};

/// Columns that the query heads of a key head go through together.
const LANES: usize = 32;

pub(super) fn has_kernel(own: &KvPanels) -> bool {
    is_host(&own.keys)
}

/// As [`super::decode_attention`].
///
/// # Panics
/// If tensors or rows are not those of the CPU backend, in f32.
pub(super) fn step(
    projected: Projected,
    prompts: &KvPanels,
    own: &mut KvPanels,
    rows: &DecodeRows,
) -> Tensor<2> {
    let Path::Host(spans) = &rows.path else {
        panic!("decode_attention: rows of another device");
    };
    let [queries, keys, values] = projected.apart(rows.heads, rows.precision);
    let keys = rotate(keys, &rows.rotation);
    write(own, [keys, values], rows.heads, spans);
    let queries = rotate(queries, &rows.rotation);
    let panels = [&prompts.keys, &prompts.values, &own.keys, &own.values];
    let [
        Some(shared_keys),
        Some(shared_values),
        Some(own_keys),
        Some(own_values),
    ] = panels.map(Values::of)
    else {
        panic!("decode_attention: panels of two devices");
    };
    let cache = Cache {
        prompts: Panels {
            keys: shared_keys.slice(),
            values: shared_values.slice(),
            columns: prompts.num_columns(),
        },
        own: Panels {
            keys: own_keys.slice(),
            values: own_values.slice(),
            columns: own.num_columns(),
        },
        heads: rows.heads,
    };
    let Some(values) = Values::of(&queries) else {
        panic!("decode_attention: queries of another device");
    };
    let attended = cache.attend(values.slice(), spans);
    tensor(attended, queries.dims(), &queries.device())
}

/// Writes the last column of each row.
fn write(own: &mut KvPanels, columns: [Tensor<2>; 2], heads: Heads, spans: &[RowSpan]) {
    let [Some(keys), Some(values)] = columns.each_ref().map(Values::of) else {
        panic!("decode_attention: projections of another device");
    };
    let capacity = own.num_columns();
    let Heads {
        num_kv_heads,
        width,
        ..
    } = heads;
    own.keys.inplace(|all| {
        edit(all, |all| {
            let panels = all.chunks_exact_mut(num_kv_heads * width * capacity);
            let new = keys.slice().chunks_exact(num_kv_heads * width);
            for ((panels, new), span) in panels.zip(new).zip(spans) {
                let lines = panels.chunks_exact_mut(capacity).zip(new);
                lines.for_each(|(line, value)| line[span.own_columns - 1] = *value);
            }
        })
    });
    own.values.inplace(|all| {
        edit(all, |all| {
            let panels = all.chunks_exact_mut(num_kv_heads * width * capacity);
            let new = values.slice().chunks_exact(num_kv_heads * width);
            for ((panels, new), span) in panels.zip(new).zip(spans) {
                let heads = panels.chunks_exact_mut(width * capacity);
                for (panel, new) in heads.zip(new.chunks_exact(width)) {
                    panel[(span.own_columns - 1) * width..][..width].copy_from_slice(new);
                }
            }
        })
    });
}

/// Keys and values of some slots.
#[derive(Clone, Copy)]
struct Panels<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    /// S.
    columns: usize,
}

/// What the rows of one block see.
struct Cache<'a> {
    prompts: Panels<'a>,
    own: Panels<'a>,
    heads: Heads,
}

/// One of the two parts that a row sees: a slot of some panels up to a column.
#[derive(Clone, Copy)]
struct Part<'a> {
    panels: Panels<'a>,
    slot: usize,
    count: usize,
}

impl<'a> Cache<'a> {
    /// `[R, Hkv * g * K]`.
    fn attend(&self, queries: &[f32], spans: &[RowSpan]) -> Vec<f32> {
        let width = queries.len() / spans.len().max(1);
        let mut output = vec![0f32; queries.len()];
        let rows = output.par_chunks_mut(width).zip(queries.par_chunks(width));
        rows.zip(spans)
            .enumerate()
            .for_each(|(row, ((output, queries), span))| {
                let parts = self.parts(row, span);
                wide::<AttendRow>((self.heads, parts, queries, output));
            });
        output
    }

    fn parts(&self, row: usize, span: &RowSpan) -> [Part<'a>; 2] {
        let part = |panels, slot, count| Part {
            panels,
            slot,
            count,
        };
        [
            part(self.prompts, span.prompt_slot, span.prompt_columns),
            part(self.own, row, span.own_columns),
        ]
    }
}

work!(AttendRow = attend_row, 'a, (Heads, [Part<'a>; 2], &'a [f32], &'a mut [f32]) => ());

/// All heads of one row over the columns of its parts, `[Hkv * g * K]`.
#[inline(always)]
fn attend_row((heads, parts, queries, output): (Heads, [Part<'_>; 2], &[f32], &mut [f32])) {
    let Heads {
        num_kv_heads,
        group,
        width,
    } = heads;
    let length = parts[0].count + parts[1].count;
    let scale = 1.0 / (width as f32).sqrt();
    let mut scores = vec![0f32; group * length];
    let groups = queries.chunks_exact(group * width);
    let groups = groups.zip(output.chunks_exact_mut(group * width));
    for (head, (queries, output)) in groups.enumerate() {
        let queries: Vec<f32> = queries.iter().map(|query| query * scale).collect();
        scores.fill(0.0);
        let mut first = 0;
        for part in parts {
            let panel = part.panel(part.panels.keys, num_kv_heads, head, width);
            let keys = Panel {
                values: panel,
                stride: part.panels.columns,
                width: part.count,
            };
            multiply_add(
                &queries,
                width,
                0..width,
                keys,
                &mut scores[first..],
                length,
            );
            first += part.count;
        }
        for scores in scores.chunks_mut(length) {
            softmax_of(scores);
        }
        let mut first = 0;
        for part in parts {
            let panel = part.panel(part.panels.values, num_kv_heads, head, width);
            let values = Panel {
                values: panel,
                stride: width,
                width,
            };
            let terms = first..first + part.count;
            multiply_add(&scores, length, terms, values, output, width);
            first += part.count;
        }
    }
}

impl<'a> Part<'a> {
    /// What belongs to one head of the slot.
    #[inline(always)]
    fn panel(&self, all: &'a [f32], num_kv_heads: usize, head: usize, width: usize) -> &'a [f32] {
        let size = width * self.panels.columns;
        &all[(self.slot * num_kv_heads + head) * size..][..size]
    }
}

/// Rows `stride` apart, of which the first `width` columns are wanted.
#[derive(Clone, Copy)]
struct Panel<'a> {
    values: &'a [f32],
    stride: usize,
    width: usize,
}

/// `output[row][c] += sum_i factors[row][i] * panel[i][c]` over the factors `terms` of each row,
/// rows of factors and of outputs being `factor_stride` and `output_stride` apart. A sum goes on
/// from what is there in the same accumulator, so where it was cut does not change its bits.
#[inline(always)]
fn multiply_add(
    factors: &[f32],
    factor_stride: usize,
    terms: Range<usize>,
    panel: Panel<'_>,
    output: &mut [f32],
    output_stride: usize,
) {
    // As many rows at a time as leave their sums in registers.
    let parts = factors.chunks(4 * factor_stride);
    for (factors, output) in parts.zip(output.chunks_mut(4 * output_stride)) {
        let rows = Rows {
            factors,
            stride: factor_stride,
            terms: (terms.start, terms.end),
        };
        match factors.len() / factor_stride {
            1 => strips::<1>(rows, panel, output, output_stride),
            2 => strips::<2>(rows, panel, output, output_stride),
            3 => strips::<3>(rows, panel, output, output_stride),
            _ => strips::<4>(rows, panel, output, output_stride),
        }
    }
}

/// Up to four rows of factors.
#[derive(Clone, Copy)]
struct Rows<'a> {
    factors: &'a [f32],
    stride: usize,
    /// The first that counts, and the one behind the last.
    terms: (usize, usize),
}

#[inline(always)]
fn strips<const ROWS: usize>(
    factors: Rows<'_>,
    panel: Panel<'_>,
    output: &mut [f32],
    output_stride: usize,
) {
    let mut rows = [factors.factors; ROWS];
    for (row, values) in rows.iter_mut().enumerate() {
        let all = &factors.factors[row * factors.stride..];
        *values = &all[factors.terms.0..factors.terms.1];
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
            let mut sums = [[0f32; LANES]; ROWS];
            for (row, sums) in sums.iter_mut().enumerate() {
                sums[..taken].copy_from_slice(&output[row * output_stride + first..][..taken]);
            }
            let sums = tile(sums, rows, &values[first..], stride);
            for (row, sums) in sums.iter().enumerate() {
                output[row * output_stride + first..][..taken].copy_from_slice(&sums[..taken]);
            }
            first += LANES;
        } else {
            let mut sums = [[0f32; 1]; ROWS];
            for (row, sums) in sums.iter_mut().enumerate() {
                sums[0] = output[row * output_stride + first];
            }
            let sums = tile(sums, rows, &values[first..], stride);
            for (row, sums) in sums.iter().enumerate() {
                output[row * output_stride + first] = sums[0];
            }
            first += 1;
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::super::portable::{self, Index};
    use super::*;
    use crate::kernels::rotary::Rotation;
    use crate::kernels::test_tools::{close, noise, values as host};
    use rlvr_core::Precision;

    const HEADS: Heads = Heads {
        num_kv_heads: 2,
        group: 3,
        width: 6,
    };
    const SPANS: [RowSpan; 4] = [
        span(1, 300, 341),
        span(0, 5, 1),
        span(2, 0, 6),
        span(1, 300, 33),
    ];

    const fn span(prompt_slot: usize, prompt_columns: usize, own_columns: usize) -> RowSpan {
        RowSpan {
            prompt_slot,
            prompt_columns,
            own_columns,
        }
    }

    fn panels(slots: usize, columns: usize, salt: usize) -> KvPanels {
        let noise = |salt| noise([slots * 2, 6 * columns], salt);
        KvPanels {
            keys: noise(salt).reshape([slots, 2, 6, columns]),
            values: noise(salt + 1).reshape([slots, 2, columns, 6]),
        }
    }

    fn projected(rows: usize) -> Projected {
        Projected::Apart {
            queries: noise([rows, 36], 1),
            keys: noise([rows, 12], 2),
            values: noise([rows, 12], 3),
        }
    }

    /// Of 700 positions.
    fn angles() -> Rotation {
        let (cos, sin) = (noise([700, 3], 4), noise([700, 3], 5));
        Rotation {
            cos: Tensor::cat(vec![cos.clone(), cos], 1),
            sin: Tensor::cat(vec![-sin.clone(), sin], 1),
        }
    }

    /// What is attended, and keys and values behind it.
    fn run(precision: Precision, is_kernel: bool) -> [Vec<f32>; 3] {
        let (mut prompts, mut own) = (panels(3, 310, 10), panels(5, 350, 20));
        prompts.inplace(|x| precision.operand(x));
        own.inplace(|x| precision.operand(x));
        let rows = DecodeRows::new(
            SPANS.to_vec(),
            &angles(),
            [&prompts, &own],
            HEADS,
            precision,
        );
        let projected = projected(4);
        let attended = match is_kernel {
            true => step(projected, &prompts, &mut own, &rows),
            false => {
                let device = own.keys.device();
                let index = Index::new(&SPANS, [&prompts, &own], HEADS, &device);
                portable::step(projected, &prompts, &mut own, &rows, &index)
            }
        };
        [host(attended), host(own.keys), host(own.values)]
    }

    #[test]
    fn kernel_and_portable_path_agree() {
        let found = run(Precision::F32, true);
        let expected = run(Precision::F32, false);
        for (found, expected) in found.iter().zip(&expected) {
            close(found, expected, 1e-5);
        }
    }

    #[test]
    fn half_precision_is_within_its_rounding() {
        let found = run(Precision::Bf16, false);
        let exact = run(Precision::F32, false);
        for (found, exact) in found.iter().zip(&exact) {
            close(found, exact, 1e-2);
            assert_ne!(found, exact);
        }
    }

    /// A prompt in a slot of its own, or in the row's: the same sums, bit for bit.
    #[test]
    fn where_a_prompt_is_stored_changes_nothing() {
        let shared = panels(1, 40, 30);
        let attended = |prompt_columns: usize| {
            let mut own = panels(1, 70, 40);
            // What of the prompt is not apart comes first in the row's slot.
            let moved = 40 - prompt_columns;
            let place = |own: Tensor<4>, shared: &Tensor<4>, axis: usize| {
                if moved == 0 {
                    return own;
                }
                let head = shared.clone().narrow(axis, prompt_columns, moved);
                let tail = own.narrow(axis, moved, 70 - moved);
                Tensor::cat(vec![head, tail], axis)
            };
            own.keys = place(own.keys, &shared.keys, 3);
            own.values = place(own.values, &shared.values, 2);
            let spans = vec![span(0, prompt_columns, moved + 1)];
            let rows = DecodeRows::new(spans, &angles(), [&shared, &own], HEADS, Precision::F32);
            let projected = projected(1);
            host(step(projected, &shared, &mut own, &rows))
        };
        let expected = attended(40);
        for prompt_columns in [0, 1, 31, 32, 33] {
            assert_eq!(attended(prompt_columns), expected, "{prompt_columns}");
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let attended = |count: usize| {
            let (prompts, mut own) = (panels(3, 310, 10), panels(5, 350, 20));
            let spans = SPANS[..count].to_vec();
            let rows = DecodeRows::new(spans, &angles(), [&prompts, &own], HEADS, Precision::F32);
            let projected = projected(count);
            let found = step(projected, &prompts, &mut own, &rows);
            host(found.narrow(0, 0, 1))
        };
        assert_eq!(attended(4), attended(1));
    }

    #[test]
    #[should_panic(expected = "row 0 has RowSpan")]
    fn columns_that_are_not_there_are_refused() {
        let (prompts, own) = (panels(3, 310, 10), panels(5, 350, 20));
        let spans = vec![span(0, 311, 1)];
        DecodeRows::new(spans, &angles(), [&prompts, &own], HEADS, Precision::F32);
    }
}
