//! Tiles in shared memory, and which of them a tile of rows sees.

use cubecl::prelude::*;

use crate::kernels::cube::tensor_cores::{LANES, PIECE, Piece, pieces};

/// Planes of a cube.
pub(super) const PLANES: u32 = 4;

/// Rows of a plane.
pub(super) const PLANE_ROWS: usize = 16;

/// Rows of a cube.
pub(super) const TILE: usize = PLANES as usize * PLANE_ROWS;

/// Below every score.
pub(super) const LEAST: f32 = -1e30;

/// All units of a cube.
pub(super) fn cube_dim() -> CubeDim {
    CubeDim::new_2d(LANES, PLANES)
}

/// What a row sees besides what lies behind `own`, up to itself.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Seen {
    pub(super) own: usize,
    pub(super) prompt: usize,
    pub(super) prompt_end: usize,
}

/// What row `place` sees; behind the last row nothing.
#[cube]
pub(super) fn seen<I: Int>(rows: &Tensor<I>, place: usize) -> Seen {
    let mut own = usize::new(0x7fff_ffff);
    let mut prompt = usize::new(0);
    let mut prompt_end = usize::new(0);
    if place < rows.shape(0) {
        let start = place * rows.stride(0);
        own = u32::cast_from(rows[start]) as usize;
        prompt = u32::cast_from(rows[start + 1]) as usize;
        prompt_end = u32::cast_from(rows[start + 2]) as usize;
    }
    Seen {
        own,
        prompt,
        prompt_end,
    }
}

/// Whether the row at `query`, which sees `seen`, sees the one at `key`.
#[cube]
pub(super) fn sees(seen: &Seen, query: usize, key: usize) -> bool {
    key <= query && (key >= seen.own || (key >= seen.prompt && key < seen.prompt_end))
}

/// Copies `rows` rows from `first` on, a head of each, into a tile; the last row for those behind it, which
/// nobody sees.
#[cube]
pub(super) fn load(
    x: &Tensor<Piece>,
    tile: &mut Shared<[Piece]>,
    first: usize,
    column: usize,
    #[comptime] rows: usize,
    #[comptime] width: usize,
) {
    let width = comptime!(pieces(width));
    let start = column / PIECE;
    let stride = x.stride(0) / PIECE;
    let mut place = UNIT_POS as usize;
    while place < comptime!(rows * width) {
        let (row, inner) = (place / width, place % width);
        let from = min(first + row, x.shape(0) - 1);
        tile[row * comptime!(width + 1) + inner] = x[from * stride + start + inner];
        place += comptime!((LANES * PLANES) as usize);
    }
}

/// Tiles of `inner` rows that hold all that a tile of a cube sees, one after the other.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Walk {
    prompt: usize,
    num_prompt: usize,
    own: usize,
    pub(super) count: usize,
}

/// Those of the cube's tile, whose rows end at `end`.
#[cube]
pub(super) fn walk<I: Int>(
    tiles: &Tensor<I>,
    tile: usize,
    end: usize,
    #[comptime] inner: usize,
) -> Walk {
    let start = tile * tiles.stride(0);
    let first = u32::cast_from(tiles[start]) as usize;
    let prompt_end = u32::cast_from(tiles[start + 1]) as usize;
    let own = u32::cast_from(tiles[start + 2]) as usize;
    let prompt = first / inner;
    let behind_prompt = prompt_end.div_ceil(inner);
    // One tile may hold the end of the prompt and the first own row.
    let own = max(own / inner, behind_prompt);
    let behind_own = end.div_ceil(inner);
    let num_prompt = behind_prompt - prompt;
    Walk {
        prompt,
        num_prompt,
        own,
        count: num_prompt + behind_own - own,
    }
}

/// First row of one of the tiles.
#[cube]
pub(super) fn at(walk: &Walk, index: usize, #[comptime] inner: usize) -> usize {
    let mut tile = walk.prompt + index;
    if index >= walk.num_prompt {
        tile = walk.own + index - walk.num_prompt;
    }
    tile * inner
}
