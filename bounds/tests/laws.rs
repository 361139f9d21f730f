//! Laws that hold for every input.

#![allow(clippy::unwrap_used, reason = "a test panics by design")]

use proptest::prelude::*;
use rlvr_bounds::*;
use worlds::Uniform;

#[allow(dead_code)]
mod worlds;

/// Two random distributions on the same atoms, from nearly even to nearly all mass on one.
#[derive(Clone, Debug)]
struct Pair {
    p: Vec<f64>,
    q: Vec<f64>,
    e: Vec<f64>,
}

fn pair() -> impl Strategy<Value = Pair> {
    (2..=30_usize, any::<u64>(), -1.0..1.0_f64).prop_map(|(atoms, seed, spread)| {
        let mut uniform = Uniform(seed);
        let sharpness = 10_f64.powf(-spread);
        let mut draw = |_| (1e-9 + uniform.next()).powf(sharpness).max(1e-12);
        let (p, q): (Vec<f64>, Vec<f64>) = (
            (0..atoms).map(&mut draw).collect(),
            (0..atoms).map(&mut draw).collect(),
        );
        let e = (0..atoms).map(|_| uniform.next()).collect();
        let scale = |v: Vec<f64>| {
            let total: f64 = v.iter().sum();
            v.into_iter().map(|x| x / total).collect::<Vec<f64>>()
        };
        let (p, q) = (scale(p), scale(q));
        Pair { p, q, e }
    })
}

impl Pair {
    fn log_ratio(&self) -> Vec<f64> {
        let atoms = self.p.iter().zip(&self.q);
        atoms.map(|(p, q)| (p / q).ln()).collect()
    }
}

