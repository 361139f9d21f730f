//! Dense symmetric matrices and their eigenvectors by Jacobi rotations.

use alloc::vec;
use alloc::vec::Vec;

use libm::{hypot, sqrt};

use crate::error::{BoundsError, Result, check_finite};
use crate::sums::sum;

/// Far more than any matrix needs; convergence is quadratic.
const MAX_SWEEPS: usize = 64;

/// A square matrix, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub data: Vec<f64>,
    pub size: usize,
}

/// Eigenvalues, and eigenvectors as columns.
pub(crate) struct Eigen {
    pub values: Vec<f64>,
    pub vectors: Matrix,
}

impl Matrix {
    /// A symmetric matrix from its entries.
    pub fn symmetric(name: &'static str, data: &[f64]) -> Result<Self> {
        check_finite(name, data)?;
        let size = (1..=data.len()).find(|size| size * size >= data.len());
        let size = size.unwrap_or(0);
        if size * size != data.len() {
            return Err(BoundsError::Shape("a matrix is not square"));
        }
        let data = data.to_vec();
        let matrix = Self { data, size };
        let scale = matrix.data.iter().fold(0.0_f64, |top, v| top.max(v.abs()));
        let is_symmetric = (0..size)
            .all(|i| (0..i).all(|j| (matrix.at(i, j) - matrix.at(j, i)).abs() <= 1e-12 * scale));
        if is_symmetric {
            Ok(matrix)
        } else {
            Err(BoundsError::Shape("a matrix is not symmetric"))
        }
    }

    fn identity(size: usize) -> Self {
        let mut data = vec![0.0; size * size];
        (0..size).for_each(|index| data[index * size + index] = 1.0);
        Self { data, size }
    }

    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.data[row * self.size + column]
    }

    fn set(&mut self, row: usize, column: usize, value: f64) {
        self.data[row * self.size + column] = value;
    }

    pub fn transposed(&self) -> Self {
        self.map(|row, column, _| self.at(column, row))
    }

    /// A matrix of the same size from row, column and old entry.
    pub fn map(&self, entry: impl Fn(usize, usize, f64) -> f64) -> Self {
        let size = self.size;
        let entries = (0..size * size).map(|at| entry(at / size, at % size, self.data[at]));
        Self {
            data: entries.collect(),
            size,
        }
    }

    /// `v self v^T`.
    pub fn congruence(&self, v: &Self) -> Self {
        let half = self.map(|i, j, _| sum((0..self.size).map(|k| v.at(i, k) * self.at(k, j))));
        half.map(|i, j, _| sum((0..self.size).map(|k| half.at(i, k) * v.at(j, k))))
    }

    /// One rotation in the plane of `p` and `q`, from both sides, and its effect on `vectors`.
    fn rotate(&mut self, vectors: &mut Self, p: usize, q: usize) {
        let off = self.at(p, q);
        if off == 0.0 {
            return;
        }
        let slope = (self.at(q, q) - self.at(p, p)) / (2.0 * off);
        let tangent = slope.signum() / (slope.abs() + hypot(slope, 1.0));
        let cosine = 1.0 / sqrt(tangent * tangent + 1.0);
        let sine = tangent * cosine;
        for k in 0..self.size {
            let (kp, kq) = (self.at(k, p), self.at(k, q));
            self.set(k, p, cosine * kp - sine * kq);
            self.set(k, q, sine * kp + cosine * kq);
        }
        for k in 0..self.size {
            let (pk, qk) = (self.at(p, k), self.at(q, k));
            self.set(p, k, cosine * pk - sine * qk);
            self.set(q, k, sine * pk + cosine * qk);
            let (kp, kq) = (vectors.at(k, p), vectors.at(k, q));
            vectors.set(k, p, cosine * kp - sine * kq);
            vectors.set(k, q, sine * kp + cosine * kq);
        }
    }
}

/// Eigenvalues and eigenvectors of a symmetric matrix.
pub(crate) fn eigen(matrix: &Matrix) -> Eigen {
    let mut work = matrix.clone();
    let size = work.size;
    let mut vectors = Matrix::identity(size);
    let scale = sum(work.data.iter().map(|value| value * value));
    for _ in 0..MAX_SWEEPS {
        let pairs = || (0..size).flat_map(move |p| (p + 1..size).map(move |q| (p, q)));
        let off = sum(pairs().map(|(p, q)| work.at(p, q) * work.at(p, q)));
        if off <= 1e-40 * scale {
            break;
        }
        pairs().for_each(|(p, q)| work.rotate(&mut vectors, p, q));
    }
    let values = (0..size).map(|index| work.at(index, index)).collect();
    Eigen { values, vectors }
}
