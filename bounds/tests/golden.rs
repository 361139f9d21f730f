//! Every formula against numbers from an independent implementation.

#![allow(clippy::unwrap_used, reason = "a test panics by design")]

use std::collections::BTreeMap;

use rlvr_bounds::*;
use worlds::{KL_COEF, TAU, Toy};

#[allow(dead_code)]
mod worlds;

const DELTA: f64 = 0.05;

/// The golden numbers of one group; dropping it checks that each was compared.
struct Golden {
    left: BTreeMap<String, f64>,
}

impl Golden {
    fn group(prefix: &str) -> Self {
        let all = rlvr_fixtures::bounds_golden().into_iter();
        let left: BTreeMap<_, _> = all.filter(|(name, _)| name.starts_with(prefix)).collect();
        assert!(!left.is_empty(), "no golden number begins with {prefix}");
        Self { left }
    }

    /// Compares to 1e-9 of the size, far below the digits anyone prints.
    fn is(&mut self, name: &str, value: f64) {
        self.near(name, value, 1e-9);
    }

    fn near(&mut self, name: &str, value: f64, tolerance: f64) {
        let golden = self.left.remove(name);
        let golden = golden.unwrap_or_else(|| panic!("{name} is not golden, or compared twice"));
        let slack = tolerance * golden.abs().max(1.0);
        assert!(
            (value - golden).abs() <= slack,
            "{name}: {value} is not {golden}"
        );
    }

    fn done(self) {
        assert!(
            self.left.is_empty(),
            "never compared: {:?}",
            self.left.keys()
        );
    }
}

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
fn complexity() {
    let mut golden = Golden::group("F5.");
    let one_step = |n, kl| pac_bayes(n, 1, kl, DELTA, 1.0, PacBayesForm::OneStep).unwrap();
    let tiny = fixed_nats(13, 16).unwrap();
    golden.is("F5.one_step.1000", one_step(1000, 10.0));
    golden.is("F5.one_step.7473", one_step(7473, tiny));
    let class = |n, nats, form| finite_class(n, 1, nats, DELTA, 1.0, form).unwrap();
    for bits in [16, 208, 1000, 50000] {
        let nats = prefix_nats(bits).unwrap();
        golden.is(&format!("F5.prefix.{bits}"), nats);
        let term = class(7473, nats, ClassForm::OneStepOneSided);
        golden.is(&format!("F5.one_sided.{bits}"), term);
    }
    for n in [1000, 7473, 50000] {
        let nats = affordable_nats(n, 0.1, DELTA, 1.0).unwrap();
        golden.is(&format!("F5.affordable.{n}"), nats);
    }
    let lora = fixed_nats(100_000, 8).unwrap();
    golden.is("F5.lora_nats", lora);
    golden.is("F5.lora", class(10_000, lora, ClassForm::OneStepOneSided));
    golden.is("F5.tiny_nats", tiny);
    golden.is("F5.tiny_two", class(7473, tiny, ClassForm::OneStep));
    golden.is("F5.tiny_one", class(7473, tiny, ClassForm::OneStepOneSided));
    let radius = (tiny + 20_f64.ln()) / 7473.0;
    golden.is("F5.tiny_radius", radius);
    golden.is("F5.tiny_floor", kl_inv_lower(0.91, radius).unwrap());
    let form = |form| pac_bayes(500, 4, 10.0, DELTA, 1.2, form).unwrap();
    golden.is("F5.P1", form(PacBayesForm::Published));
    golden.is("F5.P2b", form(PacBayesForm::FreshRollouts));
    assert_eq!(
        form(PacBayesForm::SingleDraw),
        form(PacBayesForm::FreshRollouts)
    );
    let shared = PacBayesForm::SharedDraws {
        draws: 20,
        delta_prime: 0.01,
    };
    golden.is("F5.P2c", form(shared));
    let two_root = finite_class(500, 4, 10.0, DELTA, 1.2, ClassForm::TwoRoot).unwrap();
    golden.is("F5.P3b", two_root);
    golden.done();
}

