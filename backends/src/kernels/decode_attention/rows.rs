//! What the rows of a decode step see, prepared once for all blocks.

#[cfg(feature = "cube")]
use burn::tensor::{Int, Tensor};
use rlvr_core::Precision;

use super::super::index::index;
use super::super::prefix_attention::Heads;
use super::super::rotary::Rotation;
use super::KvPanels;
use super::portable::Index;

/// What one row sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowSpan {
    /// Slot of its prompt.
    pub prompt_slot: usize,
    /// Columns of the prompt, from the first on; none is possible.
    pub prompt_columns: usize,
    /// Its own columns, the one that is written included; at least one.
    pub own_columns: usize,
}

/// The rows of one decode step; row `r` writes slot `r`.
#[derive(Debug)]
pub struct DecodeRows {
    pub(super) spans: Vec<RowSpan>,
    pub(super) heads: Heads,
    pub(super) precision: Precision,
    /// Of the rows, `[R, K]`; of all positions for the CubeCL kernel, which looks its rows up.
    pub(super) rotation: Rotation,
    pub(super) path: Path,
}

/// Who computes.
#[derive(Debug)]
pub(super) enum Path {
    /// The kernel of the CPU.
    Host,
    /// The CubeCL kernel, with the spans on the device, `[R, 3]`.
    #[cfg(feature = "cube")]
    Cube(Box<Tensor<2, Int>>),
    /// Burn's operations.
    Portable(Box<Index>),
}

impl DecodeRows {
    /// Rows of a step whose blocks have panels of these shapes. `angles` are those of every position
    /// of a sequence, from the first on.
    ///
    /// # Panics
    /// If a row names columns that are not there.
    pub fn new(
        spans: Vec<RowSpan>,
        angles: &Rotation,
        [prompts, own]: [&KvPanels; 2],
        heads: Heads,
        precision: Precision,
    ) -> Self {
        let [own_slots, ..] = own.keys.dims();
        assert!(spans.len() <= own_slots, "DecodeRows: a slot per row");
        let [prompt_slots, _, _, prompt_columns] = prompts.keys.dims();
        for (row, span) in spans.iter().enumerate() {
            let fits = span.prompt_slot < prompt_slots
                && span.prompt_columns <= prompt_columns
                && (1..=own.num_columns()).contains(&span.own_columns);
            assert!(fits, "DecodeRows: row {row} has {span:?}");
        }
        let path = path(&spans, [prompts, own], heads, precision);
        Self {
            rotation: match path {
                #[cfg(feature = "cube")]
                Path::Cube(_) => angles.clone(),
                Path::Host | Path::Portable(_) => of_rows(angles, &spans),
            },
            path,
            spans,
            heads,
            precision,
        }
    }
}

/// The angles of the last columns, `[R, K]`.
fn of_rows(angles: &Rotation, spans: &[RowSpan]) -> Rotation {
    let position = |span: &RowSpan| span.prompt_columns + span.own_columns - 1;
    let positions = spans.iter().map(position).collect();
    let positions = index(positions, &angles.cos.device());
    Rotation {
        cos: angles.cos.clone().select(0, positions.clone()),
        sin: angles.sin.clone().select(0, positions),
    }
}

fn path(
    spans: &[RowSpan],
    [prompts, own]: [&KvPanels; 2],
    heads: Heads,
    precision: Precision,
) -> Path {
    let device = own.keys.device();
    if precision == Precision::F32 && super::host::has_kernel(own) {
        return Path::Host;
    }
    #[cfg(feature = "cube")]
    if super::cube::has_kernel(&device, heads) {
        let three = |span: &RowSpan| [span.prompt_slot, span.prompt_columns, span.own_columns];
        let places = spans.iter().flat_map(three).collect();
        let places = index(places, &device).reshape([spans.len(), 3]);
        return Path::Cube(Box::new(places));
    }
    Path::Portable(Box::new(Index::new(spans, [prompts, own], heads, &device)))
}
