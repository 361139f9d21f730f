//! From statistics to the rows of a report.

use std::collections::BTreeMap;

use rlvr_bounds::{
    Bound, BoundsError, ClassForm, Distribution, HeldOut, Method, OneSided, PacBayesForm,
    Posterior, PromptRole, Range, Rate, Sample, Scored, Trained, anova, certify_class,
    certify_fixed, certify_fixed_best, certify_pac_bayes, cluster_bootstrap, decompose, floor,
    t_interval, theorem1,
};

use super::row::{Measured, Report, Row, SetSummary};
use super::statistics::{
    Complexity, PosteriorRollouts, Rollouts, Statistics, StatisticsError, Table,
};
use super::{advice, clip_rows, shift_rows};

/// Prompts below which the t interval is used instead of the bootstrap.
const BOOTSTRAP_FROM: usize = 50;
const RESAMPLES: usize = 2000;
/// Only the resampling of an interval; the numbers do not depend on a run's seed.
const SEED: u64 = 20_260;

pub(super) const HELD_OUT: &str = "held-out prompts: sampling error of the mean reward";
const TRAINED: &str = "training prompts: distance of their mean reward from the true one";
const WHOLE: &str = "whole error: objective of the run against true objective";

/// Shares of delta where a row has several uncertain parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeltaSplit {
    /// Sampling.
    pub sampling: f64,
    /// Error of the reward model on its own data.
    pub l2: f64,
    /// Importance weights.
    pub coverage: f64,
}

impl DeltaSplit {
    pub(super) fn of(statistics: &Statistics) -> Self {
        let delta = statistics.delta;
        let is_verified = statistics
            .held_out
            .as_ref()
            .is_none_or(|set| set.is_verified);
        if statistics.reward_errors.is_empty() && is_verified {
            return Self {
                sampling: delta,
                l2: 0.0,
                coverage: 0.0,
            };
        }
        Self {
            sampling: 0.5 * delta,
            l2: 0.25 * delta,
            coverage: 0.25 * delta,
        }
    }

    fn named(self) -> BTreeMap<&'static str, f64> {
        BTreeMap::from([
            ("sampling", self.sampling),
            ("l2", self.l2),
            ("coverage", self.coverage),
        ])
    }
}

/// The clip that makes the KL term of the objective bounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clip {
    pub kl_coef: f64,
    pub tau: f64,
}

impl Clip {
    /// The clip, if the objective has a KL term whose log-ratios are known.
    pub fn of(statistics: &Statistics, set: &Rollouts) -> Option<Self> {
        let tau = statistics.tau?;
        let kl_coef = statistics.kl_coef;
        (kl_coef > 0.0 && set.log_ratio_ref.is_some()).then_some(Self { kl_coef, tau })
    }
}

/// The report of these statistics.
///
/// # Errors
/// If a theorem refuses its input.
pub fn report(statistics: &Statistics) -> Result<Report, StatisticsError> {
    statistics.check()?;
    let split = DeltaSplit::of(statistics);
    let (held_out, train) = (&statistics.held_out, &statistics.train);
    let mut found = Report {
        delta: statistics.delta,
        delta_split: split.named(),
        held_out: held_out.as_ref().map(summary).transpose()?,
        train: train.as_ref().map(summary).transpose()?,
        measured_error: None,
        population_gap: None,
        parts: None,
        rows: Vec::new(),
        warnings: Vec::new(),
        advice: advice::advice(statistics)?,
    };
    if let Some(set) = held_out {
        held_out_rows(statistics, set, &mut found.rows)?;
        shift_rows::rows(statistics, set, split, &mut found.rows)?;
        clip_rows::rows(statistics, set, &mut found.rows)?;
        found.warnings = advice::warnings(set)?;
    }
    if let (Some(held_out), Some(train)) = (held_out, train) {
        let (error, parts) = measured_error(statistics, held_out, train)?;
        (found.measured_error, found.parts) = (Some(error), Some(parts.into()));
        found.population_gap = Some(population_gap(train, held_out)?);
    }
    if let Some(set) = train {
        let gap = held_out
            .as_ref()
            .map(|held_out| gap(set, held_out))
            .transpose()?;
        trained_rows(statistics, set, gap, &mut found.rows)?;
    }
    if let Some(set) = held_out {
        whole_rows(
            statistics,
            set,
            split,
            found.measured_error,
            &mut found.rows,
        )?;
    }
    Ok(found)
}

