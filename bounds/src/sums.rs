//! Compensated sums, so that identities hold to rounding error.

/// Neumaier's compensated sum.
pub(crate) fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut total, mut lost) = (0.0_f64, 0.0_f64);
    for value in values {
        let next = total + value;
        lost += if total.abs() >= value.abs() {
            (total - next) + value
        } else {
            (value - next) + total
        };
        total = next;
    }
    total + lost
}

/// Arithmetic mean; the slice is not empty.
pub(crate) fn mean(values: &[f64]) -> f64 {
    sum(values.iter().copied()) / values.len() as f64
}

/// Sample variance with divisor n - 1; at least two values.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let centre = mean(values);
    sum(values
        .iter()
        .map(|value| (value - centre) * (value - centre)))
        / (values.len() as f64 - 1.0)
}
