//! How far apart the rows of a tensor lie in a device's memory.

use crate::kind::BackendKind;

/// Multiple at which rows start on CUDA: `mem_alignment` of cubecl-cuda 0.11.3 (`src/runtime.rs`),
/// which is what `cudaMallocPitch` takes.
const CUDA_ALIGNMENT: u64 = 512;

/// Least multiple at which rows start where they are aligned at all: `optimal_align` of
/// cubecl-runtime 0.11.3 (`src/memory_management/handle.rs`).
const LEAST_ALIGNMENT: u64 = 16;

/// Where a backend starts the rows of a tensor, the runs of its last axis.
///
/// CubeCL aligns the rows of what it makes a tensor for: data that is written to the device, and
/// results of products and of most operations (`empty_tensor`, under `PitchedMemoryLayoutPolicy` of
/// cubecl-server 0.11.3, `src/allocator.rs`). Results of operations that Burn fuses, and copies that
/// only make a tensor contiguous, have no gaps. So a size with gaps is an upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLayout {
    /// Bytes; 1 where row follows on row.
    alignment: u64,
}

impl RowLayout {
    /// Row after row, without gaps.
    pub const DENSE: Self = Self { alignment: 1 };

    /// As devices of `kind` do.
    pub const fn of(kind: BackendKind) -> Self {
        match kind {
            BackendKind::Cuda => Self {
                alignment: CUDA_ALIGNMENT,
            },
            BackendKind::Cpu | BackendKind::Ndarray | BackendKind::Wgpu | BackendKind::Vulkan => {
                Self::DENSE
            }
        }
    }

    /// Bytes from the start of a row to that of the next, for rows of `values` values of
    /// `value_bytes` bytes. Short rows start at multiples of the next power of two.
    pub fn row_bytes(self, values: usize, value_bytes: usize) -> u64 {
        let bytes = (values * value_bytes) as u64;
        let least = LEAST_ALIGNMENT.min(self.alignment);
        let alignment = bytes.next_power_of_two().clamp(least, self.alignment);
        match values {
            // A column of single values is left as it is.
            1 => bytes,
            _ => bytes.next_multiple_of(alignment),
        }
    }

    /// What `bytes` of rows of `values` values take with the gaps between them.
    pub fn with_gaps(self, bytes: u64, values: usize, value_bytes: usize) -> u64 {
        let row = (values * value_bytes).max(1) as u64;
        let apart = self.row_bytes(values, value_bytes).max(1);
        bytes / row * apart + (bytes % row * apart).div_ceil(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_start_at_multiples_of_512_bytes_or_of_a_power_of_two_on_cuda() {
        let cuda = RowLayout::of(BackendKind::Cuda);
        // SmolLM2: 576 values, in bf16 and f32; 1536 fill their rows.
        assert_eq!(cuda.row_bytes(576, 2), 1536);
        assert_eq!(cuda.row_bytes(576, 4), 2560);
        assert_eq!(cuda.row_bytes(1536, 2), 3072);
        assert_eq!(cuda.row_bytes(1536, 4), 6144);
        // Its keys, a head, and less than the least.
        assert_eq!(cuda.row_bytes(192, 2), 512);
        assert_eq!(cuda.row_bytes(64, 2), 128);
        assert_eq!(cuda.row_bytes(33, 4), 256);
        assert_eq!(cuda.row_bytes(3, 4), 16);
        assert_eq!(cuda.row_bytes(1, 4), 4);
        for kind in BackendKind::ALL {
            let is_apart = RowLayout::of(kind).row_bytes(576, 2) > 1152;
            assert_eq!(is_apart, kind == BackendKind::Cuda, "{kind}");
        }
    }

    #[test]
    fn gaps_are_those_of_whole_rows_and_of_a_part() {
        let cuda = RowLayout::of(BackendKind::Cuda);
        assert_eq!(cuda.with_gaps(10 * 1152, 576, 2), 10 * 1536);
        // Half a row: half a gap.
        assert_eq!(cuda.with_gaps(10 * 1152 + 576, 576, 2), 10 * 1536 + 768);
        assert_eq!(cuda.with_gaps(6144, 1536, 4), 6144);
        assert_eq!(cuda.with_gaps(0, 0, 4), 0);
        assert_eq!(RowLayout::DENSE.with_gaps(1001, 576, 2), 1001);
    }
}