fn delta() -> impl Strategy<Value = f64> {
    1e-6..0.999_f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn kl_inverses_invert(q in 0.0..=1.0_f64, c in 0.0..3.0_f64, more in 0.0..1.0_f64) {
        let (up, lo) = (kl_inv_upper(q, c).unwrap(), kl_inv_lower(q, c).unwrap());
        prop_assert!(up >= q && lo <= q);
        if up < 1.0 - 1e-9 {
            prop_assert!((kl_bernoulli(q, up).unwrap() - c).abs() < 1e-6);
        }
        if lo > 1e-9 {
            prop_assert!((kl_bernoulli(q, lo).unwrap() - c).abs() < 1e-6);
        }
        prop_assert!(up <= q + (c / 2.0).sqrt() + 1e-12);
        prop_assert!(lo >= q - (c / 2.0).sqrt() - 1e-12);
        prop_assert!(kl_inv_upper(q, c + more).unwrap() >= up);
        prop_assert!(kl_inv_lower(q, c + more).unwrap() <= lo);
        let first = kl_inv_first_upper(q, c).unwrap();
        prop_assert!(first >= q);
        if first < 1.0 && q > 1e-6 {
            prop_assert!((kl_bernoulli(first, q).unwrap() - c).abs() < 1e-6);
        }
    }

    #[test]
    fn the_direct_form_is_smaller_and_widths_are_monotone(
        n in 2..100_000_usize, k in 1..64_usize, delta in delta(), var in 0.0..0.25_f64,
    ) {
        let (paper, direct) = (
            hoeffding_paper(n, k, delta, 1.0).unwrap(),
            hoeffding_direct(n, delta, 1.0).unwrap(),
        );
        prop_assert!(direct < paper);
        prop_assert!(hoeffding_one_sided(n, delta, 1.0).unwrap() < direct);
        let widths = |n: usize, delta: f64| {
            let bayes = |form| pac_bayes(n, k, 5.0, delta, 1.3, form).unwrap();
            let class = |form| finite_class(n, k, 5.0, delta, 1.3, form).unwrap();
            [
                hoeffding_paper(n, k, delta, 1.3).unwrap(),
                hoeffding_direct(n, delta, 1.3).unwrap(),
                hoeffding_one_sided(n, delta, 1.3).unwrap(),
                emp_bernstein(n, var, delta, 1.3).unwrap(),
                emp_bernstein_one_sided(n, var, delta, 1.3).unwrap(),
                bayes(PacBayesForm::Published),
                bayes(PacBayesForm::OneStep),
                bayes(PacBayesForm::FreshRollouts),
                bayes(PacBayesForm::SingleDraw),
                class(ClassForm::OneStep),
                class(ClassForm::OneStepOneSided),
                class(ClassForm::TwoRoot),
            ]
        };
        let here = widths(n, delta);
        for (more, less) in here.iter().zip(widths(n + 1, delta)) {
            prop_assert!(less < *more, "not smaller with one more prompt");
        }
        for (more, less) in here.iter().zip(widths(n, (delta + 1.0) / 2.0)) {
            prop_assert!(less < *more, "not smaller at a larger delta");
        }
        // The one-step forms are below the two-root forms.
        prop_assert!(here[6] < here[5] && here[9] < here[11]);
    }

    #[test]
    fn the_kl_interval_is_inside_hoeffding(
        q in 0.0..=1.0_f64, n in 1..10_000_usize, delta in delta(),
    ) {
        let range = Range::new(-0.4, 1.4).unwrap();
        let mean = range.lo() + q * range.length();
        let (lo, hi) = kl_interval(mean, n, delta, range).unwrap();
        let width = hoeffding_direct(n, delta, range.length()).unwrap();
        prop_assert!(hi - mean <= width + 1e-9 && mean - lo <= width + 1e-9);
    }

    #[test]
    fn the_lower_tail_is_free(pair in pair(), t in 0.0..5.0_f64) {
        let l = pair.log_ratio();
        let l = Distribution::exact(&l, &pair.p).unwrap();
        let down = tail(&l, t).unwrap().down;
        prop_assert!(down <= free_lower_tail(t).unwrap() + 1e-12);
        prop_assert!(free_lower_tail(t).unwrap() < free_lower_tail_weak(t).unwrap());
        let below = l.mean_of(|l| f64::from(u8::from(l < -t)));
        prop_assert!(below <= (-t).exp() + 1e-12);
    }

    #[test]
    fn every_reward_shift_bound_holds(pair in pair(), lam in 0.01..1.0_f64) {
        let lw = pair.log_ratio();
        let lw = Distribution::exact(&lw, &pair.p).unwrap();
        let abs_e = Distribution::exact(&pair.e, &pair.q).unwrap();
        let truth = Distribution::exact(&pair.e, &pair.p).unwrap().mean();
        let (l2, mean_e, kl) = (abs_e.mean_of(|e| e * e), abs_e.mean(), lw.mean().max(0.0));
        let slack = truth - 1e-9;
        let grid = [1.0, 1.5, 2.0, 4.0, 16.0, 1e3];
        prop_assert!(chi_square(&lw, l2).unwrap().value() >= slack);
        prop_assert!(mean_e + tv_from_logw(&lw) >= slack);
        prop_assert!(hockey_stick_bound(&lw, mean_e, &grid).unwrap().0 >= slack);
        prop_assert!(clipped_chi2(&lw, l2, &grid).unwrap().0 >= slack);
        prop_assert!(kl_dpi(mean_e, kl).unwrap().value() >= slack);
        prop_assert!(donsker_varadhan(kl, &abs_e).unwrap().value() >= slack);
        let found = coverage(&lw);
        prop_assert!(1.0 + found.chi2 >= kl.exp() * (1.0 - 1e-9));
        let wide = lw.max().exp().max(1.0);
        let limit = clipped_chi2(&lw, l2, &[wide]).unwrap().0;
        prop_assert!((limit - found.c * l2.sqrt()).abs() < 1e-9 * found.c);
        let distance: f64 = pair.p.iter().zip(&pair.q).map(|(p, q)| (p - q).abs()).sum();
        prop_assert!((tv_from_logw(&lw) - distance / 2.0).abs() < 1e-9);
        // D_tr refreshed with a share lam of on-policy data.
        let mixed: Vec<f64> = pair.p.iter().zip(&pair.q).map(|(p, q)| lam * p + (1.0 - lam) * q).collect();
        let mixed = Distribution::exact(&pair.e, &mixed).unwrap();
        let l2 = Bound::estimate("L2", mixed.mean_of(|e| e * e)).unwrap();
        let mean_e = Bound::estimate("E|e|", mixed.mean()).unwrap();
        prop_assert!(mixture_refresh(lam, &l2, &mean_e).unwrap().value() >= slack);
    }

    #[test]
    fn the_threshold_minimises_a_convex_bound(
        pair in pair(), alpha in 0.01..0.49_f64, kl_coef in 0.001..1.0_f64,
    ) {
        let l = pair.log_ratio();
        let l = Distribution::exact(&l, &pair.p).unwrap();
        let h = |tau| clip_objective(&l, tau, alpha, kl_coef).unwrap();
        let tau = tau_star(&l, alpha).unwrap();
        let best = h(tau);
        let top = l.max().max(1.0) * 1.5;
        let grid: Vec<f64> = (0..=400).map(|i| h(top * f64::from(i) / 400.0)).collect();
        prop_assert!(grid.iter().all(|&value| value >= best - 1e-9));
        for three in grid.windows(3) {
            prop_assert!(three[0] + three[2] >= 2.0 * three[1] - 1e-9, "not convex");
        }
        // alpha + 2 alpha kl_coef CVaR = alpha + kl_coef (2 alpha tau + E(|l| - tau)_+).
        let over = l.mean_of(|l| (l.abs() - tau).max(0.0));
        let cvar = tau + over / (2.0 * alpha);
        prop_assert!((best - alpha - 2.0 * alpha * kl_coef * cvar).abs() < 1e-9);
        let ends = tau_star_asym(&l, alpha).unwrap();
        let asym = clip_objective_asym(&l, ends, alpha, kl_coef).unwrap();
        prop_assert!(asym <= best + 1e-9);
    }

    #[test]
    fn k1_and_k3_are_unbiased_and_k3_is_never_negative(pair in pair(), l in -30.0..30.0_f64) {
        prop_assert!(k3(l) >= 0.0 && k2(l) >= 0.0);
        let ratios = pair.log_ratio();
        let ratios = Distribution::exact(&ratios, &pair.p).unwrap();
        let logs = |v: &[f64]| v.iter().map(|x| x.ln()).collect::<Vec<f64>>();
        let exact = exact_token_kl(&logs(&pair.p), &logs(&pair.q)).unwrap();
        prop_assert!((ratios.mean() - exact).abs() < 1e-9);
        prop_assert!((ratios.mean_of(k3) - exact).abs() < 1e-6);
        prop_assert!(capped_k3(&ratios, 0.5).unwrap().bias <= 1e-9);
        let clipped = clipped_k1(&ratios, 0.5).unwrap().bias;
        let found = tail(&ratios, 0.5).unwrap();
        prop_assert!((clipped + found.signed).abs() < 1e-9);
    }

    #[test]
    fn the_lyapunov_equation_is_solved(
        size in 1..6_usize, seed in any::<u64>(), eta in 1e-4..0.05_f64, batch in 1.0..64.0_f64,
    ) {
        let mut uniform = Uniform(seed);
        let mut gram = |ridge: f64| {
            let half: Vec<f64> = (0..size * size).map(|_| uniform.next() - 0.5).collect();
            let entry = |i: usize, j: usize| {
                let dot: f64 = (0..size).map(|k| half[i * size + k] * half[j * size + k]).sum();
                dot + if i == j { ridge } else { 0.0 }
            };
            (0..size * size).map(|at| entry(at / size, at % size)).collect::<Vec<f64>>()
        };
        let (a, c) = (gram(0.1), gram(0.01));
        let sigma = lyapunov(&a, &c, eta / batch).unwrap();
        let product = |x: &[f64], y: &[f64], i: usize, j: usize| -> f64 {
            (0..size).map(|k| x[i * size + k] * y[k * size + j]).sum()
        };
        let scale = sigma.iter().fold(0.0_f64, |top, v| top.max(v.abs()));
        for at in 0..size * size {
            let (i, j) = (at / size, at % size);
            let left = product(&a, &sigma, i, j) + product(&sigma, &a, i, j);
            let right = eta / batch * c[at];
            prop_assert!((left - right).abs() < 1e-12 * scale.max(right.abs()).max(1e-3));
            prop_assert!((sigma[at] - sigma[j * size + i]).abs() < 1e-12 * scale);
        }
        let zero = vec![0.0; size];
        prop_assert!(gauss_kl(&sigma, &zero, 1.0).is_ok(), "Sigma is positive definite");
        let best = gauss_best_s2(&sigma, &zero).unwrap();
        let kl = |s2: f64| gauss_kl(&sigma, &zero, s2).unwrap();
        prop_assert!(kl(best) <= kl(best * 1.1) && kl(best) <= kl(best * 0.9));
        // The discrete law tends to the continuous one, at the rate of eta.
        let small = 1e-6;
        let discrete = lyapunov_discrete(&a, &c, small, batch).unwrap();
        let continuous = lyapunov(&a, &c, small / batch).unwrap();
        for (d, s) in discrete.iter().zip(&continuous) {
            let top = continuous.iter().fold(0.0_f64, |top, v| top.max(v.abs()));
            prop_assert!((d - s).abs() < 1e-5 * top);
        }
    }

    #[test]
    fn the_decomposition_is_exact(
        rows in proptest::collection::vec((0.0..=1.0_f64, 0.0..=1.0_f64, -9.0..9.0_f64), 1..200),
        j_hat in -2.0..2.0_f64, tau in 0.0..5.0_f64, kl_coef in 0.0..1.0_f64,
    ) {
        let column = |f: &dyn Fn(&(f64, f64, f64)) -> f64| rows.iter().map(f).collect::<Vec<f64>>();
        let (reward, truth, l) = (column(&|r| r.0), column(&|r| r.1), column(&|r| r.2));
        let scored = Scored { reward: &reward, truth: &truth, log_ratio: &l };
        let found = decompose(j_hat, scored, tau, kl_coef).unwrap();
        prop_assert!(found.residual.abs() < 1e-12);
        let target = truth.iter().zip(&l).map(|(t, l)| t - kl_coef * l).sum::<f64>();
        prop_assert!((found.total - (j_hat - target / rows.len() as f64)).abs() < 1e-12);
    }

    #[test]
    fn the_rollout_rules_are_near_brute_force(
        r in 0.0..400.0_f64, sr2 in 0.0..0.25_f64, sp2 in 0.001..0.25_f64,
    ) {
        let best = |f: &dyn Fn(f64) -> f64| {
            (1..3000).map(f64::from).min_by(|a, b| f(*a).total_cmp(&f(*b))).unwrap()
        };
        let a1 = |k: f64| (r + k) * (1.0 + 1.0 / k.sqrt()).powi(2);
        let found = k_star_hoeffding(r, 1.0).unwrap();
        prop_assert!((found.closed - best(&a1)).abs() <= 1.0);
        prop_assert!(found.objective <= a1(best(&a1)) * (1.0 + 1e-12));
        let a2 = |k: f64| (sp2 + sr2 / k) * (r + k);
        let found = k_star_variance(r, 1.0, sr2, sp2).unwrap();
        prop_assert!((found.closed - best(&a2)).abs() <= 1.0);
        prop_assert!(found.objective <= a2(best(&a2)) * (1.0 + 1e-9));
    }
}

