//! Simulations: a certified bound fails at most a share delta of the time, the t interval as
//! often as it says, and a misused one far more often.

#![allow(clippy::unwrap_used, reason = "a test panics by design")]

use rlvr_bounds::*;
use worlds::{COMPLETIONS, KL_COEF, TAU, Toy, Uniform};

#[allow(dead_code)]
mod worlds;

const DELTA: f64 = 0.05;
const REPEATS: usize = 2000;

/// Scores of `n` prompts with `k` completions each.
fn draw(
    toy: &Toy,
    uniform: &mut Uniform,
    n: usize,
    k: usize,
    f: impl Fn(usize) -> f64,
) -> Vec<f64> {
    let mut scores = Vec::with_capacity(n * k);
    for _ in 0..n {
        let row = uniform.index(&toy.rho) * COMPLETIONS;
        let policy = &toy.policy[row..row + COMPLETIONS];
        scores.extend((0..k).map(|_| f(row + uniform.index(policy))));
    }
    scores
}

/// Shares of `REPEATS` in which the interval misses the truth.
fn miss_rates<const N: usize>(mut repeat: impl FnMut() -> [bool; N]) -> [f64; N] {
    let mut misses = [0_usize; N];
    for _ in 0..REPEATS {
        for (count, is_missed) in misses.iter_mut().zip(repeat()) {
            *count += usize::from(is_missed);
        }
    }
    misses.map(|count| count as f64 / REPEATS as f64)
}

#[test]
fn certified_intervals_hold_and_the_t_interval_is_honest() {
    let toy = Toy::new();
    let mut uniform = Uniform(11);
    let range = Range::clipped(KL_COEF, TAU).unwrap();
    let truth = toy.mean(|at| toy.score(at));
    let target = toy.mean(|at| toy.truth[at] - KL_COEF * toy.l[at]);
    let rates = miss_rates(|| {
        let scores = draw(&toy, &mut uniform, 200, 4, |at| toy.score(at));
        let rows = Rows::new(&scores, 4).unwrap();
        let sample = Sample::held_out(rows);
        let misses = |bound: Bound| {
            let (lo, hi) = bound.interval().unwrap();
            !(lo..=hi).contains(&truth)
        };
        let fixed = |method| certify_fixed(&sample, range, DELTA, method).unwrap();
        let (centre, half) = t_interval(&rows.means(), 0.95).unwrap();
        // Theorem 1 with the exact bias terms of this world.
        let shift = 0.145_489_595;
        let clip = 0.100 * 0.080_584_102;
        let total = fixed(Method::Paper).value() + shift + clip;
        [
            misses(fixed(Method::Paper)),
            misses(fixed(Method::Direct)),
            misses(fixed(Method::Eb)),
            misses(fixed(Method::Kl)),
            misses(fixed(Method::Betting)),
            misses(certify_fixed_best(&sample, range, DELTA).unwrap()),
            (rows.mean() - target).abs() > total,
            (centre - truth).abs() > half,
        ]
    });
    for rate in &rates[..7] {
        assert!(*rate <= DELTA, "certified, missed in {rate}: {rates:?}");
    }
    assert!(rates[6] == 0.0, "Theorem 1 is far from tight: {rates:?}");
    assert!((0.03..=0.07).contains(&rates[7]), "t: {rates:?}");
}

#[test]
fn betting_is_tight_enough_to_be_tested() {
    // Bernoulli prompts, one rollout: the case in which a wrong interval would fail most.
    let mut uniform = Uniform(5);
    for p in [0.05, 0.5, 0.9] {
        let rates = miss_rates(|| {
            let x: Vec<f64> = (0..100)
                .map(|_| f64::from(u8::from(uniform.next() < p)))
                .collect();
            let sample = Sample::held_out(Rows::new(&x, 1).unwrap());
            let misses = |method, delta| {
                let bound = certify_fixed(&sample, Range::UNIT, delta, method).unwrap();
                let (lo, hi) = bound.interval().unwrap();
                !(lo..=hi).contains(&p)
            };
            [
                misses(Method::Kl, 0.05),
                misses(Method::Betting, 0.05),
                misses(Method::Betting, 0.6),
            ]
        });
        assert!(rates[0] <= 0.05 && rates[1] <= 0.05, "{rates:?}");
        // At a delta this large the interval is narrow enough to miss now and then.
        assert!(rates[2] > 0.005 && rates[2] <= 0.6, "{rates:?}");
    }
}

#[test]
fn pooled_rollouts_would_not_hold() {
    let toy = Toy::new();
    let mut uniform = Uniform(23);
    let truth = toy.mean(|at| toy.score(at));
    let rates = miss_rates(|| {
        // One completion copied 8 times: all that a prompt's rollouts share, exaggerated.
        let scores = draw(&toy, &mut uniform, 100, 1, |at| toy.score(at));
        let copied: Vec<f64> = scores.iter().flat_map(|&score| [score; 8]).collect();
        let missed = |values: &[f64]| {
            let (centre, half) = t_interval(values, 0.95).unwrap();
            (centre - truth).abs() > half
        };
        let means = Rows::new(&copied, 8).unwrap().means();
        let (lo, hi) = cluster_bootstrap(&means, 1000, 0.95, 7).unwrap();
        [missed(&means), missed(&copied), !(lo..=hi).contains(&truth)]
    });
    assert!((0.03..=0.07).contains(&rates[0]), "per prompt: {rates:?}");
    assert!(rates[1] > 0.3, "pooled: {rates:?}");
    assert!((0.03..=0.08).contains(&rates[2]), "bootstrap: {rates:?}");
}

