//! Everything at once in a world without random numbers.

use rlvr_bounds::*;

use super::worlds::{KL_COEF, TAU, Toy};
use super::{DELTA, Golden};

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