#[test]
fn data_processing_inverts_the_first_argument() {
    // D_tr = (.05, .95), the policy only visits the atom where the reward errs.
    let (mean_e, kl) = (0.05, 20_f64.ln());
    assert_eq!(kl_dpi(mean_e, kl).unwrap().value(), 1.0);
    let second = kl_inv_upper(mean_e, kl).unwrap();
    assert!(
        (second - 0.965_283).abs() < 1e-6,
        "{second} lies below the truth, 1"
    );
}

#[test]
fn other_prompts_are_refused() {
    let rewards = [1.0, 0.0, 1.0, 1.0];
    let rows = Rows::new(&rewards, 2).unwrap();
    for role in [PromptRole::Trained, PromptRole::Selected { candidates: 3 }] {
        let refused = Sample::of_role(rows, role).require_held_out();
        assert!(
            matches!(refused, Err(BoundsError::NotCertifiable(_))),
            "{role:?}"
        );
    }
    let held_out = Sample::of_role(rows, PromptRole::HeldOut).require_held_out();
    for method in Method::ALL {
        let bound = certify_fixed(&held_out.unwrap(), Range::UNIT, 0.05, method).unwrap();
        assert_eq!(bound.standing(), Standing::Certified);
    }
    let selected = Sample::selected(rows, 64);
    let class = |nats| certify_class(&selected, Range::UNIT, nats, 0.05, ClassForm::OneStep);
    assert!(matches!(class(4.0), Err(BoundsError::NotCertifiable(_))));
    assert!(class(64_f64.ln()).is_ok());
}

