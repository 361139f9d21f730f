//! Segments of packed rows in padded batches: where every row goes, and what it may see.

use std::cell::OnceCell;
use std::ops::Range;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::super::index::{MASKED, index};
use super::{Heads, PromptSpan};

/// Scores of a batch at most, unless one segment has more. Tensors of this size are what attention
/// needs for the moment.
pub(super) const MOST_SCORES: usize = 1 << 24;

/// All segments of a packed batch.
#[derive(Debug)]
pub(super) struct Batches {
    pub(super) batches: Vec<Batch>,
    /// Place of every packed row among the padded rows of all batches, `[L]`.
    pub(super) rows: Tensor<1, Int>,
    /// Place of every packed row's own column among the padded columns of all batches, `[L]`.
    pub(super) columns: Tensor<1, Int>,
}

/// Segments that go together: all of them prompts, or all of them completions.
#[derive(Debug)]
pub(super) struct Batch {
    /// Segments, n.
    pub(super) count: usize,
    /// Padded columns of a prompt, P; 0 for prompts themselves.
    pub(super) prompt_columns: usize,
    /// Packed row of every padded row, `[n * T]`.
    pub(super) rows: Tensor<1, Int>,
    /// Packed row of every padded column, `[n * (P + T)]`.
    pub(super) columns: Tensor<1, Int>,
    /// 1 for a row, 0 for padding, `[n * T, 1]`.
    pub(super) is_row: Tensor<2>,
    /// Columns of each segment's prompt, `[n]`; none if it is a prompt. What a row sees are these, and
    /// of the last T columns those up to its own.
    pub(super) lengths: Tensor<1, Int>,
    /// T.
    rows_padded: usize,
    /// The same for Burn's operations, made when it is first asked for.
    bias: OnceCell<Tensor<4>>,
    /// Who shares prompts, if these are completions.
    pub(super) shared: Option<Shared>,
}

/// The completions of each prompt within a batch.
#[derive(Debug)]
pub(super) struct Shared {
    /// Prompts.
    pub(super) count: usize,
    /// Completions of each, filled up with one behind the last, `[prompts * most]`.
    pub(super) members: Tensor<1, Int>,
    /// Place of every packed row among the P columns of each prompt; those of no prompt stand
    /// behind the last, `[L]`.
    pub(super) rows: Tensor<1, Int>,
}

/// One sequence of query rows.
#[derive(Clone, Debug)]
struct Segment {
    /// Its rows.
    rows: Range<usize>,
    /// Rows of the prompt that come before it; none if it is the prompt.
    prompt: Option<Range<usize>>,
}

impl Segment {
    fn prompt_columns(&self) -> usize {
        self.prompt.as_ref().map_or(0, Range::len)
    }
}

/// Prompt, its completions, next prompt, and so on. Empty completions are left out.
fn segments(spans: &[PromptSpan]) -> Vec<Segment> {
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
    segments
}

impl Batches {
    /// Batches of at most `most_scores` scores each, or of one segment.
    pub(super) fn new(
        spans: &[PromptSpan],
        heads: Heads,
        most_scores: usize,
        device: &Device,
    ) -> Self {
        let all = segments(spans);
        let num_rows: usize = spans.iter().map(PromptSpan::num_rows).sum();
        let (prompts, completions): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|segment| segment.prompt.is_none());
        let most = most_scores / (heads.num_kv_heads * heads.group);
        let groups = [prompts, completions].into_iter();
        let groups: Vec<Vec<Segment>> = groups.flat_map(|kind| cut(kind, most)).collect();
        let (mut rows, mut columns) = (vec![0; num_rows], vec![0; num_rows]);
        let (mut first_row, mut first_column) = (0, 0);
        for group in &groups {
            let Padding {
                rows: height,
                prompt_columns,
            } = Padding::of(group);
            for segment in group {
                for (offset, row) in segment.rows.clone().enumerate() {
                    rows[row] = first_row + offset;
                    columns[row] = first_column + prompt_columns + offset;
                }
                first_row += height;
                first_column += prompt_columns + height;
            }
        }
        let batches = groups
            .iter()
            .map(|group| Batch::new(group, num_rows, device));
        Self {
            batches: batches.collect(),
            rows: index(rows, device),
            columns: index(columns, device),
        }
    }
}

/// Consecutive segments whose padded rows times columns are at most `most`, or one.
fn cut(segments: Vec<Segment>, most: usize) -> Vec<Vec<Segment>> {
    let mut groups: Vec<Vec<Segment>> = Vec::new();
    for segment in segments {
        if let Some(last) = groups.last_mut() {
            last.push(segment.clone());
            let padding = Padding::of(last);
            if last.len() * padding.rows * padding.columns() <= most {
                continue;
            }
            last.pop();
        }
        groups.push(vec![segment]);
    }
    groups
}

