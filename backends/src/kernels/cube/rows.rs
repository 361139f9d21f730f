//! A cube for each of many rows: one axis of the grid has room for some of them only.

use cubecl::prelude::*;

/// Cubes along one axis.
const MOST_CUBES: usize = 65_535;

/// At least one cube per row.
pub(in crate::kernels) fn cubes_of_rows(rows: usize) -> CubeCount {
    let along = rows.clamp(1, MOST_CUBES);
    CubeCount::Static(along as u32, rows.div_ceil(along) as u32, 1)
}

/// The row of this cube; those behind the last row have none.
#[cube]
pub(in crate::kernels) fn row() -> usize {
    CUBE_POS_Y as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize
}