#[test]
fn an_estimated_posterior_is_never_certified() {
    let rewards = [1.0, 0.0, 1.0, 1.0];
    let sample = Sample::trained(Rows::new(&rewards, 2).unwrap());
    let of = |posterior| {
        let form = PacBayesForm::OneStep;
        certify_pac_bayes(&sample, Range::UNIT, 3.0, 0.05, form, posterior).unwrap()
    };
    assert_eq!(of(Posterior::Estimated).standing(), Standing::ModelBased);
    assert_eq!(of(Posterior::Defined).standing(), Standing::Certified);
}

#[test]
fn a_total_is_worth_its_weakest_part() {
    let zero = Bound::zero("R0");
    let guess = Bound::estimate("C1", 0.2).unwrap();
    let rewards = vec![1.0; 400];
    let sample = Sample::held_out(Rows::new(&rewards, 1).unwrap());
    let sampling = certify_fixed(&sample, Range::UNIT, 0.05, Method::Direct).unwrap();
    let verifiable = Bound::total("T1", &[&sampling, &zero], 1.0).unwrap();
    assert_eq!(verifiable.standing(), Standing::Certified);
    assert_eq!(
        (verifiable.delta(), verifiable.value()),
        (0.05, sampling.value())
    );
    let learned = Bound::total("T1", &[&sampling, &guess], 1.0).unwrap();
    assert_eq!(learned.standing(), Standing::PlugIn);
    assert!((learned.value() - sampling.value() - 0.2).abs() < 1e-15);
}