#[test]
fn toy_world() {
    let mut golden = Golden::group("F2.");
    let toy = Toy::new();
    let reference = |at: usize| (toy.policy[at].ln() - toy.l[at]).exp();
    for at in 0..3 {
        golden.near(&format!("F2.rho.{at}"), toy.rho[at], 1e-14);
        golden.near(&format!("F2.policy.{at}"), toy.policy[at], 1e-14);
        golden.near(&format!("F2.old.{at}"), toy.old[at], 1e-14);
        golden.near(&format!("F2.ref.{at}"), reference(at), 1e-14);
    }
    let target = toy.mean(|at| toy.truth[at] - KL_COEF * toy.l[at]);
    let j_phi = toy.mean(|at| toy.score(at));
    golden.is("F2.truth", toy.mean(|at| toy.truth[at]));
    golden.is("F2.j_star", target);
    golden.is("F2.j_phi", j_phi);
    golden.is("F2.gap", j_phi - target);
    golden.is("F2.e", toy.mean(|at| toy.reward[at] - toy.truth[at]));
    let positive = toy.mean(|at| (toy.reward[at] - toy.truth[at]).max(0.0));
    golden.is("F2.positive_e", positive);
    toy_shift(&mut golden, &toy);
    toy_clip(&mut golden, &toy);
    golden.done();
}

fn toy_shift(golden: &mut Golden, toy: &Toy) {
    let e: Vec<f64> = (0..96)
        .map(|at| (toy.reward[at] - toy.truth[at]).abs())
        .collect();
    let abs_e = Distribution::exact(&e, &toy.train).unwrap();
    let lw = Distribution::exact(&toy.lw, &toy.deploy).unwrap();
    let (kl, l2, mean_e) = (lw.mean(), abs_e.mean_of(|e| e * e), abs_e.mean());
    let found = coverage(&lw);
    golden.is("F2.chi2", found.chi2);
    golden.is("F2.c", found.c);
    golden.is("F2.l2", l2);
    golden.is("F2.R1", chi_square(&lw, l2).unwrap().value());
    golden.is("F2.abs_e", toy.mean(|at| e[at]));
    golden.is("F2.abs_e_tr", mean_e);
    golden.is("F2.kl_old", kl);
    golden.is("F2.tv", tv_from_logw(&lw));
    golden.is("F2.R2", hockey_stick_bound(&lw, mean_e, &[1.0]).unwrap().0);
    golden.is("F2.second", kl_inv_upper(mean_e, kl).unwrap());
    golden.is("F2.R5", kl_dpi(mean_e, kl).unwrap().value());
    let donsker = donsker_varadhan(kl, &abs_e).unwrap();
    golden.is("F2.R6", donsker.value());
    golden.near("F2.R6_lam", donsker.inputs()[1].value, 1e-6);
    golden.is("F2.max_w", lw.max().exp());
    for c in [1, 2, 3, 4, 6, 8] {
        let value = f64::from(c);
        golden.is(&format!("F2.tail.{c}"), hockey_stick(&lw, value).unwrap());
        golden.is(
            &format!("F2.moment.{c}"),
            clipped_moment(&lw, value).unwrap(),
        );
        let bound = clipped_chi2(&lw, l2, &[value]).unwrap().0;
        golden.is(&format!("F2.R4.{c}"), bound);
    }
}

