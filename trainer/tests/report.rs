//! Reports: the arithmetic on records.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use rlvr_bounds::{hoeffding_direct, hoeffding_paper};
use serde_json::{Value, json};
use trainer::record::PromptId;
use trainer::report::html::page;
use trainer::report::predict::report;
use trainer::report::read_statistics::read_statistics;
use trainer::report::row::{Report, Row};
use trainer::report::table::table;
use trainer::seed::{Stage, Stream, stream};

fn random() -> Stream {
    stream(7, Stage::Bootstrap, 0, PromptId(0), 0)
}

/// Verdicts of `n` prompts with `k` rollouts; a prompt's chance is uniform around `rate`.
fn verdicts(random: &mut Stream, n: usize, k: usize, rate: f64) -> Vec<Vec<f64>> {
    let mut row = || {
        let chance = rate + 0.3 * (random.uniform() - 0.5);
        (0..k)
            .map(|_| f64::from(u8::from(random.uniform() < chance)))
            .collect()
    };
    (0..n).map(|_| row()).collect()
}

fn of(value: &Value) -> Report {
    report(&read_statistics("stats.json", &value.to_string()).unwrap()).unwrap()
}

fn row<'a>(report: &'a Report, id: &str) -> &'a Row {
    let found = report.rows.iter().find(|row| row.id == id);
    found.unwrap_or_else(|| panic!("no row {id}"))
}

