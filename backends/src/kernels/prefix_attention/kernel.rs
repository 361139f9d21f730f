//! The CPU kernel of prefix attention: one task per prompt span and key-value head.
//!
//! A task gathers keys and values of a sequence once, then goes through blocks of its rows. Only
//! columns that a block may see are multiplied, and a row's weights are formed only up to itself,
//! so nothing is masked. Within a task the order of summation is fixed: results do not depend on
//! the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::{Heads, PromptSpan};
use crate::kernels::lanes::{dot, softmax_of, wide, work};
use crate::kernels::product::{Matrix, product};

/// Query rows of one block.
const BLOCK: usize = 64;

/// Rows of queries, keys and values.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// `[L, Hkv * g * K]`.
    pub queries: &'a [f32],
    /// `[L, Hkv * K]`.
    pub keys: &'a [f32],
    /// `[L, Hkv * K]`.
    pub values: &'a [f32],
}

/// One span and one key-value head.
struct Task<'a> {
    inputs: Inputs<'a>,
    heads: Heads,
    span: &'a PromptSpan,
    /// First row of the span.
    start: usize,
    kv_head: usize,
}

/// Keys and values of one sequence, `[S, K]` each; the prompt's come first and stay.
struct Context {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// A block of query rows: `first..first + rows` of the span, at positions `position..`.
struct Block {
    first: usize,
    rows: usize,
    position: usize,
}

/// `[L, Hkv * g * K]`.
pub(super) fn forward(inputs: Inputs<'_>, spans: &[PromptSpan], heads: Heads) -> Vec<f32> {
    let width = heads.group * heads.width;
    let tasks = tasks(inputs, spans, heads);
    let parts: Vec<Vec<f32>> = tasks.par_iter().map(Task::forward).collect();
    let columns = heads.num_kv_heads * width;
    let mut output = vec![0f32; inputs.queries.len()];
    for (task, part) in tasks.iter().zip(&parts) {
        task.place(&mut output, part, columns, width);
    }
    output
}

/// Gradients with respect to queries, keys and values.
pub(super) fn backward(
    inputs: Inputs<'_>,
    grad: &[f32],
    spans: &[PromptSpan],
    heads: Heads,
) -> [Vec<f32>; 3] {
    let tasks = tasks(inputs, spans, heads);
    let parts: Vec<[Vec<f32>; 3]> = tasks.par_iter().map(|task| task.backward(grad)).collect();
    let lengths = [inputs.queries.len(), inputs.keys.len(), inputs.keys.len()];
    let mut outputs = lengths.map(|length| vec![0f32; length]);
    let widths = [heads.group * heads.width, heads.width, heads.width];
    for (task, part) in tasks.iter().zip(&parts) {
        for ((output, part), width) in outputs.iter_mut().zip(part).zip(widths) {
            task.place(output, part, heads.num_kv_heads * width, width);
        }
    }
    outputs
}

fn tasks<'a>(inputs: Inputs<'a>, spans: &'a [PromptSpan], heads: Heads) -> Vec<Task<'a>> {
    let mut tasks = Vec::new();
    let mut start = 0;
    for span in spans {
        tasks.extend((0..heads.num_kv_heads).map(|kv_head| Task {
            inputs,
            heads,
            span,
            start,
            kv_head,
        }));
        start += span.num_rows();
    }
    tasks
}

impl Task<'_> {
    /// Copies `[rows of the span, width]` to where they stand among all columns.
    fn place(&self, output: &mut [f32], part: &[f32], columns: usize, width: usize) {
        let rows = output[self.start * columns..].chunks_exact_mut(columns);
        for (row, part) in rows.zip(part.chunks_exact(width)) {
            row[self.kv_head * width..][..width].copy_from_slice(part);
        }
    }

