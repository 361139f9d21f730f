//! Reward shift, clipping and estimators under a Gaussian log-ratio; budgets.

use rlvr_bounds::*;

use super::{DELTA, Golden};

#[test]
fn reward_shift_of_a_gaussian_log_ratio() {
    let mut golden = Golden::group("F6.");
    let grid: Vec<f64> = (0..81).map(|i| (f64::from(i) * 0.125).exp()).collect();
    for (k, l2, mean_e) in [
        (".3", ".01", 0.05),
        ("1", ".01", 0.05),
        ("2", ".01", 0.05),
        ("2", ".0004", 0.01),
        ("5", ".01", 0.05),
        ("5", ".0004", 0.01),
    ] {
        let at = |row: &str| format!("F6.{k}.{l2}.{row}");
        let (kl, l2): (f64, f64) = (k.parse().unwrap(), l2.parse().unwrap());
        let (values, weights) = gaussian(kl);
        let lw = Distribution::exact(&values, &weights).unwrap();
        // The grid in z ends at 9 and cuts the tail of the weights off: 7e-3 at KL 5.
        golden.near(&at("R1"), chi_square(&lw, l2).unwrap().value(), 1e-2);
        golden.is(&at("R2"), mean_e + tv_from_logw(&lw));
        golden.is(&at("second"), kl_inv_upper(mean_e, kl).unwrap());
        golden.is(&at("R5"), kl_dpi(mean_e, kl).unwrap().value());
        golden.is(&at("R3"), hockey_stick_bound(&lw, mean_e, &grid).unwrap().0);
        golden.is(&at("R4"), clipped_chi2(&lw, l2, &grid).unwrap().0);
    }
    golden.done();
}

#[test]
fn clipping_a_gaussian_log_ratio() {
    let mut golden = Golden::group("F7.");
    for (kl, n, k) in [
        (1, 1000, 8),
        (2, 1000, 8),
        (2, 10000, 8),
        (5, 1000, 1),
        (2, 100, 4),
    ] {
        let at = |column: &str| format!("F7.{kl}.{n}.{column}");
        let (values, weights) = gaussian(f64::from(kl));
        let l = Distribution::exact(&values, &weights).unwrap();
        let alpha = hoeffding_paper(n, k, DELTA, 1.0).unwrap();
        let h = |tau| clip_objective(&l, tau, alpha, 0.05).unwrap();
        // Quantiles are grid points: 9e-5 standard deviations apart. h is flat there.
        let step = 3e-4;
        let tau = tau_star(&l, alpha).unwrap();
        let ends = tau_star_asym(&l, alpha).unwrap();
        golden.is(&at("alpha"), alpha);
        golden.near(&at("tau_star"), tau, step);
        golden.near(&at("a_hi"), ends.1, step);
        golden.near(&at("minus_a_lo"), -ends.0, step);
        golden.near(&at("h_star"), h(tau), 1e-8);
        golden.near(&at("h10"), h(10.0), 1e-8);
        let asym = clip_objective_asym(&l, ends, alpha, 0.05).unwrap();
        golden.near(&at("h_asym"), asym, 1e-8);
    }
    for (name, kl, tau) in [
        (".5", 0.5, 1.0),
        ("1", 1.0, 2.0),
        ("2", 2.0, 3.0),
        ("5", 5.0, 5.0),
    ] {
        let at = |column: &str| format!("F7.tail.{name}.{column}");
        let (values, weights) = gaussian(kl);
        let found = tail(&Distribution::exact(&values, &weights).unwrap(), tau).unwrap();
        golden.near(&at("up"), found.up, 1e-8);
        golden.near(&at("down"), found.down, 1e-8);
        golden.near(&at("abs"), found.abs, 1e-8);
        golden.near(&at("signed"), found.signed, 1e-8);
        golden.near(&at("exceed"), found.exceed, 5e-5);
        assert!(found.down <= free_lower_tail(tau).unwrap());
    }
    for (kl, tau) in [(1.0, 4.0), (2.0, 6.0)] {
        let found = renyi_tail(|lam| kl * (1.0 + lam), tau).unwrap();
        golden.is(&format!("F7.renyi.{kl}"), found.value);
        golden.near(&format!("F7.renyi_lam.{kl}"), found.lam, 1e-6);
        let (values, weights) = gaussian(kl);
        let up = tail(&Distribution::exact(&values, &weights).unwrap(), tau)
            .unwrap()
            .up;
        golden.near(&format!("F7.renyi_true.{kl}"), up, 1e-8);
        assert!(up <= found.value);
    }
    exponential_tail(&mut golden);
    golden.is("F7.smoothing", smoothing_range(1, 0.01, 256).unwrap());
    golden.done();
}

/// `P(|l| > t) = exp(-t / b)`, by its quantiles at the middles of a million equal parts.
fn exponential_tail(golden: &mut Golden) {
    for (b, alpha) in [(1.0, 0.05), (3.0, 0.02)] {
        let parts = 1_000_000;
        let at = |part: i32| -b * ((f64::from(part) + 0.5) / f64::from(parts)).ln();
        let values: Vec<f64> = (0..parts).map(at).collect();
        let l = Distribution::sample(&values).unwrap();
        let tau = tau_star(&l, alpha).unwrap();
        golden.near(&format!("F7.exp_tau.{b}"), tau, 2e-5);
        let h = clip_objective(&l, tau, alpha, 0.05).unwrap();
        golden.near(&format!("F7.exp_h.{b}"), h, 1e-6);
    }
}