fn toy_clip(golden: &mut Golden, toy: &Toy) {
    let l = Distribution::exact(&toy.l, &toy.deploy).unwrap();
    let found = tail(&l, TAU).unwrap();
    golden.is("F2.kl_ref", l.mean());
    golden.is("F2.clip", found.abs);
    golden.is("F2.up", found.up);
    golden.is("F2.down", found.down);
    golden.is(
        "F2.max_l",
        l.mean_of(|_| toy.l.iter().fold(0.0, |top, l| l.abs().max(top))),
    );
    golden.is("F2.k2", l.mean_of(k2));
    golden.is("F2.k3", l.mean_of(k3));
    golden.is("F2.inverse", l.mean_of(|l| (-l).exp()));
    let mean = toy.mean(|at| toy.score(at));
    let inner: Vec<f64> = (0..96).map(|at| toy.deploy[at] * toy.score(at)).collect();
    let means: Vec<f64> = inner
        .chunks(8)
        .zip(&toy.rho)
        .map(|(row, rho)| row.iter().sum::<f64>() / rho)
        .collect();
    let between = Distribution::exact(&means, &toy.rho)
        .unwrap()
        .variance_of(|v| v);
    golden.is("F2.sigma_p2", between);
    let square = toy.mean(|at| (toy.score(at) - mean).powi(2));
    golden.is("F2.sigma_r2", square - between);
    let range = Range::clipped(KL_COEF, TAU).unwrap();
    let (s1, s2) = (
        hoeffding_paper(200, 4, DELTA, range.length()).unwrap(),
        hoeffding_direct(200, DELTA, range.length()).unwrap(),
    );
    golden.is("F2.S1", s1);
    golden.is("F2.S2", s2);
    let scores: Vec<f64> = (0..800).map(|draw| toy.score(draw % 96)).collect();
    let sample = Sample::held_out(Rows::new(&scores, 4).unwrap());
    let (lw, e): (_, Vec<f64>) = (
        Distribution::exact(&toy.lw, &toy.deploy).unwrap(),
        (0..96)
            .map(|at| (toy.reward[at] - toy.truth[at]).powi(2))
            .collect(),
    );
    let l2 = Distribution::exact(&e, &toy.train).unwrap().mean();
    for (name, rate) in [
        ("F2.total", Rate::Published),
        ("F2.total_direct", Rate::Direct),
    ] {
        let shift = chi_square(&lw, l2).unwrap();
        let clip = clip_term(KL_COEF, found.abs).unwrap();
        let found = theorem1(&sample, range, shift, clip, DELTA, rate).unwrap();
        golden.is(name, found.total.value());
        assert_eq!(found.total.standing(), Standing::PlugIn);
        assert_eq!(found.total.delta(), DELTA);
    }
    let alpha = hoeffding_paper(200, 4, DELTA, 1.0).unwrap();
    let alpha1 = hoeffding_direct(200, DELTA, 1.0).unwrap();
    golden.is("F2.alpha", alpha);
    golden.is("F2.alpha1", alpha1);
    let h = |tau, alpha| clip_objective(&l, tau, alpha, KL_COEF).unwrap();
    let (star, star1) = (tau_star(&l, alpha).unwrap(), tau_star(&l, alpha1).unwrap());
    golden.is("F2.tau_star", star);
    golden.is("F2.h_star", h(star, alpha));
    golden.is("F2.h1", h(1.0, alpha));
    golden.is("F2.h0", h(0.0, alpha));
    golden.is(
        "F2.h_max",
        h(toy.l.iter().fold(0.0, |top, l| l.abs().max(top)), alpha),
    );
    golden.is("F2.tau_star1", star1);
    golden.is("F2.h_star1", h(star1, alpha1));
    let ends = tau_star_asym(&l, alpha).unwrap();
    golden.is("F2.a_lo", ends.0);
    golden.is("F2.a_hi", ends.1);
    golden.is(
        "F2.h_asym",
        clip_objective_asym(&l, ends, alpha, KL_COEF).unwrap(),
    );
}

/// `N(k, 2k)` on a grid: values and weights.
fn gaussian(k: f64) -> (Vec<f64>, Vec<f64>) {
    let z = (0..=200_000).map(|i| f64::from(i) * 9e-5 - 9.0);
    let density: Vec<f64> = z.clone().map(|z| (-z * z / 2.0).exp()).collect();
    let total: f64 = density.iter().sum();
    let values = z.map(|z| k + (2.0 * k).sqrt() * z).collect();
    (values, density.into_iter().map(|p| p / total).collect())
}

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

#[test]
fn diffusion() {
    let mut golden = Golden::group("F10.");
    let (a, c) = ([2.0, 0.5, 0.5, 1.0], [1.0, 0.3, 0.3, 0.5]);
    let sigma = lyapunov(&a, &c, 0.05 / 4.0).unwrap();
    let discrete = lyapunov_discrete(&a, &c, 0.05, 4.0).unwrap();
    for (at, index) in [("00", 0), ("01", 1), ("11", 3)] {
        golden.near(&format!("F10.sigma.{at}"), sigma[index], 1e-14);
        golden.near(&format!("F10.discrete.{at}"), discrete[index], 1e-14);
    }
    golden.near("F10.trace", sigma[0] + sigma[3], 1e-14);
    golden.is(
        "F10.log_det",
        (sigma[0] * sigma[3] - sigma[1] * sigma[2]).ln(),
    );
    let shift = [0.4, -0.3];
    let kl = gauss_kl(&sigma, &shift, 0.25).unwrap();
    let best = gauss_best_s2(&sigma, &shift).unwrap();
    golden.is("F10.kl", kl);
    golden.is("F10.best_s2", best);
    golden.is("F10.best_kl", gauss_kl(&sigma, &shift, best).unwrap());
    let width = pac_bayes(500, 1, kl, DELTA, 1.2, PacBayesForm::OneStep).unwrap();
    golden.is("F10.one_step", width);
    let ratio = gauss_log_ratio(&sigma, &shift, 0.25, &[0.42, -0.25]).unwrap();
    golden.is("F10.log_ratio", ratio);
    golden.is(
        "F10.kl_standard",
        gauss_kl(&sigma, &[0.0, 0.0], 1.0).unwrap(),
    );
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
