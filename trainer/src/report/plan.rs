//! How to spend a budget on evaluation: the best number of rollouts per prompt and what it buys.

use rlvr_bounds::{
    BoundsError, PairRate, alloc_prompts_pairs, emp_bernstein, hoeffding_direct, k_star_variance,
    t_quantile,
};
use serde::Serialize;
use thiserror::Error;

/// Rollouts per prompt that are tried at most.
const MAX_ROLLOUTS: usize = 256;

/// Relative excess over the smallest t half-width that is not worth more rollouts per prompt: the
/// smaller K buys more prompts, and certified half-widths need prompts.
const NEAR: f64 = 0.01;

/// A plan cannot be made.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The budget buys too little.
    #[error(
        "plan: the budget buys {found} prompts at one rollout each; an interval needs at least 2, \
         that is a budget of {least}"
    )]
    TooSmall {
        /// Prompts it buys.
        found: usize,
        /// Budget for two prompts.
        least: f64,
    },
    /// An input is out of range.
    #[error("plan: {0}")]
    Bound(#[from] BoundsError),
    /// What was measured does not say enough.
    #[error("plan: {0}")]
    Missing(String),
}

/// What is known before planning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Situation {
    /// Variance between prompts.
    pub sigma_p2: f64,
    /// Variance of a rollout given its prompt.
    pub sigma_r2: f64,
    /// Cost of reading a prompt, in the budget's unit.
    pub prefill: f64,
    /// Cost of a completion, in the budget's unit.
    pub decode: f64,
    /// What may be spent.
    pub budget: f64,
    /// Failure probability of the bounds.
    pub delta: f64,
}

/// Prices of a learned reward.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pairs {
    /// Cost of a labelled pair, in the budget's unit.
    pub cost: f64,
    /// Slope of the reward-shift term in `1 / sqrt(m)`: coverage times that of sqrt(L2).
    pub slope: f64,
}

/// One choice of K and what the budget buys with it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Rollouts per prompt.
    pub k: usize,
    /// Prompts.
    pub n: usize,
    /// Expected 95 % t half-width of the mean reward.
    pub t_half_width: f64,
    /// Certified half-width by Hoeffding (S2).
    pub hoeffding: f64,
    /// Expected certified half-width by empirical Bernstein (S3).
    pub bernstein: f64,
}

/// The split between prompts and pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairSplit {
    /// Prompts.
    pub n: f64,
    /// Pairs.
    pub m: f64,
    /// Bound at the split, without a misspecification floor.
    pub bound: f64,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What was known.
    pub situation: Situation,
    /// Closed form of K* (A2); absent where it is unbounded.
    pub closed_k: Option<f64>,
    /// The best choice.
    pub best: Choice,
    /// Choices around it.
    pub curve: Vec<Choice>,
    /// With a learned reward: prompts against pairs (A3).
    pub pairs: Option<PairSplit>,
}

/// The best plan within the budget.
///
/// # Errors
/// If an input is out of range or the budget buys fewer than two prompts.
pub fn plan(situation: Situation, pairs: Option<Pairs>) -> Result<Plan, PlanError> {
    let Situation {
        sigma_p2,
        sigma_r2,
        prefill,
        decode,
        budget,
        ..
    } = situation;
    check("budget", budget, budget > 0.0)?;
    let closed_k = match k_star_variance(prefill, decode, sigma_r2, sigma_p2) {
        Ok(choice) => Some(choice.closed),
        // No variance between prompts: the more rollouts of few prompts, the better.
        Err(BoundsError::Domain {
            arg: "sigma_p2", ..
        }) if sigma_p2 == 0.0 => None,
        Err(error) => return Err(error.into()),
    };
    let one = prompts(&situation, 1);
    if one < 2 {
        let least = 2.0 * (prefill + decode);
        return Err(PlanError::TooSmall { found: one, least });
    }
    let all: Result<Vec<Choice>, PlanError> = (1..=MAX_ROLLOUTS)
        .take_while(|&k| prompts(&situation, k) >= 2)
        .map(|k| choice(&situation, k))
        .collect();
    let all = all?;
    let widths = all.iter().map(|found| found.t_half_width);
    let least = widths.fold(f64::INFINITY, f64::min);
    let is_near = |found: &&Choice| found.t_half_width <= least * (1.0 + NEAR);
    let best = *all.iter().find(is_near).unwrap_or(&all[0]);
    let pairs = pairs
        .map(|pairs| split(&situation, best.k, pairs))
        .transpose()?;
    Ok(Plan {
        situation,
        closed_k,
        curve: around(&all, best.k),
        best,
        pairs,
    })
}