    /// `[rows of the span, g * K]`.
    fn forward(&self) -> Vec<f32> {
        let Heads { group, width, .. } = self.heads;
        let mut output = vec![0f32; self.span.num_rows() * group * width];
        let mut context = self.prompt();
        let mut scores = Vec::new();
        for (rows, prefix) in self.segments() {
            self.extend(&mut context, &rows, prefix);
            for block in blocks(&rows, prefix) {
                let columns = block.position + block.rows;
                for head in 0..group {
                    let queries = self.queries(self.inputs.queries, &block, head);
                    self.probs(&mut scores, queries, &context, &block);
                    let probs = Matrix::rows(&scores, block.rows, columns, columns);
                    let values = Matrix::rows(&context.values, columns, width, width);
                    let place = block.first * group * width + head * width;
                    let output = &mut output[place..];
                    product(output, group * width, probs, values, 1.0, false);
                }
            }
        }
        output
    }

    /// Gradients of the span's queries `[rows, g * K]`, keys and values `[rows, K]`.
    fn backward(&self, grad: &[f32]) -> [Vec<f32>; 3] {
        let Heads { group, width, .. } = self.heads;
        let num_rows = self.span.num_rows();
        let mut d_queries = vec![0f32; num_rows * group * width];
        let [mut d_keys, mut d_values] = [(); 2].map(|()| vec![0f32; num_rows * width]);
        let mut context = self.prompt();
        let (mut probs, mut slopes) = (Vec::new(), Vec::new());
        for (rows, prefix) in self.segments() {
            self.extend(&mut context, &rows, prefix);
            let length = (prefix + rows.len()) * width;
            let mut sums = Context {
                keys: vec![0f32; length],
                values: vec![0f32; length],
            };
            for block in blocks(&rows, prefix) {
                for head in 0..group {
                    let queries = self.queries(self.inputs.queries, &block, head);
                    let grad = self.queries(grad, &block, head);
                    self.probs(&mut probs, queries, &context, &block);
                    self.slopes(&mut slopes, &probs, grad, &context, &block);
                    self.add(&mut sums, &probs, &slopes, queries, grad, &block);
                    let columns = block.position + block.rows;
                    let slopes = Matrix::rows(&slopes, block.rows, columns, columns);
                    let keys = Matrix::rows(&context.keys, columns, width, width);
                    let place = block.first * group * width + head * width;
                    let output = &mut d_queries[place..];
                    product(output, group * width, slopes, keys, self.scale(), false);
                }
            }
            for (output, sums) in [(&mut d_keys, sums.keys), (&mut d_values, sums.values)] {
                let (shared, own) = sums.split_at(prefix * width);
                for (sum, value) in output.iter_mut().zip(shared) {
                    *sum += value;
                }
                output[rows.start * width..rows.end * width].copy_from_slice(own);
            }
        }
        [d_queries, d_keys, d_values]
    }

