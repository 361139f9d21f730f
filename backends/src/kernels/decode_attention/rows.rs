//! What the rows of a decode step see, prepared once for all blocks.

use burn::tensor::Device;
#[cfg(feature = "cube")]
use burn::tensor::{Int, Tensor};
use rlvr_core::Precision;

use super::super::decode_state::{DecodeState, Spans};
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
    pub(super) count: usize,
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
    Host(Vec<RowSpan>),
    /// The CubeCL kernel, with the spans on the device, `[R, 3 or more]`.
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
        let count = spans.len();
        let device = own.keys.device();
        let (rotation, path) = if has_spans_on_device(&device, heads) {
            (angles.clone(), Path::on_device(&spans, &device))
        } else if precision == Precision::F32 && super::host::has_kernel(own) {
            (of_rows(angles, &spans), Path::Host(spans))
        } else {
            let index = Index::new(&spans, [prompts, own], heads, &device);
            (of_rows(angles, &spans), Path::Portable(Box::new(index)))
        };
        Self {
            count,
            heads,
            precision,
            rotation,
            path,
        }
    }

    /// Rows of the next step of a state; otherwise as [`DecodeRows::new`], but of spans that stay on
    /// the device nothing is checked.
    ///
    /// # Panics
    /// As [`DecodeRows::new`].
    pub fn of_state(
        state: &DecodeState,
        angles: &Rotation,
        panels: [&KvPanels; 2],
        heads: Heads,
        precision: Precision,
    ) -> Self {
        match state.spans() {
            Spans::Known(spans) => Self::new(spans, angles, panels, heads, precision),
            #[cfg(feature = "cube")]
            Spans::OnDevice(spans) => Self {
                count: spans.dims()[0],
                heads,
                precision,
                rotation: angles.clone(),
                path: Path::Cube(spans),
            },
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

/// True if rows are read from the device, whatever the precision.
pub(in crate::kernels) fn has_spans_on_device(device: &Device, heads: Heads) -> bool {
    #[cfg(feature = "cube")]
    return super::cube::has_kernel(device, heads);
    #[cfg(not(feature = "cube"))]
    {
        let _ = (device, heads);
        false
    }
}

impl Path {
    #[cfg(feature = "cube")]
    fn on_device(spans: &[RowSpan], device: &Device) -> Self {
        let three = |span: &RowSpan| [span.prompt_slot, span.prompt_columns, span.own_columns];
        let places = spans.iter().flat_map(three).collect();
        Self::Cube(Box::new(index(places, device).reshape([spans.len(), 3])))
    }

    #[cfg(not(feature = "cube"))]
    fn on_device(_: &[RowSpan], _: &Device) -> Self {
        unreachable!("`has_spans_on_device` is false")
    }
}