fn check(arg: &'static str, value: f64, holds: bool) -> Result<(), PlanError> {
    if !value.is_finite() {
        return Err(BoundsError::NonFinite(arg).into());
    }
    let need = "above 0";
    if holds {
        Ok(())
    } else {
        Err(BoundsError::Domain { arg, need }.into())
    }
}

fn prompts(situation: &Situation, k: usize) -> usize {
    let each = situation.prefill + situation.decode * k as f64;
    // Rounding must not take a prompt away that is paid for.
    (situation.budget / each * (1.0 + 1e-12)) as usize
}

fn choice(situation: &Situation, k: usize) -> Result<Choice, PlanError> {
    let n = prompts(situation, k);
    let variance = situation.sigma_p2 + situation.sigma_r2 / k as f64;
    Ok(Choice {
        k,
        n,
        t_half_width: t_quantile(n - 1, 0.975)? * (variance / n as f64).sqrt(),
        hoeffding: hoeffding_direct(n, situation.delta, 1.0)?,
        bernstein: emp_bernstein(n, variance, situation.delta, 1.0)?,
    })
}

/// At most eleven choices: halves and doubles of the best K and its neighbours.
fn around(all: &[Choice], best: usize) -> Vec<Choice> {
    let wanted = [
        1,
        best / 4,
        best / 2,
        best - 1,
        best,
        best + 1,
        best * 2,
        best * 4,
    ];
    let kept = all.iter().filter(|it| wanted.contains(&it.k));
    kept.copied().collect()
}

fn split(situation: &Situation, k: usize, pairs: Pairs) -> Result<PairSplit, PlanError> {
    let a = (2.0_f64 / situation.delta).ln().sqrt() / 2_f64.sqrt();
    let c_n = situation.prefill + situation.decode * k as f64;
    let rate = PairRate::Bound;
    let found = alloc_prompts_pairs(a, pairs.slope, c_n, pairs.cost, situation.budget, rate)?;
    Ok(PairSplit {
        n: found.n,
        m: found.m,
        bound: found.value,
    })
}

