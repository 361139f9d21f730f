//! The innermost product of decoding: a few rows of factors with a strip of columns.

/// `sums[row][column] + sum_i factors[row][i] * panel[i * stride + column]` for each row and the
/// first `LANES` columns. Each sum runs front to back in one accumulator, so its bits do not depend on how rows
/// and columns are cut into tiles.
///
/// # Panics
/// If the factors differ in length, or the panel is shorter than they ask for.
#[inline(always)]
pub(super) fn tile<const ROWS: usize, const LANES: usize>(
    mut sums: [[f32; LANES]; ROWS],
    factors: [&[f32]; ROWS],
    panel: &[f32],
    stride: usize,
) -> [[f32; LANES]; ROWS] {
    let Some(count) = factors.first().map(|row| row.len()) else {
        return sums;
    };
    // Known before the loop, the lengths need no check within it.
    let mut rows = factors;
    for row in &mut rows {
        *row = &row[..count];
    }
    let mut rest = panel;
    #[expect(
        clippy::needless_range_loop,
        reason = "counts to the length that all rows were cut to, and so checks no index"
    )]
    for inner in 0..count {
        let Some(column) = rest.first_chunk::<LANES>() else {
            panic!("tile: the panel ends after {inner} of {count} terms");
        };
        for row in 0..ROWS {
            let factor = rows[row][inner];
            for lane in 0..LANES {
                sums[row][lane] = factor.mul_add(column[lane], sums[row][lane]);
            }
        }
        rest = rest.get(stride..).unwrap_or_default();
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_a_product() {
        let factors = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let panel: Vec<f32> = (0..17).map(|value| value as f32).collect();
        let start = [[0.5; 3], [-2.0; 3]];
        let found = tile::<2, 3>(start, [&factors[0], &factors[1]], &panel, 7);
        for ((sums, factors), start) in found.iter().zip(&factors).zip(start) {
            for (column, sum) in sums.iter().enumerate() {
                let terms = factors.iter().enumerate();
                let terms = terms.map(|(i, factor)| factor * panel[i * 7 + column]);
                assert_eq!(*sum, start[column] + terms.sum::<f32>());
            }
        }
    }

    #[test]
    #[should_panic(expected = "ends after 2 of 3")]
    fn a_short_panel_is_refused() {
        tile::<1, 4>([[0.0; 4]], [&[1.0, 2.0, 3.0]], &[0.0; 17], 7);
    }
}