/// What the segments of a batch are filled up to.
struct Padding {
    /// T.
    rows: usize,
    /// P.
    prompt_columns: usize,
}

/// Rows and columns of a batch are filled up to a multiple of this, so that a device moves several
/// numbers at a time.
const ALIGNMENT: usize = 8;

impl Padding {
    fn of(group: &[Segment]) -> Self {
        let most = |size: fn(&Segment) -> usize| {
            let most = group.iter().map(size).max().unwrap_or(0);
            most.next_multiple_of(ALIGNMENT)
        };
        Self {
            rows: most(|segment| segment.rows.len()),
            prompt_columns: most(Segment::prompt_columns),
        }
    }

    fn columns(&self) -> usize {
        self.prompt_columns + self.rows
    }
}

impl Batch {
    fn new(group: &[Segment], num_rows: usize, device: &Device) -> Self {
        let padding = Padding::of(group);
        let (mut rows, mut columns, mut is_row) = (Vec::new(), Vec::new(), Vec::new());
        for segment in group {
            // Padding is any row: it is masked, and its gradient is zero.
            let fill = segment.rows.start;
            let padded = |range: Range<usize>, length: usize| {
                let missing = length - range.len();
                range.chain(std::iter::repeat_n(fill, missing))
            };
            rows.extend(padded(segment.rows.clone(), padding.rows));
            columns.extend(padded(
                segment.prompt.clone().unwrap_or(0..0),
                padding.prompt_columns,
            ));
            columns.extend(padded(segment.rows.clone(), padding.rows));
            let count = segment.rows.len();
            is_row.extend((0..padding.rows).map(|row| if row < count { 1f32 } else { 0.0 }));
        }
        let length = is_row.len();
        Self {
            count: group.len(),
            prompt_columns: padding.prompt_columns,
            rows: index(rows, device),
            columns: index(columns, device),
            is_row: Tensor::from_data(TensorData::new(is_row, [length, 1]), device),
            lengths: index(group.iter().map(Segment::prompt_columns).collect(), device),
            rows_padded: padding.rows,
            bias: OnceCell::new(),
            shared: Shared::new(group, padding.prompt_columns, num_rows, device),
        }
    }

    /// Zero where a row may look, very negative elsewhere, `[n, 1, T, P + T]`.
    ///
    /// Padded columns stand behind the prompt's or behind the row, and so are masked too; padded rows
    /// see what the row above them sees, and more.
    pub(super) fn bias(&self) -> Tensor<4> {
        self.bias.get_or_init(|| self.new_bias()).clone()
    }

    fn new_bias(&self) -> Tensor<4> {
        let (prompt_columns, height) = (self.prompt_columns, self.rows_padded);
        let (width, device) = (prompt_columns + height, self.lengths.device());
        let line = |length: usize| Tensor::<1, Int>::arange(0..length as i64, &device);
        let columns = line(width).reshape([1, 1, 1, width]);
        let rows = line(height).reshape([1, 1, height, 1]);
        let lengths = self.lengths.clone().reshape([self.count, 1, 1, 1]);
        let shape = [self.count, 1, height, width];
        let own = columns.clone() - prompt_columns as i64;
        let in_prompt = columns.lower(lengths).expand(shape);
        let is_behind: Tensor<4, Bool> = own.clone().greater(rows).expand(shape);
        let is_own = own.greater_equal_elem(0).expand(shape);
        let is_visible = in_prompt.bool_or(is_own.bool_and(is_behind.bool_not()));
        Tensor::zeros(shape, &device).mask_fill(is_visible.bool_not(), MASKED)
    }
}

impl Shared {
    fn new(
        group: &[Segment],
        prompt_columns: usize,
        num_rows: usize,
        device: &Device,
    ) -> Option<Self> {
        let mut prompts: Vec<(Range<usize>, Vec<usize>)> = Vec::new();
        for (place, segment) in group.iter().enumerate() {
            let prompt = segment.prompt.clone()?;
            match prompts.last_mut() {
                Some((last, members)) if *last == prompt => members.push(place),
                _ => prompts.push((prompt, vec![place])),
            }
        }
        let most = prompts.iter().map(|(_, members)| members.len()).max()?;
        let none = prompts.len() * prompt_columns;
        let (mut places, mut rows) = (Vec::new(), vec![none; num_rows]);
        for (number, (prompt, members)) in prompts.iter().enumerate() {
            places.extend(members);
            places.resize((number + 1) * most, group.len());
            for (offset, row) in prompt.clone().enumerate() {
                rows[row] = number * prompt_columns + offset;
            }
        }
        Some(Self {
            count: prompts.len(),
            members: index(places, device),
            rows: index(rows, device),
        })
    }
}
