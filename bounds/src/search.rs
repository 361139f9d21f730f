//! One-dimensional searches.

/// Enough halvings to reach neighbouring floating-point numbers.
pub(crate) const STEPS: u32 = 200;

/// Halves `[keep, drop]`, where `holds(keep)` and not `holds(drop)`; returns the last pair.
pub(crate) fn bisect(mut keep: f64, mut drop: f64, holds: impl Fn(f64) -> bool) -> (f64, f64) {
    for _ in 0..STEPS {
        let middle = keep + (drop - keep) / 2.0;
        if middle == keep || middle == drop {
            break;
        }
        if holds(middle) {
            keep = middle;
        } else {
            drop = middle;
        }
    }
    (keep, drop)
}

/// Minimiser of a quasi-convex function on `[lo, hi]` by golden section.
pub(crate) fn golden_section(mut lo: f64, mut hi: f64, f: impl Fn(f64) -> f64) -> f64 {
    let shrink = (libm::sqrt(5.0) - 1.0) / 2.0;
    let (mut a, mut b) = (hi - shrink * (hi - lo), lo + shrink * (hi - lo));
    let (mut at_a, mut at_b) = (f(a), f(b));
    for _ in 0..STEPS {
        if at_a <= at_b {
            (hi, b, at_b) = (b, a, at_a);
            a = hi - shrink * (hi - lo);
            at_a = f(a);
        } else {
            (lo, a, at_a) = (a, b, at_b);
            b = lo + shrink * (hi - lo);
            at_b = f(b);
        }
    }
    lo + (hi - lo) / 2.0
}
