//! Matrix products on slices, through the `gemm` crate that the CPU backend itself uses.

use gemm::Parallelism;

/// Multiplications below which a product stays on the calling thread; the CPU backend's own limit.
const THREADED_TERMS: usize = 192 * 192 * 192;

/// A matrix in a slice: element `(r, c)` at `r * row_stride + c * column_stride`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other, `stride` apart.
    pub fn rows(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self {
            values,
            rows,
            columns,
            row_stride: stride,
            column_stride: 1,
        }
    }

    pub fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn is_inside(&self) -> bool {
        is_inside(
            self.values.len(),
            [self.rows, self.columns],
            [self.row_stride, self.column_stride],
        )
    }
}

/// Whether the last element of a matrix lies in a slice of `length`.
fn is_inside(length: usize, [rows, columns]: [usize; 2], strides: [usize; 2]) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * strides[0] + (columns - 1) * strides[1] < length
}

/// `output = scale * a b`, plus what `output` holds if `adds`; rows of `output` are `stride` apart.
/// Runs on the calling thread.
///
/// # Panics
/// If the shapes do not fit or a matrix is longer than its slice.
pub(super) fn product(
    output: &mut [f32],
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    adds: bool,
) {
    into(output, stride, a, b, (scale, adds), Parallelism::None);
}

/// `output += a b` on all threads; rows of `output` lie one after the other.
///
/// # Panics
/// As [`product`].
pub(super) fn add_product(output: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    let threads = threads(a, b);
    into(output, b.columns, a, b, (1.0, true), threads);
}

#[allow(
    unsafe_code,
    reason = "gemm takes pointers; every bound is checked first"
)]
fn into(
    output: &mut [f32],
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    (scale, adds): (f32, bool),
    threads: Parallelism,
) {
    assert_eq!(a.columns, b.rows, "product: inner axes");
    assert!(b.columns <= stride, "product: rows of the output overlap");
    assert!(
        a.is_inside() && b.is_inside() && is_inside(output.len(), [a.rows, b.columns], [stride, 1]),
        "product: a matrix is longer than its slice"
    );
    let target = Target {
        start: output.as_mut_ptr(),
        stride,
        adds,
    };
    // SAFETY: the three matrices lie inside their slices, `output` is borrowed mutably and so
    // overlaps neither operand, and its rows do not overlap each other.
    unsafe { call(target, a, b, scale, threads) }
}

/// `a b` in memory of its own, rows one after the other, on all threads. Nothing is cleared first.
///
/// # Panics
/// If the inner axes differ or a matrix is longer than its slice.
#[allow(
    unsafe_code,
    reason = "gemm fills memory that is not initialised; every bound is checked first"
)]
pub(super) fn fresh_product(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    assert_eq!(a.columns, b.rows, "product: inner axes");
    assert!(
        a.is_inside() && b.is_inside(),
        "product: a matrix is longer than its slice"
    );
    let length = a.rows * b.columns;
    if a.columns == 0 {
        return vec![0.0; length];
    }
    let mut output = Vec::with_capacity(length);
    let target = Target {
        start: output.as_mut_ptr(),
        stride: b.columns,
        adds: false,
    };
    // SAFETY: both operands lie inside their slices, the allocation holds `length` values and is
    // new, so overlaps neither, and gemm writes each of them without reading it.
    unsafe {
        call(target, a, b, 1.0, threads(a, b));
        output.set_len(length);
    }
    output
}

fn threads(a: Matrix<'_>, b: Matrix<'_>) -> Parallelism {
    let terms = a.rows.saturating_mul(a.columns).saturating_mul(b.columns);
    match terms < THREADED_TERMS {
        true => Parallelism::None,
        false => Parallelism::Rayon(0),
    }
}

/// Where a product goes.
struct Target {
    start: *mut f32,
    stride: usize,
    /// Whether what stands there is added to.
    adds: bool,
}

/// # Safety
/// Both operands lie inside their slices; `a.rows` rows of `b.columns` values, `stride` apart, can
/// be written from `start` on, overlap nothing, and are initialised if they are added to.
#[allow(unsafe_code, reason = "gemm takes pointers")]
unsafe fn call(target: Target, a: Matrix<'_>, b: Matrix<'_>, scale: f32, threads: Parallelism) {
    let column = |matrix: &Matrix<'_>| matrix.column_stride as isize;
    let row = |matrix: &Matrix<'_>| matrix.row_stride as isize;
    // SAFETY: as the caller promises.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            target.start,
            1,
            target.stride as isize,
            target.adds,
            a.values.as_ptr(),
            column(&a),
            row(&a),
            b.values.as_ptr(),
            column(&b),
            row(&b),
            1.0,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_scaled_added_and_strided() {
        let a = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0];
        let b = [5.0, 6.0, 7.0, 8.0];
        let (a, b) = (Matrix::rows(&a, 2, 2, 3), Matrix::rows(&b, 2, 2, 2));
        let mut output = [1.0; 6];
        product(&mut output, 3, a, b, 2.0, true);
        assert_eq!(output, [39.0, 45.0, 1.0, 87.0, 101.0, 1.0]);
        product(&mut output, 3, a.transposed(), b, 1.0, false);
        assert_eq!(output, [26.0, 30.0, 1.0, 38.0, 44.0, 1.0]);
    }

    #[test]
    fn a_fresh_product_is_whole_whatever_its_inner_axis() {
        for inner in [0, 1, 2, 300] {
            let values = vec![1.0; 200 * inner];
            let left = Matrix::rows(&values, 200, inner, inner);
            let right = Matrix::rows(&values, inner, 200, 200);
            assert_eq!(fresh_product(left, right), vec![inner as f32; 200 * 200]);
        }
    }

    #[test]
    #[should_panic(expected = "longer than its slice")]
    fn a_matrix_longer_than_its_slice_is_refused() {
        let short = [0.0; 3];
        let matrix = Matrix::rows(&short, 2, 2, 2);
        product(&mut [0.0; 4], 2, matrix, matrix, 1.0, false);
    }
}
