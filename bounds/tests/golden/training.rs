//! Policies that depend on the prompts: classes, posteriors, diffusion.

use rlvr_bounds::*;

use super::{DELTA, Golden};

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