#[test]
fn bad_input_is_named() {
    let text = |error: BoundsError| error.to_string();
    assert_eq!(
        text(hoeffding_paper(0, 1, 0.05, 1.0).unwrap_err()),
        "n: 0 given, at least 1 needed"
    );
    assert_eq!(
        text(hoeffding_paper(1, 0, 0.05, 1.0).unwrap_err()),
        "k: 0 given, at least 1 needed"
    );
    for delta in [0.0, 1.0, -0.1, 2.0] {
        let error = hoeffding_direct(10, delta, 1.0).unwrap_err();
        assert_eq!(text(error), "delta must be above 0 and below 1");
    }
    assert_eq!(
        text(hoeffding_direct(10, f64::NAN, 1.0).unwrap_err()),
        "delta holds a value that is not finite"
    );
    assert_eq!(
        text(emp_bernstein(10, f64::INFINITY, 0.05, 1.0).unwrap_err()),
        "variance holds a value that is not finite"
    );
    assert_eq!(
        text(t_interval(&[0.5], 0.95).unwrap_err()),
        "prompts: 1 given, at least 2 needed"
    );
    assert!(Rows::new(&[1.0, f64::NAN], 1).is_err());
    assert!(Rows::new(&[1.0, 0.0, 1.0], 2).is_err());
    assert!(k_star_variance(1.0, 1.0, 0.1, 0.0).is_err());
    assert!(lyapunov(&[1.0, 2.0, 2.0, 1.0], &[1.0, 0.0, 0.0, 1.0], 0.1).is_err());
    assert!(lyapunov_discrete(&[50.0], &[1.0], 0.05, 1.0).is_err());
    let outside = [0.5, 1.5];
    let sample = Sample::held_out(Rows::new(&outside, 1).unwrap());
    assert!(certify_fixed(&sample, Range::UNIT, 0.05, Method::Direct).is_err());
}