/// The plan as a table for a terminal; `unit` is that of the budget.
pub fn table(plan: &Plan, unit: &str) -> String {
    let Situation {
        sigma_p2,
        sigma_r2,
        prefill,
        decode,
        budget,
        delta,
    } = plan.situation;
    let closed = plan.closed_k.map_or(
        "unbounded: no variance between prompts was measured".into(),
        |k| format!("{k:.2}"),
    );
    let mut text = format!(
        "budget {budget} {unit}; a prompt costs {prefill:.4}, a completion {decode:.4}\n\
         variance {sigma_p2:.4} between prompts, {sigma_r2:.4} of rollouts; delta {delta}\n\
         best: n = {} prompts, K = {} rollouts each (closed form {closed})\n\n\
         {:>6} {:>8} {:>12} {:>14} {:>14}\n",
        plan.best.n, plan.best.k, "K", "n", "95 % t", "S2 certified", "S3 certified"
    );
    for it in &plan.curve {
        let mark = if it.k == plan.best.k { "  <- best" } else { "" };
        text += &format!(
            "{:>6} {:>8} {:>12} {:>14.4} {:>14.4}{mark}\n",
            it.k,
            it.n,
            format!("± {:.4}", it.t_half_width),
            it.hoeffding,
            it.bernstein
        );
    }
    if let Some(pairs) = plan.pairs {
        text += &format!(
            "\nwith a learned reward: {:.0} prompts and {:.0} preference pairs, bound {:.4} (A3)\n",
            pairs.n, pairs.m, pairs.bound
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn situation() -> Situation {
        Situation {
            sigma_p2: 0.1,
            sigma_r2: 0.15,
            prefill: 8.0,
            decode: 1.0,
            budget: 11_000.0,
            delta: 0.05,
        }
    }

    #[test]
    fn the_plan_is_the_two_stage_rule() {
        let found = plan(situation(), None).unwrap();
        // A2: 3.46, an exact tie of 3 and 4, but whole prompts: 1000 x 3 or 916 x 4.
        assert!((found.closed_k.unwrap() - 3.464_101_6).abs() < 1e-6);
        assert_eq!((found.best.k, found.best.n), (3, 1000));
        let t = 1.962_341_461 * (0.15_f64 / 1000.0).sqrt();
        assert!((found.best.t_half_width - t).abs() < 1e-8);
        assert!(
            found
                .curve
                .iter()
                .all(|it| it.t_half_width * 1.01 >= found.best.t_half_width)
        );
        assert!(found.curve.len() >= 5);
        let text = table(&found, "tokens");
        assert!(
            text.contains("n = 1000 prompts, K = 3") && text.contains("<- best"),
            "{text}"
        );
    }

    #[test]
    fn completions_are_bought_one_per_prompt() {
        let free_prefill = Situation {
            prefill: 0.0,
            budget: 500.0,
            ..situation()
        };
        let found = plan(free_prefill, None).unwrap();
        assert_eq!((found.best.k, found.best.n), (1, 500));
    }

    #[test]
    fn without_variance_between_prompts_k_is_the_smallest_that_is_near_the_best() {
        let alike = Situation {
            sigma_p2: 0.0,
            ..situation()
        };
        let found = plan(alike, None).unwrap();
        assert_eq!(found.closed_k, None);
        let all: Vec<Choice> = (1..=256).map(|k| choice(&alike, k).unwrap()).collect();
        let widths = all.iter().map(|it| it.t_half_width);
        let least = widths.fold(f64::INFINITY, f64::min);
        assert!(found.best.t_half_width <= 1.01 * least);
        assert!(all[found.best.k - 2].t_half_width > 1.01 * least);
    }

    #[test]
    fn pairs_take_their_share() {
        let pairs = Pairs {
            cost: 5.0,
            slope: 3.0,
        };
        let found = plan(situation(), Some(pairs)).unwrap().pairs.unwrap();
        assert!((found.n * 11.0 + found.m * 5.0 - 11_000.0).abs() < 1e-6);
        let bound = |m: f64| {
            let n = (11_000.0 - 5.0 * m) / 11.0;
            (40_f64.ln() / 2.0 / n).sqrt() + 3.0 / m.sqrt()
        };
        assert!((found.bound - bound(found.m)).abs() < 1e-12);
        assert!(bound(found.m * 1.05) > found.bound && bound(found.m * 0.95) > found.bound);
    }

    #[test]
    fn a_budget_for_nothing_says_how_much_is_needed() {
        let poor = Situation {
            budget: 10.0,
            ..situation()
        };
        let words = plan(poor, None).unwrap_err().to_string();
        assert!(
            words.contains("buys 1 prompts") && words.contains("18"),
            "{words}"
        );
        let broken = Situation {
            sigma_p2: f64::NAN,
            ..situation()
        };
        let words = plan(broken, None).unwrap_err().to_string();
        assert!(
            words.contains("sigma_p2 holds a value that is not finite"),
            "{words}"
        );
        let broken = Situation {
            delta: 0.0,
            ..situation()
        };
        assert!(plan(broken, None).is_err());
    }
}