/// Names the theorem in an error.
pub(super) fn named<T>(
    name: &'static str,
    result: Result<T, BoundsError>,
) -> Result<T, StatisticsError> {
    result.map_err(|source| StatisticsError::Bound { name, source })
}

/// Mean of per-prompt means with its 95 % interval: t below 50 prompts, the prompt-cluster
/// bootstrap from there.
pub(super) fn measured(table: &Table) -> Result<Measured, StatisticsError> {
    let means = named("S6", table.rows())?.means();
    let (value, half) = named("S6", t_interval(&means, 0.95))?;
    let (low, high) = if means.len() < BOOTSTRAP_FROM {
        (value - half, value + half)
    } else {
        named("S6", cluster_bootstrap(&means, RESAMPLES, 0.95, SEED))?
    };
    Ok(Measured { value, low, high })
}

fn summary(set: &Rollouts) -> Result<SetSummary, StatisticsError> {
    let rows = named("rows", set.rewards.rows())?;
    let found = (rows.k() >= 2).then(|| anova(rows)).transpose();
    let found = named("anova", found)?;
    Ok(SetSummary {
        n: rows.n(),
        k: rows.k(),
        reward: measured(&set.rewards)?,
        sigma_r2: found.map(|it| it.sigma_r2),
        sigma_p2: found.map(|it| it.sigma_p2),
    })
}

/// What the held-out prompts were used for.
fn role(statistics: &Statistics) -> PromptRole {
    match statistics.candidates {
        Some(candidates) if candidates > 1 => PromptRole::Selected { candidates },
        _ => PromptRole::HeldOut,
    }
}

fn held_out_rows(
    statistics: &Statistics,
    set: &Rollouts,
    rows: &mut Vec<Row>,
) -> Result<(), StatisticsError> {
    let table = named("rows", set.rewards.rows())?;
    let delta = statistics.delta;
    // What stays of the mean's own error: the half-width that 95 % of errors stay below.
    let half = named("S6", t_interval(&table.means(), 0.95))?.1;
    let spread = Some(Measured {
        value: half,
        low: 0.0,
        high: half,
    });
    let sample = Sample::of_role(table, role(statistics));
    match sample.require_held_out() {
        Ok(sample) => fixed_rows(&sample, delta, spread, rows)?,
        Err(refusal) => {
            let candidates = statistics.candidates.unwrap_or(1) as f64;
            let reason = refusal.to_string();
            rows.push(Row::refused(HELD_OUT, "S1-S5", "fixed policy", &reason));
            let form = ClassForm::OneStep;
            let bound = certify_class(&sample, Range::UNIT, candidates.ln(), delta, form);
            let row = Row::of_bound(
                HELD_OUT,
                "best of the compared policies",
                &named("P3a", bound)?,
            );
            rows.push(
                row.beside(spread, false)
                    .noted("nats = log(policies compared)"),
            );
        }
    }
    let name = "t interval";
    let estimate = named("S6", Bound::estimate("S6", half))?;
    let note = "95 % interval, an estimate and no guarantee";
    rows.push(
        Row::of_bound(HELD_OUT, name, &estimate)
            .beside(spread, false)
            .noted(note),
    );
    Ok(())
}

