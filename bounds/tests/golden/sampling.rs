//! Sampling: half-widths, inverses, intervals, variance components.

use rlvr_bounds::*;

use super::{DELTA, Golden};

#[test]
fn sampling_half_widths() {
    let mut golden = Golden::group("F1.");
    for (n, k) in [(200, 1), (200, 8), (1000, 8), (7473, 16)] {
        let var = 0.08 + 0.16 / k as f64;
        let at = |method: &str| format!("F1.{n}.{k}.{method}");
        golden.is(&at("S1"), hoeffding_paper(n, k, DELTA, 1.0).unwrap());
        golden.is(&at("S2"), hoeffding_direct(n, DELTA, 1.0).unwrap());
        golden.is(&at("S3"), emp_bernstein(n, var, DELTA, 1.0).unwrap());
        golden.is(&at("S6"), 1.96 * (var / n as f64).sqrt());
    }
    golden.done();
}

#[test]
fn scalars_and_inverses() {
    let mut golden = Golden::group("F3.");
    golden.is("F3.paper", hoeffding_paper(1000, 8, DELTA, 1.0).unwrap());
    golden.is("F3.direct", hoeffding_direct(1000, DELTA, 1.0).unwrap());
    golden.is("F3.paper_b", hoeffding_paper(1000, 8, DELTA, 1.4).unwrap());
    golden.is("F3.direct_b", hoeffding_direct(1000, DELTA, 1.4).unwrap());
    golden.is(
        "F3.bernstein",
        emp_bernstein(1000, 0.02, DELTA, 1.0).unwrap(),
    );
    golden.is("F3.kl", kl_bernoulli(0.1, 0.3).unwrap());
    for (name, q, c) in [
        (".1", 0.1, 0.05),
        (".5", 0.5, 0.02),
        ("0", 0.0, 0.01),
        (".9", 0.9, 0.003),
        ("1", 1.0, 0.01),
    ] {
        golden.is(&format!("F3.up.{name}"), kl_inv_upper(q, c).unwrap());
        golden.is(&format!("F3.lo.{name}"), kl_inv_lower(q, c).unwrap());
    }
    golden.done();
    let mut golden = Golden::group("F4.");
    for n in [1, 2, 3, 5, 8, 20, 100] {
        let value = xi(n).unwrap();
        golden.is(&format!("F4.xi.{n}"), value);
        assert!(value <= 2.0 * (n as f64).sqrt() + 1e-12);
    }
    golden.done();
}

#[test]
fn variance_components() {
    let mut golden = Golden::group("F11.");
    for name in ["a", "b"] {
        let value = |i: usize, k: usize| {
            let threshold = if name == "a" { 1 + i % 6 } else { 3 };
            f64::from(u8::from((5 * i + 3 * k) % 7 < threshold))
        };
        let data: Vec<f64> = (0..120).map(|at| value(at / 4, at % 4)).collect();
        let rows = Rows::new(&data, 4).unwrap();
        let found = anova(rows).unwrap();
        golden.is(&format!("F11.{name}.mean"), found.mean);
        golden.is(&format!("F11.{name}.msw"), found.msw);
        golden.is(&format!("F11.{name}.msb"), found.msb);
        golden.is(&format!("F11.{name}.sigma_p2"), found.sigma_p2);
        golden.is(&format!("F11.{name}.var_f"), found.var_f);
        if name == "a" {
            let held_out = Sample::held_out(rows);
            let bound = certify_fixed(&held_out, Range::UNIT, DELTA, Method::Eb).unwrap();
            golden.is("F11.a.bernstein", bound.value());
            assert!(bound.is_vacuous(), "it covers all of [0, 1]");
            golden.is("F11.a.t", t_interval(&rows.means(), 0.95).unwrap().1);
        }
    }
    for freedom in [1, 4, 9, 199] {
        golden.is(
            &format!("F11.t975.{freedom}"),
            t_quantile(freedom, 0.975).unwrap(),
        );
    }
    golden.done();
}

#[test]
fn betting() {
    let mut golden = Golden::group("F12.");
    let x: Vec<f64> = (0..50).map(|i| f64::from(7 * i % 11) / 10.0).collect();
    let (mean, spread) = t_interval(&x, 0.95).unwrap();
    golden.is("F12.mean", mean);
    golden.is(
        "F12.var",
        (spread / t_quantile(49, 0.975).unwrap()).powi(2) * 50.0,
    );
    let (lo, hi) = betting_ci(&x, DELTA).unwrap();
    golden.is("F12.lo", lo);
    golden.is("F12.hi", hi);
    let (lo, hi) = betting_ci_grid(&x, DELTA, 1000).unwrap();
    golden.is("F12.grid_lo", lo);
    golden.is("F12.grid_hi", hi);
    let few: Vec<f64> = (0..12).map(|i| 1.0 - f64::from(5 * i % 7) / 20.0).collect();
    let (lo, hi) = betting_ci(&few, DELTA).unwrap();
    golden.is("F12.few_lo", lo);
    golden.is("F12.few_hi", hi);
    golden.done();
}