#[test]
fn kl_estimators() {
    let mut golden = Golden::group("F8.");
    for (name, k) in [(".3", 0.3), ("1", 1.0), ("2", 2.0)] {
        let (values, weights) = gaussian(k);
        let l = Distribution::exact(&values, &weights).unwrap();
        for (label, estimator) in [
            ("k1", Estimator::K1),
            ("k2", Estimator::K2),
            ("k3", Estimator::K3),
        ] {
            let closed = gaussian_moments(k, estimator).unwrap();
            let summed = moments(&l, estimator);
            golden.is(&format!("F8.{label}.{name}"), closed.variance);
            assert!((closed.variance - summed.variance).abs() < 1e-5 * closed.variance);
            assert!((closed.bias - summed.bias).abs() < 1e-8);
        }
    }
    golden.is("F8.crossing", K3_CROSSING);
    for (name, k) in [(".5", 0.5), ("2", 2.0), ("5", 5.0)] {
        let (values, weights) = gaussian(k);
        let l = Distribution::exact(&values, &weights).unwrap();
        let bias = clipped_k1(&l, 3.0).unwrap().bias;
        golden.near(&format!("F8.clip3.{name}"), k + bias, 1e-8);
    }
    for (width, name, k) in [(10.0, "2", 2.0), (10.0, ".5", 0.5), (2.0, "2", 2.0)] {
        let (values, weights) = gaussian(k);
        let l = Distribution::exact(&values, &weights).unwrap();
        let (clip, cap) = (
            clipped_k1(&l, width / 2.0).unwrap(),
            capped_k3(&l, width).unwrap(),
        );
        let at = |column: &str| format!("F8.{width}.{name}.{column}");
        // The script's integration over the kink is good to about 1e-6.
        golden.near(&at("clip_bias"), -clip.bias, 1e-8);
        golden.near(&at("clip_var"), clip.variance, 1e-4);
        golden.near(&at("cap_bias"), -cap.bias, 1e-5);
        golden.near(&at("cap_var"), cap.variance, 1e-4);
    }
    golden.done();
}

#[test]
fn empirical_threshold() {
    let mut golden = Golden::group("F13.");
    let l: Vec<f64> = (0..100).map(|i| 0.1 * f64::from(13 * i % 41)).collect();
    let l = Distribution::sample(&l).unwrap();
    let tau = tau_star(&l, 0.1).unwrap();
    golden.is("F13.tau", tau);
    golden.is("F13.h", clip_objective(&l, tau, 0.1, 0.05).unwrap());
    golden.done();
}
#[test]
fn budgets() {
    let mut golden = Golden::group("F9.");
    for (name, r) in [("8", 8.0), ("27", 27.0), ("100", 100.0), ("0.125", 0.125)] {
        let found = k_star_hoeffding(r, 1.0).unwrap();
        golden.is(&format!("F9.A1.{name}.closed"), found.closed);
        golden.is(&format!("F9.A1.{name}.k"), found.k as f64);
        golden.is(&format!("F9.A1.{name}.value"), found.objective);
    }
    let cases = [
        (8.0, 0.1, 0.15),
        (8.0, 0.15, 0.05),
        (1.0, 0.05, 0.2),
        (0.1, 0.1, 0.15),
    ];
    for (index, (r, sp2, sr2)) in cases.into_iter().enumerate() {
        let found = k_star_variance(r, 1.0, sr2, sp2).unwrap();
        golden.is(&format!("F9.A2.{index}.closed"), found.closed);
        golden.is(&format!("F9.A2.{index}.k"), found.k as f64);
        golden.is(&format!("F9.A2.{index}.value"), found.objective);
    }
    let rates = [
        ("A3", PairRate::Bound, 3.0),
        ("A4", PairRate::Error, 3.0),
        ("A5", PairRate::Slow, 0.5),
    ];
    for (name, rate, g) in rates {
        let found = alloc_prompts_pairs(1.2, g, 1.0, 5.0, 1e4, rate).unwrap();
        // A minimum found by comparing values is good to the root of their precision.
        golden.near(&format!("F9.{name}.n"), found.n, 1e-6);
        golden.near(&format!("F9.{name}.m"), found.m, 1e-6);
        golden.is(&format!("F9.{name}.value"), found.value);
    }
    golden.done();
}

/// `N(k, 2k)` on a grid: values and weights.
fn gaussian(k: f64) -> (Vec<f64>, Vec<f64>) {
    let z = (0..=200_000).map(|i| f64::from(i) * 9e-5 - 9.0);
    let density: Vec<f64> = z.clone().map(|z| (-z * z / 2.0).exp()).collect();
    let total: f64 = density.iter().sum();
    let values = z.map(|z| k + (2.0 * k).sqrt() * z).collect();
    (values, density.into_iter().map(|p| p / total).collect())
}