fn fixed_rows(
    sample: &Sample<'_, HeldOut>,
    delta: f64,
    spread: Option<Measured>,
    rows: &mut Vec<Row>,
) -> Result<(), StatisticsError> {
    for (method, name) in [
        (Method::Paper, "published rate"),
        (Method::Direct, "Hoeffding, direct"),
        (Method::Eb, "empirical Bernstein"),
        (Method::Kl, "Bernoulli KL"),
        (Method::Betting, "betting"),
    ] {
        let bound = named(
            method.id(),
            certify_fixed(sample, Range::UNIT, delta, method),
        )?;
        rows.push(Row::of_bound(HELD_OUT, name, &bound).beside(spread, false));
    }
    let best = named("S2-S5", certify_fixed_best(sample, Range::UNIT, delta))?;
    let row = Row::of_bound(HELD_OUT, "all four at a quarter of delta", &best);
    rows.push(row.beside(spread, false));
    let parts = OneSided {
        reward: Bound::zero("R0"),
        kl_coef: 0.0,
        tau: 0.0,
    };
    let lowest = floor(sample, &parts, &Bound::zero("C0"), delta);
    let row = Row::of_bound(
        HELD_OUT,
        "the mean reward is truly at least",
        &named("S7", lowest)?,
    );
    let mean = named("S7", t_interval(&sample.rows().means(), 0.95))?;
    let mean = Measured {
        value: mean.0,
        low: mean.0 - mean.1,
        high: mean.0 + mean.1,
    };
    rows.push(
        row.beside(Some(mean), false)
            .noted("a floor beside the measured mean"),
    );
    Ok(())
}

/// Mean training reward minus mean held-out reward, interval from the held-out prompts alone: the
/// training mean is a number that was realised, only the true mean is unknown.
fn gap(train: &Rollouts, held_out: &Rollouts) -> Result<Measured, StatisticsError> {
    let mean = named("rows", train.rewards.rows())?.mean();
    let other = measured(&held_out.rewards)?;
    Ok(Measured {
        value: mean - other.value,
        low: mean - other.high,
        high: mean - other.low,
    })
}

/// The gap between the two populations, with the t half-widths of both sides added in squares.
fn population_gap(train: &Rollouts, held_out: &Rollouts) -> Result<Measured, StatisticsError> {
    let side = |set: &Rollouts| {
        let means = named("rows", set.rewards.rows())?.means();
        named("S6", t_interval(&means, 0.95))
    };
    let ((train, one), (held_out, other)) = (side(train)?, side(held_out)?);
    let (value, half) = (train - held_out, one.hypot(other));
    Ok(Measured {
        value,
        low: value - half,
        high: value + half,
    })
}

fn trained_rows(
    statistics: &Statistics,
    set: &Rollouts,
    gap: Option<Measured>,
    rows: &mut Vec<Row>,
) -> Result<(), StatisticsError> {
    let sample = Sample::trained(named("rows", set.rewards.rows())?);
    let Err(refusal) = Sample::of_role(sample.rows(), PromptRole::Trained).require_held_out()
    else {
        unreachable!("training prompts are never held out");
    };
    let refused = Row::refused(TRAINED, "S1-S5", "fixed policy", &refusal.to_string());
    rows.push(refused.beside(gap, true));
    let Some(complexity) = statistics.complexity else {
        return Ok(());
    };
    if let Complexity::Posterior { kl, rollouts } = complexity {
        return posterior_rows(statistics.delta, &sample, kl, rollouts, gap, rows);
    }
    let Some(nats) = named("complexity", complexity.nats())? else {
        return Ok(());
    };
    for (form, name) in [
        (ClassForm::OneStep, "finite class, one step"),
        (ClassForm::TwoRoot, "finite class, fresh rollouts"),
        (ClassForm::Kl, "finite class, KL form"),
        (ClassForm::KlOneSided, "finite class, KL form, floor"),
    ] {
        let bound = certify_class(&sample, Range::UNIT, nats, statistics.delta, form);
        let row = Row::of_bound(TRAINED, name, &named(form.id(), bound)?);
        rows.push(row.beside(gap, true));
    }
    Ok(())
}

