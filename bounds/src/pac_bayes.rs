//! P1, P2: policies that depend on the prompts, paid for by a KL divergence to a prior.
//!
//! **Assumptions.** The prior P over parameters is chosen independently of the prompts. Q may
//! depend on them. P1 and the one-step forms: rollouts use shared noise, `y = G(theta, x, u)`,
//! so that the objective exists for all theta at once. Fresh-rollout forms: training may have
//! used any rollouts, but those counted here are drawn after the parameters were frozen, and
//!
//! - P2b: a fresh theta ~ Q for **each** rollout;
//! - P2c: S draws of theta ~ Q shared by all prompts;
//! - P2d: one draw theta ~ Q; `kl` is then `log dQ/dP(theta)` (Rivasplata et al., arXiv 2006.13057).
//!
//! **Constants.** Two-sided, b the range:
//!
//! ```text
//! P1        b sqrt((kl + log(4 sqrt(n)/delta)) / 2n) + b sqrt((kl + log(4 sqrt(nk)/delta)) / 2nk)
//! one step  b sqrt((kl + log(2 sqrt(n)/delta)) / 2n)
//! kl form   kl(q‖p) <= (kl + log(2 sqrt(n)/delta)) / n
//! P2b, P2d  b sqrt((kl + log(4 sqrt(n)/delta)) / 2n) + b sqrt(log(4/delta) / 2nk)
//! P2c       P2b at delta - delta_prime, + b sqrt(log(2/delta_prime) / 2s)
//! ```
//!
//! P1 is our reading of Theorem 2 of Tang, Chen, He (arXiv 2602.21765), whose constants we have
//! not seen: a reconstruction. The rest is Seeger and Maurer's PAC-Bayes-kl with Pinsker.

use libm::{log, sqrt};

use crate::bernoulli::kl_ball;
use crate::bound::{Bound, Standing, inputs};
use crate::error::{Result, check, check_count, check_delta, check_not_negative, check_range};
use crate::sample::{PromptRole, Range, Role, Sample};

/// Which form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PacBayesForm {
    /// P1, the published structure.
    Published,
    /// McAllester's form on per-prompt means; shared noise.
    OneStep,
    /// The kl form on per-prompt means; shared noise.
    Kl,
    /// P2b, a fresh theta per rollout.
    FreshRollouts,
    /// P2c, `draws` shared draws of theta.
    SharedDraws {
        /// Draws of theta.
        draws: usize,
        /// Share of delta for them.
        delta_prime: f64,
    },
    /// P2d, one draw; the KL is the log density ratio at it.
    SingleDraw,
}

impl PacBayesForm {
    /// Id in the catalogue.
    pub fn id(self) -> &'static str {
        match self {
            Self::Published => "P1",
            Self::OneStep => "P1 one-step",
            Self::Kl => "P1 kl",
            Self::FreshRollouts => "P2b",
            Self::SharedDraws { .. } => "P2c",
            Self::SingleDraw => "P2d",
        }
    }
}

/// Where the posterior comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posterior {
    /// Defined by the user: its rollouts were really drawn from it.
    Defined,
    /// Estimated as the law of the training process: a model.
    Estimated,
}

/// Half-width of a form. For [`PacBayesForm::Kl`] that of its Pinsker relaxation.
///
/// # Errors
/// If a count is 0, `kl` is negative (a single draw may have any finite value that leaves the
/// root real), or `delta` or `delta_prime` is out of range.
pub fn pac_bayes(
    n: usize,
    k: usize,
    kl: f64,
    delta: f64,
    b: f64,
    form: PacBayesForm,
) -> Result<f64> {
    let (count, rollouts) = (check_count("n", n, 1)?, check_count("k", k, 1)?);
    let (delta, b) = (check_delta(delta)?, check_range(b)?);
    let kl = check_kl(kl, form)?;
    let root = |nats: f64, count: f64| sqrt(nats.max(0.0) / (2.0 * count));
    let all = count * rollouts;
    let two_roots =
        |delta: f64| root(kl + log(4.0 * sqrt(count) / delta), count) + root(log(4.0 / delta), all);
    Ok(b * match form {
        PacBayesForm::Published => {
            root(kl + log(4.0 * sqrt(count) / delta), count)
                + root(kl + log(4.0 * sqrt(all) / delta), all)
        }
        PacBayesForm::OneStep | PacBayesForm::Kl => {
            root(kl + log(2.0 * sqrt(count) / delta), count)
        }
        PacBayesForm::FreshRollouts | PacBayesForm::SingleDraw => two_roots(delta),
        PacBayesForm::SharedDraws { draws, delta_prime } => {
            let draws = check_count("draws", draws, 1)?;
            check("delta_prime", delta_prime, "above 0 and below delta", |v| {
                v > 0.0 && v < delta
            })?;
            two_roots(delta - delta_prime) + root(log(2.0 / delta_prime), draws)
        }
    })
}

fn check_kl(kl: f64, form: PacBayesForm) -> Result<f64> {
    match form {
        PacBayesForm::SingleDraw => check("kl", kl, "finite", |_| true),
        _ => check_not_negative("kl", kl),
    }
}

/// Interval for the expected score under the posterior (P2d: of the one policy drawn), for
/// prompts of any role. Certified if the posterior was defined, model-based if it was estimated.
///
/// # Errors
/// As [`pac_bayes`], or if a value lies outside `range`.
pub fn certify_pac_bayes<R: Role + Into<PromptRole>>(
    sample: &Sample<'_, R>,
    range: Range,
    kl: f64,
    delta: f64,
    form: PacBayesForm,
    posterior: Posterior,
) -> Result<Bound> {
    let rows = sample.rows();
    range.check(rows.values())?;
    let (n, centre) = (rows.n(), rows.mean());
    let width = pac_bayes(n, rows.k(), kl, delta, range.length(), form)?;
    let (lo, hi) = match form {
        PacBayesForm::Kl => {
            let nats = kl + log(2.0 * sqrt(n as f64) / delta);
            kl_ball(centre, nats / n as f64, range)?
        }
        _ => (centre - width, centre + width),
    };
    let standing = match posterior {
        Posterior::Defined => Standing::Certified,
        Posterior::Estimated => Standing::ModelBased,
    };
    let named = inputs([
        ("n", n as f64),
        ("k", rows.k() as f64),
        ("range", range.length()),
        ("mean", centre),
        ("kl", kl),
    ]);
    let value = (hi - centre).max(centre - lo);
    Ok(
        Bound::new(form.id(), standing, delta, value, named).with_interval(
            lo,
            hi,
            range.lo(),
            range.hi(),
        ),
    )
}