fn mean(rows: &[Vec<f64>]) -> f64 {
    let values = rows.concat();
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn a_verified_reward_has_only_a_sampling_error() {
    let mut random = random();
    let held_out = verdicts(&mut random, 400, 4, 0.6);
    let train = verdicts(&mut random, 100, 4, 0.7);
    let found = of(&json!({
        "held_out": {"rewards": held_out}, "train": {"rewards": train},
        "complexity": {"kind": "bits", "params": 13, "bits_each": 4},
    }));
    let s1 = row(&found, "S1");
    let expected = hoeffding_paper(400, 4, 0.05, 1.0).unwrap();
    assert!((s1.predicted.unwrap() - expected).abs() < 1e-12);
    assert!(s1.is_certified && !s1.is_vacuous && !s1.is_violated);
    let half = s1.measured.unwrap().value;
    assert!((s1.ratio.unwrap() - expected / half).abs() < 1e-12);
    let floor = mean(&held_out) - (20_f64.ln() / 800.0).sqrt();
    assert!((row(&found, "S7 floor").predicted.unwrap() - floor).abs() < 1e-12);
    assert_eq!(row(&found, "R0").predicted, Some(0.0));
    let whole: Vec<&Row> = found.rows.iter().filter(|row| row.id == "T1").collect();
    assert_eq!(whole[0].predicted, s1.predicted);
    assert_eq!(whole[1].predicted, row(&found, "S2").predicted);
    assert!(
        whole
            .iter()
            .all(|row| row.is_certified && row.delta == 0.05)
    );
    let error = found.measured_error.unwrap();
    assert!((error.value - (mean(&train) - mean(&held_out))).abs() < 1e-12);
    assert!(error.low < error.value && error.value < error.high);
    let gap = found.population_gap.unwrap();
    assert!((gap.value - error.value).abs() < 1e-12);
    assert!(
        gap.high - gap.low > error.high - error.low,
        "the training side counts as well"
    );
    let parts = found.parts.unwrap();
    assert!(parts.residual.abs() < 1e-12 && parts.reward == 0.0 && parts.clip == 0.0);
    assert!((parts.total - error.value).abs() < 1e-12);
    // Training prompts: refused as fixed, certified with their bits.
    let refused = found
        .rows
        .iter()
        .find(|row| row.standing == "refused")
        .unwrap();
    assert!(refused.predicted.is_none() && refused.note.contains("training prompts"));
    let nats = 52.0 * std::f64::consts::LN_2;
    let expected = ((nats + 40_f64.ln()) / 200.0).sqrt();
    assert!((row(&found, "P3a").predicted.unwrap() - expected).abs() < 1e-12);
    assert!(row(&found, "P3a").is_certified);
}

#[test]
fn a_posterior_is_certified_unless_it_is_a_model() {
    let train = verdicts(&mut random(), 200, 4, 0.6);
    let with = |rollouts: &str| {
        of(&json!({
            "train": {"rewards": train},
            "complexity": {"kind": "posterior", "kl": 10.0, "rollouts": rollouts},
        }))
    };
    let fresh = with("fresh_draws");
    let two_roots = ((10.0 + (80.0 * 200_f64.sqrt()).ln()) / 400.0).sqrt();
    let expected = two_roots + (80_f64.ln() / 1600.0).sqrt();
    let row_of = |report: &Report, id: &str| row(report, id).clone();
    assert!((row_of(&fresh, "P2b").predicted.unwrap() - expected).abs() < 1e-12);
    assert!(row_of(&fresh, "P1 one-step").is_certified && row_of(&fresh, "P1").is_certified);
    let single = with("single_draw");
    assert!(row_of(&single, "P2d").is_certified);
    assert!(single.rows.iter().all(|row| row.id != "P2b"));
    let model = with("estimated");
    assert_eq!(row_of(&model, "P1 one-step").standing, "model-based");
    assert!(!row_of(&model, "P1 one-step").is_certified);
}

#[test]
fn prompts_that_chose_a_policy_pay_for_it() {
    let held_out = verdicts(&mut random(), 300, 1, 0.5);
    let found = of(&json!({"candidates": 64, "held_out": {"rewards": held_out}}));
    assert!(
        found
            .rows
            .iter()
            .all(|row| row.id != "S2" && row.id != "T1")
    );
    let paid = row(&found, "P3a");
    let expected = ((64_f64.ln() + 40_f64.ln()) / 600.0).sqrt();
    assert!((paid.predicted.unwrap() - expected).abs() < 1e-12);
    assert!(paid.predicted.unwrap() > hoeffding_direct(300, 0.05, 1.0).unwrap());
}

#[test]
fn a_learned_reward_has_shift_rows_and_certified_ones_hold() {
    let mut random = random();
    // Two kinds of completion; the policy prefers the one on which the reward errs by 0.3.
    let (mut rewards, mut truth, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..500 {
        let kinds: Vec<bool> = (0..4).map(|_| random.uniform() < 0.4).collect();
        let of = |yes: f64, no: f64| -> Vec<f64> {
            kinds
                .iter()
                .map(|&is_bad| if is_bad { yes } else { no })
                .collect()
        };
        rewards.push(of(0.8, 0.6));
        truth.push(of(0.5, 0.6));
        ratios.push(of((0.4_f64 / 0.1).ln(), (0.6_f64 / 0.9).ln()));
    }
    let errors: Vec<f64> = (0..2000)
        .map(|_| if random.uniform() < 0.1 { 0.3 } else { 0.0 })
        .collect();
    let found = of(&json!({
        "held_out": {"rewards": rewards, "truth": truth, "log_ratio_old": ratios},
        "reward_errors": errors,
    }));
    let exact = 0.4 * 0.3;
    for id in ["R1", "R2", "R3", "R4", "R5", "R6"] {
        let row = row(&found, id);
        let predicted = row.predicted.unwrap();
        assert!(predicted > exact - 0.01, "{id}: {predicted}");
        assert!(!row.is_violated, "{id}");
        assert_eq!(row.is_certified, ["R2", "R3", "R4"].contains(&id), "{id}");
        assert!((row.measured.unwrap().value - exact).abs() < 0.02);
    }
    // Total variation of (0.4, 0.6) and (0.1, 0.9) is 0.3, mean |e| on the old data 0.03.
    assert!(row(&found, "R2").predicted.unwrap() > 0.33);
    // chi2 + 1 = 0.16/0.1 + 0.36/0.9 = 2, L2 = 0.009.
    assert!((row(&found, "R1").predicted.unwrap() - (2.0_f64 * 0.009).sqrt()).abs() < 0.01);
    let whole: Vec<&Row> = found.rows.iter().filter(|row| row.id == "T1").collect();
    assert_eq!(whole[0].standing, "plug-in");
    assert_eq!(whole[1].standing, "certified");
    assert!(
        (whole[1].delta - 0.05).abs() < 1e-12,
        "the split adds up: {}",
        whole[1].delta
    );
}

#[test]
fn a_clip_adds_its_rows_and_widens_the_range() {
    let mut random = random();
    let held_out = verdicts(&mut random, 200, 2, 0.5);
    let l: Vec<Vec<f64>> = (0..200)
        .map(|_| (0..2).map(|_| 0.5 + random.normal()).collect())
        .collect();
    let found = of(&json!({
        "kl_coef": 0.1, "tau": 1.0,
        "held_out": {"rewards": held_out, "log_ratio_ref": l},
        "train": {"rewards": held_out, "log_ratio_ref": l},
    }));
    let beyond = l
        .concat()
        .iter()
        .map(|l| (l.abs() - 1.0).max(0.0))
        .sum::<f64>()
        / 400.0;
    let clip = row(&found, "C1").measured.unwrap().value;
    assert!((clip - 0.1 * beyond).abs() < 1e-12);
    let free = row(&found, "C2");
    assert!(free.is_certified && (free.predicted.unwrap() - 0.1 * (-2_f64).exp()).abs() < 1e-12);
    let whole: Vec<&Row> = found.rows.iter().filter(|row| row.id == "T1").collect();
    let expected = hoeffding_paper(200, 2, 0.05, 1.2).unwrap() + 0.1 * beyond;
    assert!((whole[0].predicted.unwrap() - expected).abs() < 1e-12);
    assert_eq!(whole[0].standing, "plug-in");
    // The same rollouts on both sides: all that is left is what the clip took.
    let parts = found.parts.unwrap();
    let signed = l
        .concat()
        .iter()
        .map(|l| l - l.clamp(-1.0, 1.0))
        .sum::<f64>()
        / 400.0;
    assert!(parts.sampling.abs() < 1e-12 && (parts.clip - 0.1 * signed).abs() < 1e-12);
    assert!(found.advice.iter().any(|line| line.contains("tau =")));
}

#[test]
fn log_probs_that_are_not_the_samplers_are_a_warning() {
    let mut random = random();
    // l = log policy - log reference of draws from the policy N(0.5, 1) against N(0, 1).
    let mut draw = |shift: f64| {
        let rows: Vec<Vec<f64>> = (0..500)
            .map(|_| {
                let x = 0.5 + random.normal();
                vec![0.5 * x - 0.125 + shift]
            })
            .collect();
        of(&json!({"held_out": {"rewards": vec![vec![1.0]; 500], "log_ratio_ref": rows}})).warnings
    };
    let has_check = |lines: &[String]| lines.iter().any(|line| line.contains("mean exp(-l)"));
    assert!(!has_check(&draw(0.0)));
    assert!(has_check(&draw(-0.5)));
    // All rewards equal: the bootstrap would pretend to know.
    assert!(draw(0.0).iter().any(|line| line.contains("no width")));
}

#[test]
fn the_table_and_the_page_show_every_row() {
    let mut random = random();
    let held_out = verdicts(&mut random, 40, 2, 0.5);
    let found = of(&json!({"held_out": {"rewards": held_out}, "train": {"rewards": held_out}}));
    let text = table(&found);
    let html = page("a < b", &found, &[], None).unwrap();
    for row in &found.rows {
        assert!(text.contains(&row.name), "{}", row.name);
        assert!(html.contains(&row.id), "{}", row.id);
    }
    assert!(html.contains("a &lt; b") && !html.contains("<svg"));
    assert!(html.contains(">yes<") && html.contains(">no<"));
}