/// PAC-Bayes: forms that fit what the rollouts were drawn from.
fn posterior_rows(
    delta: f64,
    sample: &Sample<'_, Trained>,
    kl: f64,
    rollouts: PosteriorRollouts,
    gap: Option<Measured>,
    rows: &mut Vec<Row>,
) -> Result<(), StatisticsError> {
    let fresh = [
        (
            PacBayesForm::Published,
            "PAC-Bayes, published structure (reconstructed)",
        ),
        (PacBayesForm::OneStep, "PAC-Bayes, one step"),
        (PacBayesForm::FreshRollouts, "PAC-Bayes, fresh rollouts"),
    ];
    let single = [(PacBayesForm::SingleDraw, "PAC-Bayes, the one draw deployed")];
    let (forms, posterior): (&[(PacBayesForm, &str)], _) = match rollouts {
        PosteriorRollouts::FreshDraws => (&fresh, Posterior::Defined),
        PosteriorRollouts::SingleDraw => (&single, Posterior::Defined),
        PosteriorRollouts::Estimated => (&fresh, Posterior::Estimated),
    };
    for &(form, name) in forms {
        let bound = certify_pac_bayes(sample, Range::UNIT, kl, delta, form, posterior);
        let row = Row::of_bound(TRAINED, name, &named(form.id(), bound)?);
        rows.push(row.beside(gap, true));
    }
    Ok(())
}

/// Scores of the objective: reward, minus the clipped KL term if there is one.
fn scores(set: &Rollouts, clip: Option<Clip>) -> Table {
    match (clip, &set.log_ratio_ref) {
        (Some(Clip { kl_coef, tau }), Some(l)) => set
            .rewards
            .zip(l, |reward, l| reward - kl_coef * l.clamp(-tau, tau)),
        _ => set.rewards.clone(),
    }
}

fn measured_error(
    statistics: &Statistics,
    held_out: &Rollouts,
    train: &Rollouts,
) -> Result<(Measured, rlvr_bounds::Decomposition), StatisticsError> {
    let clip = Clip::of(statistics, held_out).and(Clip::of(statistics, train));
    let j_hat = named("rows", scores(train, clip).rows())?.mean();
    let kl_coef = clip.map_or(0.0, |clip| clip.kl_coef);
    let l = held_out.log_ratio_ref.as_ref().filter(|_| clip.is_some());
    let l = l.map_or_else(|| held_out.rewards.map(|_| 0.0), Table::clone);
    let target = held_out.truth.zip(&l, |truth, l| truth - kl_coef * l);
    let target = measured(&target)?;
    let scored = Scored {
        reward: &held_out.rewards.data,
        truth: &held_out.truth.data,
        log_ratio: &l.data,
    };
    let tau = clip.map_or(0.0, |clip| clip.tau);
    let parts = named("decomposition", decompose(j_hat, scored, tau, kl_coef))?;
    let error = Measured {
        value: j_hat - target.value,
        low: j_hat - target.high,
        high: j_hat - target.low,
    };
    Ok((error, parts))
}

/// Theorem 1 and its direct form, with the best reward-shift and clip terms that are known.
fn whole_rows(
    statistics: &Statistics,
    set: &Rollouts,
    split: DeltaSplit,
    error: Option<Measured>,
    rows: &mut Vec<Row>,
) -> Result<(), StatisticsError> {
    let Ok(_) =
        Sample::of_role(named("rows", set.rewards.rows())?, role(statistics)).require_held_out()
    else {
        return Ok(());
    };
    let clip = Clip::of(statistics, set);
    let table = scores(set, clip);
    let sample = Sample::held_out(named("rows", table.rows())?);
    let range = match clip {
        Some(clip) => named("range", Range::clipped(clip.kl_coef, clip.tau))?,
        None => Range::UNIT,
    };
    let clip_term = clip_rows::term(clip, set)?;
    let note =
        "its sampling part covers the held-out mean; beside it stands the training objective";
    for (name, rate, is_published) in [
        ("Theorem 1 as published", Rate::Published, true),
        ("the same, direct and certified parts", Rate::Direct, false),
    ] {
        let shift = shift_rows::term(statistics, set, split, is_published)?;
        let bound = theorem1(
            &sample,
            range,
            shift,
            clip_term.clone(),
            split.sampling,
            rate,
        );
        let total = named("T1", bound)?.total;
        rows.push(
            Row::of_bound(WHOLE, name, &total)
                .beside(error, false)
                .noted(note),
        );
    }
    Ok(())
}

/// The values of a table as a distribution.
pub(super) fn distribution(table: &Table) -> Result<Distribution<'_>, StatisticsError> {
    named("sample", Distribution::sample(&table.data))
}