    /// Rows of the span that form a sequence's end, and how many prompt rows come before them.
    fn segments(&self) -> impl Iterator<Item = (Range<usize>, usize)> + '_ {
        let prompt = self.span.num_prompt_rows;
        let mut next = prompt;
        let completions = self.span.completion_rows.iter().map(move |&rows| {
            next += rows;
            (next - rows..next, prompt)
        });
        std::iter::once((0..prompt, 0)).chain(completions)
    }

    fn prompt(&self) -> Context {
        let mut context = Context {
            keys: Vec::new(),
            values: Vec::new(),
        };
        self.extend(&mut context, &(0..self.span.num_prompt_rows), 0);
        context
    }

    /// Puts the keys and values of `rows` behind the first `prefix`.
    fn extend(&self, context: &mut Context, rows: &Range<usize>, prefix: usize) {
        let width = self.heads.width;
        let columns = self.heads.num_kv_heads * width;
        let sources = [
            (&mut context.keys, self.inputs.keys),
            (&mut context.values, self.inputs.values),
        ];
        for (kept, source) in sources {
            kept.truncate(prefix * width);
            for row in rows.clone() {
                let place = (self.start + row) * columns + self.kv_head * width;
                kept.extend_from_slice(&source[place..place + width]);
            }
        }
    }

    /// Rows of one query head, `[rows, K]`, in a `[L, Hkv * g * K]` matrix.
    fn queries<'b>(&self, all: &'b [f32], block: &Block, head: usize) -> Matrix<'b> {
        let Heads {
            num_kv_heads,
            group,
            width,
        } = self.heads;
        let columns = num_kv_heads * group * width;
        let place = (self.start + block.first) * columns + (self.kv_head * group + head) * width;
        Matrix::rows(&all[place..], block.rows, width, columns)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.heads.width as f32).sqrt()
    }

    /// Attention weights of a block, `[rows, columns]`, zero behind each row's own column.
    fn probs(&self, probs: &mut Vec<f32>, queries: Matrix<'_>, context: &Context, block: &Block) {
        let (width, columns) = (self.heads.width, block.position + block.rows);
        probs.resize(block.rows * columns, 0.0);
        let keys = Matrix::rows(&context.keys, columns, width, width);
        product(
            probs,
            columns,
            queries,
            keys.transposed(),
            self.scale(),
            false,
        );
        wide::<SoftmaxRows>((probs, columns, block.position));
    }

    /// `P (dP - sum_j P_j dP_j)` with `dP = grad v^T`, `[rows, columns]`.
    fn slopes(
        &self,
        slopes: &mut Vec<f32>,
        probs: &[f32],
        grad: Matrix<'_>,
        context: &Context,
        block: &Block,
    ) {
        let (width, columns) = (self.heads.width, block.position + block.rows);
        slopes.resize(block.rows * columns, 0.0);
        let values = Matrix::rows(&context.values, columns, width, width);
        product(slopes, columns, grad, values.transposed(), 1.0, false);
        wide::<SlopeRows>((slopes, probs, columns));
    }

    /// Adds a block's part of the gradients of keys and values.
    fn add(
        &self,
        sums: &mut Context,
        probs: &[f32],
        slopes: &[f32],
        queries: Matrix<'_>,
        grad: Matrix<'_>,
        block: &Block,
    ) {
        let (width, columns) = (self.heads.width, block.position + block.rows);
        let slopes = Matrix::rows(slopes, block.rows, columns, columns).transposed();
        product(&mut sums.keys, width, slopes, queries, self.scale(), true);
        let probs = Matrix::rows(probs, block.rows, columns, columns).transposed();
        product(&mut sums.values, width, probs, grad, 1.0, true);
    }
}

/// Cuts the rows of a segment, which stand behind `prefix` others, into blocks.
fn blocks(rows: &Range<usize>, prefix: usize) -> impl Iterator<Item = Block> + use<> {
    let Range { start, end } = *rows;
    rows.clone().step_by(BLOCK).map(move |first| Block {
        first,
        rows: BLOCK.min(end - first),
        position: prefix + first - start,
    })
}

work!(SoftmaxRows = softmax_rows, 'a, (&'a mut [f32], usize, usize) => ());
work!(SlopeRows = slope_rows, 'a, (&'a mut [f32], &'a [f32], usize) => ());

/// Softmax of row `r` over its first `position + r + 1` columns; zero behind.
#[inline(always)]
fn softmax_rows((scores, columns, position): (&mut [f32], usize, usize)) {
    for (row, scores) in scores.chunks_exact_mut(columns).enumerate() {
        let (seen, hidden) = scores.split_at_mut(position + row + 1);
        softmax_of(seen);
        hidden.fill(0.0);
    }
}

/// Slopes of the weights to slopes of the scores, row by row.
#[inline(always)]
fn slope_rows((slopes, probs, columns): (&mut [f32], &[f32], usize)) {
    let rows = slopes.chunks_exact_mut(columns);
    for (slopes, probs) in rows.zip(probs.chunks_exact(columns)) {
        let along = dot(slopes, probs);
        for (slope, prob) in slopes.iter_mut().zip(probs) {
            *slope = (*slope - along) * prob;
        }
    }
}