#[test]
fn a_verdict_compares_with_the_whole_interval() {
    let inside = verdict(0.1, 0.12, (0.05, 0.2), 1.0).unwrap();
    assert!(!inside.is_violated && !inside.is_vacuous);
    assert!(verdict(0.04, 0.12, (0.05, 0.2), 1.0).unwrap().is_violated);
    assert!(
        verdict(0.04, -0.12, (-0.2, -0.05), 1.0)
            .unwrap()
            .is_violated
    );
    assert!(verdict(1.2, 0.1, (0.0, 0.2), 1.0).unwrap().is_vacuous);
    assert!((verdict(0.3, -0.1, (-0.2, 0.0), 1.0).unwrap().ratio - 3.0).abs() < 1e-12);
}

#[test]
fn floors_and_ceilings_pay_for_their_side() {
    let scores = vec![0.8; 500];
    let sample = Sample::held_out(Rows::new(&scores, 1).unwrap());
    let parts = OneSided {
        reward: Bound::zero("R0"),
        kl_coef: 0.05,
        tau: 2.0,
    };
    let width = hoeffding_one_sided(500, 0.05, 1.2).unwrap();
    let upper_tail = Bound::estimate("C1", 0.3).unwrap();
    let low = floor(&sample, &parts, &upper_tail, 0.05).unwrap();
    assert!((low.value() - (0.8 - width - 0.05 * 0.3)).abs() < 1e-12);
    assert_eq!(low.standing(), Standing::PlugIn);
    let high = ceiling(&sample, &parts, 0.05).unwrap();
    assert!((high.value() - (0.8 + width + 0.05 * (-3_f64).exp())).abs() < 1e-12);
    assert_eq!(
        high.standing(),
        Standing::Certified,
        "the lower tail is free"
    );
}

#[test]
fn the_union_over_the_grid_is_paid_for() {
    // Weights of exactly 1: both means are known, so what is left is the price of the union.
    let lw = vec![0.0; 300];
    let sample = Sample::held_out(Rows::new(&lw, 3).unwrap());
    let l2 = Bound::estimate("L2", 0.04).unwrap();
    let share = 0.05 / 4.0;
    let expected = |c: f64| {
        let body = kl_upper(1.0, 100, share, Range::new(0.0, c).unwrap()).unwrap();
        let tail = kl_upper(0.0, 100, share, Range::UNIT).unwrap();
        (body * 0.04).sqrt() + tail
    };
    let found = certify_reward_shift(&sample, &l2, &[1.0, 2.0], 0.05).unwrap();
    let best = expected(1.0).min(expected(2.0));
    assert!(
        (found.value() - best).abs() < 1e-12,
        "{} {best}",
        found.value()
    );
    let abs_e = Bound::estimate("E|e|", 0.1).unwrap();
    let found = certify_hockey_stick(&sample, &abs_e, &[1.0, 2.0], 0.05).unwrap();
    let tail = kl_upper(0.0, 100, 0.025, Range::UNIT).unwrap();
    assert!((found.value() - 0.1 - tail).abs() < 1e-12);
    let free = certify_lower_tail(2.0, 0.1).unwrap();
    assert!((free.value() - 0.1 * (-3_f64).exp()).abs() < 1e-15);
    assert_eq!((free.standing(), free.delta()), (Standing::Certified, 0.0));
}
