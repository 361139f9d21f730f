//! How often each certified bound fails, and how loose it is: a simulation in a small world in
//! which the truth is known, as a Markdown table.
//!
//! ```text
//! cargo run --release -p rlvr-bounds --example looseness
//! ```
//!
//! The fixed policy is that of `tests/worlds`; for training prompts, the best of 64 policies on
//! the very prompts it is certified on.

#![allow(clippy::unwrap_used, reason = "an example stops at the first surprise")]

use rlvr_bounds::{
    Bound, ClassForm, Method, Range, Rows, Sample, certify_class, certify_fixed,
    certify_fixed_best, t_interval,
};
use worlds::{COMPLETIONS, Toy, Uniform};

#[allow(dead_code)]
#[path = "../tests/worlds/mod.rs"]
mod worlds;

const DELTA: f64 = 0.05;
const REPEATS: usize = 1000;

/// What one bound did over all repetitions.
#[derive(Default)]
struct Tally {
    name: String,
    misses: usize,
    width: f64,
    errors: Vec<f64>,
}

impl Tally {
    fn add(&mut self, name: &str, interval: (f64, f64), value: f64, estimate: f64, truth: f64) {
        self.name = name.into();
        self.misses += usize::from(!(interval.0..=interval.1).contains(&truth));
        self.width += value / REPEATS as f64;
        self.errors.push((estimate - truth).abs());
    }

    /// Failure rate, mean bound, and the bound by the 95 % quantile and the mean of the error.
    fn line(&mut self, setting: &str) -> String {
        self.errors.sort_by(f64::total_cmp);
        let high = self.errors[REPEATS * 95 / 100];
        let mean = self.errors.iter().sum::<f64>() / REPEATS as f64;
        format!(
            "| {setting} | {} | {:.1} % | {:.4} | {:.1} | {:.1} |",
            self.name,
            100.0 * self.misses as f64 / REPEATS as f64,
            self.width,
            self.width / high,
            self.width / mean
        )
    }
}

fn of_bound(tally: &mut Tally, name: &str, bound: &Bound, estimate: f64, truth: f64) {
    tally.add(
        name,
        bound.interval().unwrap(),
        bound.value(),
        estimate,
        truth,
    );
}

/// Rewards of `n` prompts with `k` completions of the fixed policy.
fn rewards(toy: &Toy, uniform: &mut Uniform, n: usize, k: usize) -> Vec<f64> {
    let mut rewards = Vec::with_capacity(n * k);
    for _ in 0..n {
        let row = uniform.index(&toy.rho) * COMPLETIONS;
        let policy = &toy.policy[row..row + COMPLETIONS];
        rewards.extend((0..k).map(|_| toy.truth[row + uniform.index(policy)]));
    }
    rewards
}

fn fixed(n: usize, k: usize) {
    let (toy, mut uniform) = (Toy::new(), Uniform(1));
    let truth = toy.mean(|at| toy.truth[at]);
    let mut tallies: Vec<Tally> = (0..7).map(|_| Tally::default()).collect();
    for _ in 0..REPEATS {
        let data = rewards(&toy, &mut uniform, n, k);
        let rows = Rows::new(&data, k).unwrap();
        let sample = Sample::held_out(rows);
        let mean = rows.mean();
        for (tally, method) in tallies.iter_mut().zip(Method::ALL) {
            let bound = certify_fixed(&sample, Range::UNIT, DELTA, method).unwrap();
            of_bound(tally, method.id(), &bound, mean, truth);
        }
        let best = certify_fixed_best(&sample, Range::UNIT, DELTA).unwrap();
        of_bound(&mut tallies[5], "S2-S5 together", &best, mean, truth);
        let (mean, half) = t_interval(&rows.means(), 0.95).unwrap();
        let name = "S6 t, not certified";
        tallies[6].add(name, (mean - half, mean + half), half, mean, truth);
    }
    let setting = format!("held-out, n = {n}, K = {k}");
    tallies
        .iter_mut()
        .for_each(|tally| println!("{}", tally.line(&setting)));
}

/// 64 policies of equal quality: whatever the best one gains on its prompts is error.
fn selected(n: usize) {
    const POLICIES: u64 = 64;
    let mut uniform = Uniform(2);
    let nats = (POLICIES as f64).ln();
    let mut tallies: Vec<Tally> = (0..3).map(|_| Tally::default()).collect();
    for _ in 0..REPEATS {
        let mut best = vec![0.0; n];
        for _ in 0..POLICIES {
            let row: Vec<f64> = (0..n)
                .map(|_| f64::from(u8::from(uniform.next() < 0.5)))
                .collect();
            if row.iter().sum::<f64>() > best.iter().sum() {
                best = row;
            }
        }
        let rows = Rows::new(&best, 1).unwrap();
        let sample = Sample::selected(rows, POLICIES);
        let mean = rows.mean();
        for (tally, form) in tallies.iter_mut().zip([ClassForm::OneStep, ClassForm::Kl]) {
            let bound = certify_class(&sample, Range::UNIT, nats, DELTA, form).unwrap();
            of_bound(tally, form.id(), &bound, mean, 0.5);
        }
        let (mean, half) = t_interval(&best, 0.95).unwrap();
        let name = "S6 t, misused";
        tallies[2].add(name, (mean - half, mean + half), half, mean, 0.5);
    }
    let setting = format!("best of 64 on its own prompts, n = {n}, K = 1");
    tallies
        .iter_mut()
        .for_each(|tally| println!("{}", tally.line(&setting)));
}

fn main() {
    println!("| setting | bound | failed | mean bound | by q95 of the error | by its mean |");
    println!("| --- | --- | --- | --- | --- | --- |");
    fixed(200, 4);
    fixed(1000, 4);
    selected(50);
    selected(500);
}