#[test]
fn a_policy_chosen_on_the_same_prompts_breaks_fixed_policy_bounds() {
    let mut uniform = Uniform(64);
    let mut rows = vec![0.0; 50];
    let rates = miss_rates(|| {
        let mut best = vec![0.0; 50];
        for _ in 0..64 {
            rows.iter_mut()
                .for_each(|x| *x = f64::from(u8::from(uniform.next() < 0.5)));
            if rows.iter().sum::<f64>() > best.iter().sum() {
                best.clone_from(&rows);
            }
        }
        let table = Rows::new(&best, 1).unwrap();
        let (centre, half) = t_interval(&best, 0.95).unwrap();
        // Only someone who lies about the prompts gets this far.
        let lied = Sample::held_out(table);
        let direct = certify_fixed(&lied, Range::UNIT, DELTA, Method::Direct).unwrap();
        let selected = Sample::selected(table, 64);
        let class = certify_class(
            &selected,
            Range::UNIT,
            64_f64.ln(),
            DELTA,
            ClassForm::OneStep,
        );
        let missed = |bound: &Bound| {
            let (lo, hi) = bound.interval().unwrap();
            !(lo..=hi).contains(&0.5)
        };
        [
            (centre - 0.5).abs() > half,
            missed(&direct),
            missed(&class.unwrap()),
        ]
    });
    assert!(rates[0] > 0.3, "t: {rates:?}");
    assert!(rates[1] > DELTA, "Hoeffding: {rates:?}");
    assert!(rates[2] <= DELTA, "the class was paid for: {rates:?}");
}

#[test]
fn the_certified_reward_shift_holds() {
    let toy = Toy::new();
    let mut uniform = Uniform(31);
    let error = |at: usize| (toy.reward[at] - toy.truth[at]).abs();
    let truth = toy.mean(error);
    let grid = [1.0, 2.0, 4.0, 8.0];
    let mut mean_bounds = [0.0; 2];
    let rates = miss_rates(|| {
        let lw = draw(&toy, &mut uniform, 500, 4, |at| toy.lw[at]);
        let labels: Vec<f64> = (0..500).map(|_| error(uniform.index(&toy.train))).collect();
        let squares: Vec<f64> = labels.iter().map(|e| e * e).collect();
        let upper = |values: &[f64]| {
            let sample = Sample::held_out(Rows::new(values, 1).unwrap());
            certify_upper(&sample, Range::UNIT, 0.02, Method::Kl).unwrap()
        };
        let sample = Sample::held_out(Rows::new(&lw, 4).unwrap());
        let clipped = certify_reward_shift(&sample, &upper(&squares), &grid, 0.03).unwrap();
        let hockey = certify_hockey_stick(&sample, &upper(&labels), &grid, 0.03).unwrap();
        assert_eq!(clipped.standing(), Standing::Certified);
        assert!((clipped.delta() - DELTA).abs() < 1e-12);
        mean_bounds[0] += clipped.value() / REPEATS as f64;
        mean_bounds[1] += hockey.value() / REPEATS as f64;
        [clipped.value() < truth, hockey.value() < truth]
    });
    assert!(rates.iter().all(|rate| *rate <= DELTA), "{rates:?}");
    let is_useful = mean_bounds.iter().all(|bound| *bound < 0.5);
    assert!(is_useful, "mean bounds {mean_bounds:?}, truth {truth}");
}

#[test]
fn variance_components_are_recovered() {
    let toy = Toy::new();
    let mut uniform = Uniform(3);
    let scores = draw(&toy, &mut uniform, 40_000, 4, |at| toy.score(at));
    let found = anova(Rows::new(&scores, 4).unwrap()).unwrap();
    assert!((found.sigma_r2 - 0.132_868).abs() < 0.003, "{found:?}");
    assert!((found.sigma_p2 - 0.022_706).abs() < 0.002, "{found:?}");
}

#[test]
fn log_probs_that_are_not_the_samplers_are_noticed() {
    let toy = Toy::new();
    let mut uniform = Uniform(8);
    let l = draw(&toy, &mut uniform, 2000, 4, |at| toy.lw[at]);
    let (mean, error) = mean_inverse_ratio(Rows::new(&l, 4).unwrap()).unwrap();
    assert!((mean - 1.0).abs() < 3.0 * error, "{mean} ± {error}");
    // Each sequence log-prob 0.3 nats too small, as after a wrong mask or temperature.
    let wrong: Vec<f64> = l.iter().map(|l| l - 0.3).collect();
    let (mean, error) = mean_inverse_ratio(Rows::new(&wrong, 4).unwrap()).unwrap();
    assert!(mean > 1.0 + 5.0 * error, "{mean} ± {error}");
}
