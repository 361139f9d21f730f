//! Means over seeds with t-intervals, and readings of curves.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Fewest seeds for an interval.
pub const MIN_SEEDS: usize = 3;

/// A mean over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its 95 % t-interval; none with fewer than three seeds.
    pub interval: Option<(f64, f64)>,
    /// Seeds.
    pub count: usize,
}

/// The mean of some values with its 95 % interval: Student's t (1908) with `count - 1` degrees of
/// freedom. `None` without values.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let count = values.len();
    if count == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count as f64;
    let interval = (count >= MIN_SEEDS).then(|| {
        let spread: f64 = values.iter().map(|it| (it - mean).powi(2)).sum();
        let deviation = (spread / (count as f64 - 1.0)).sqrt();
        let half = t_quantile(count - 1) * deviation / (count as f64).sqrt();
        (mean - half, mean + half)
    });
    Some(Estimate {
        mean,
        interval,
        count,
    })
}

/// Two-sided 95 % quantile of the t distribution.
fn t_quantile(degrees: usize) -> f64 {
    let distribution = StudentsT::new(0.0, 1.0, degrees as f64);
    distribution.map_or(f64::INFINITY, |it| it.inverse_cdf(0.975))
}

/// Geometric mean of ratios with the t-interval of their logarithms.
pub fn ratio_estimate(ratios: &[f64]) -> Option<Estimate> {
    let logs: Vec<f64> = ratios.iter().map(|it| it.ln()).collect();
    estimate(&logs).map(|it| Estimate {
        mean: it.mean.exp(),
        interval: it.interval.map(|(low, high)| (low.exp(), high.exp())),
        count: it.count,
    })
}

/// The value of a curve at `x`, linear between its points; none outside them. Points are by
/// ascending x.
pub fn interpolate(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = points.iter().position(|point| point.0 >= x)?;
    let (x1, y1) = points[after];
    if x1 == x {
        return Some(y1);
    }
    let (x0, y0) = points[after.checked_sub(1)?];
    Some(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
}

/// The x at which a curve first reaches `level`, linear between its points; none if it never does.
pub fn reach(points: &[(f64, f64)], level: f64) -> Option<f64> {
    let after = points.iter().position(|point| point.1 >= level)?;
    let (x1, y1) = points[after];
    let Some((x0, y0)) = after.checked_sub(1).map(|before| points[before]) else {
        return Some(x1);
    };
    Some(x0 + (x1 - x0) * (level - y0) / (y1 - y0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_students() {
        let found = estimate(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let (low, high) = found.interval.unwrap();
        // t(0.975, 4) = 2.776445, standard error sqrt(2.5 / 5).
        let half = 2.776_445_105 * 0.5_f64.sqrt();
        assert!((low - (3.0 - half)).abs() < 1e-6 && (high - (3.0 + half)).abs() < 1e-6);
        assert_eq!(estimate(&[1.0, 2.0]).unwrap().interval, None);
        assert_eq!(estimate(&[]), None);
    }

    #[test]
    fn ratios_are_averaged_by_their_logarithms() {
        let found = ratio_estimate(&[0.5, 2.0, 1.0]).unwrap();
        let (low, high) = found.interval.unwrap();
        assert!((found.mean - 1.0).abs() < 1e-12);
        assert!((low * high - 1.0).abs() < 1e-9 && low < 1.0);
    }

    #[test]
    fn curves_are_read_between_their_points() {
        let points = [(0.0, 0.1), (10.0, 0.3), (20.0, 0.2), (30.0, 0.6)];
        assert!((interpolate(&points, 5.0).unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(interpolate(&points, 30.0), Some(0.6));
        assert_eq!(interpolate(&points, 31.0), None);
        assert_eq!(interpolate(&points, -1.0), None);
        assert!((reach(&points, 0.2).unwrap() - 5.0).abs() < 1e-12);
        assert!((reach(&points, 0.4).unwrap() - 25.0).abs() < 1e-12);
        assert_eq!(reach(&points, 0.05), Some(0.0));
        assert_eq!(reach(&points, 0.7), None);
    }
}
