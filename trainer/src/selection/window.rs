//! Is the gate still at the learning edge? Correlations and shares over the latest steps.
//!
//! Groups that were rolled out are only the kept part of a pool, so what they show is restricted
//! to it; audits of rejected prompts show the rest. What is undefined is `null`.

use rlvr_core::spearman;
use serde::{Deserialize, Serialize};

use super::audit_config::AuditConfig;
use super::record::{GroupRecord, GroupSource};
use rlvr_core::GroupKind;

/// A scored group of the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupPoint {
    /// Why it was rolled out.
    pub source: GroupSource,
    /// True if its rewards differ.
    pub is_mixed: bool,
    /// Right completions by all.
    pub pass_rate: f64,
    /// Response entropy, nats.
    pub response_entropy: f64,
    /// Prompt entropy, nats.
    pub prompt_entropy: f64,
    /// Prompt entropy over the question's tokens.
    pub question_entropy: Option<f64>,
    /// Prompt length, tokens.
    pub prompt_tokens: u64,
    /// Quartile of the prompt entropy in its pool; 1 is the highest.
    pub quartile: u8,
}

/// A scored prompt of a pool, rolled out or not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolPoint {
    /// Prompt entropy, nats.
    pub prompt_entropy: f64,
    /// Prompt length, tokens.
    pub prompt_tokens: u64,
}

/// What one step adds to the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowStep {
    /// Groups that were rolled out and scored, audited ones included.
    pub groups: Vec<GroupPoint>,
    /// All prompts of the pools.
    pub pool: Vec<PoolPoint>,
}

impl WindowStep {
    /// The scored groups among some records.
    pub fn new(records: &[GroupRecord], pool: Vec<PoolPoint>) -> Self {
        let point = |record: &GroupRecord| {
            Some(GroupPoint {
                source: record.source,
                is_mixed: record.kind == GroupKind::Mixed,
                pass_rate: record.pass_rate,
                response_entropy: record.response_entropy,
                prompt_entropy: record.prompt_entropy?,
                question_entropy: record.question_entropy,
                prompt_tokens: record.prompt_tokens,
                quartile: record.quartile?,
            })
        };
        Self {
            groups: records.iter().filter_map(point).collect(),
            pool,
        }
    }
}

/// Correlations and shares of some steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EdgeStats {
    /// Kept groups.
    pub num_kept: u64,
    /// Audited groups.
    pub num_audited: u64,
    /// Prompts of the pools.
    pub num_pool: u64,
    /// Rank correlation of prompt entropy with response entropy, all groups.
    pub entropy_to_response_entropy: Option<f64>,
    /// Rank correlation of prompt entropy with pass rate, all groups.
    pub entropy_to_pass_rate: Option<f64>,
    /// Rank correlation of prompt entropy with prompt length, all groups.
    pub entropy_to_prompt_tokens: Option<f64>,
    /// Rank correlation of prompt entropy with that of the question alone, all groups.
    pub entropy_to_question_entropy: Option<f64>,
    /// Rank correlation of prompt entropy with prompt length over the pools.
    pub pool_entropy_to_prompt_tokens: Option<f64>,
    /// Groups by quartile of prompt entropy, highest first.
    pub quartile_groups: [u64; 4],
    /// Share of mixed groups by quartile.
    pub quartile_mixed_frac: [Option<f64>; 4],
    /// Share of mixed groups among the kept.
    pub kept_mixed_frac: Option<f64>,
    /// Share of mixed groups among the audited.
    pub audited_mixed_frac: Option<f64>,
    /// Mean distance of the pass rate from one half among the kept.
    pub kept_edge_distance: Option<f64>,
    /// The same among the audited.
    pub audited_edge_distance: Option<f64>,
}

impl EdgeStats {
    /// The statistics of some steps; none if nothing was scored in them.
    pub fn of<'a>(steps: impl IntoIterator<Item = &'a WindowStep>) -> Option<Self> {
        let (mut groups, mut pool) = (Vec::new(), Vec::new());
        for step in steps {
            groups.extend(&step.groups);
            pool.extend(&step.pool);
        }
        (!pool.is_empty()).then(|| Self::of_points(&groups, &pool))
    }

    fn of_points(groups: &[&GroupPoint], pool: &[&PoolPoint]) -> Self {
        let of = |source: GroupSource| {
            let chosen = groups.iter().filter(move |it| it.source == source);
            chosen.copied().collect::<Vec<&GroupPoint>>()
        };
        let (kept, audited) = (of(GroupSource::Kept), of(GroupSource::Audit));
        let entropies: Vec<f64> = groups.iter().map(|it| it.prompt_entropy).collect();
        let against = |value: &dyn Fn(&GroupPoint) -> f64| {
            let values: Vec<f64> = groups.iter().map(|it| value(it)).collect();
            spearman(&entropies, &values)
        };
        let quartile = |number: usize| {
            let chosen = groups
                .iter()
                .filter(|it| usize::from(it.quartile) == number + 1);
            chosen.copied().collect::<Vec<&GroupPoint>>()
        };
        let pool_entropies: Vec<f64> = pool.iter().map(|it| it.prompt_entropy).collect();
        let pool_tokens: Vec<f64> = pool.iter().map(|it| it.prompt_tokens as f64).collect();
        Self {
            num_kept: kept.len() as u64,
            num_audited: audited.len() as u64,
            num_pool: pool.len() as u64,
            entropy_to_response_entropy: against(&|it| it.response_entropy),
            entropy_to_pass_rate: against(&|it| it.pass_rate),
            entropy_to_prompt_tokens: against(&|it| it.prompt_tokens as f64),
            // One question without an entropy leaves the correlation undefined.
            entropy_to_question_entropy: against(&|it| it.question_entropy.unwrap_or(f64::NAN)),
            pool_entropy_to_prompt_tokens: spearman(&pool_entropies, &pool_tokens),
            quartile_groups: core::array::from_fn(|number| quartile(number).len() as u64),
            quartile_mixed_frac: core::array::from_fn(|number| mixed_frac(&quartile(number))),
            kept_mixed_frac: mixed_frac(&kept),
            audited_mixed_frac: mixed_frac(&audited),
            kept_edge_distance: edge_distance(&kept),
            audited_edge_distance: edge_distance(&audited),
        }
    }

    /// One-sided z of the mixed share of audited over that of kept groups, with the pooled share
    /// in the variance.
    fn worse_half_z(&self) -> Option<f64> {
        let (kept, audited) = (self.num_kept as f64, self.num_audited as f64);
        let (kept_frac, audited_frac) = (self.kept_mixed_frac?, self.audited_mixed_frac?);
        let pooled = (kept_frac * kept + audited_frac * audited) / (kept + audited);
        let variance = pooled * (1.0 - pooled) * (1.0 / kept + 1.0 / audited);
        (variance > 0.0).then(|| (audited_frac - kept_frac) / variance.sqrt())
    }
}

fn mixed_frac(groups: &[&GroupPoint]) -> Option<f64> {
    let mixed = groups.iter().filter(|it| it.is_mixed).count();
    (!groups.is_empty()).then(|| mixed as f64 / groups.len() as f64)
}

fn edge_distance(groups: &[&GroupPoint]) -> Option<f64> {
    let sum: f64 = groups.iter().map(|it| (it.pass_rate - 0.5).abs()).sum();
    (!groups.is_empty()).then(|| sum / groups.len() as f64)
}

/// What the window says against the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// Rejected prompts are mixed more often than kept ones.
    GatePicksTheWorseHalf,
    /// Prompt entropy does not rank response entropy.
    ProxyLost,
    /// Kept prompts are farther from a pass rate of one half than rejected ones.
    MovingAwayFromTheEdge,
    /// Prompt entropy is prompt length.
    GateSelectsLength,
}

impl core::fmt::Display for Warning {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::GatePicksTheWorseHalf => {
                "the gate picks the worse half: prompts it rejects are mixed more often than those \
                 it keeps"
            }
            Self::ProxyLost => {
                "prompt entropy does not rank response entropy: the gate's proxy is lost"
            }
            Self::MovingAwayFromTheEdge => {
                "the gate moves away from the edge: the prompts it keeps are farther from a pass \
                 rate of one half than those it rejects"
            }
            Self::GateSelectsLength => "the gate selects by prompt length",
        })
    }
}

/// The warnings that hold for a window.
pub fn warnings(window: &EdgeStats, config: &AuditConfig) -> Vec<Warning> {
    let groups = window.num_kept + window.num_audited;
    let distances = window
        .kept_edge_distance
        .zip(window.audited_edge_distance)
        .map(|(kept, audited)| kept - audited);
    let length = window.pool_entropy_to_prompt_tokens;
    let checks = [
        (
            Warning::GatePicksTheWorseHalf,
            window
                .worse_half_z()
                .is_some_and(|z| z > config.worse_half_z),
        ),
        (
            Warning::ProxyLost,
            groups >= config.proxy_min_groups as u64
                && window
                    .entropy_to_response_entropy
                    .is_some_and(|it| it <= 0.0),
        ),
        (
            Warning::MovingAwayFromTheEdge,
            distances.is_some_and(|it| it > config.edge_distance),
        ),
        (
            Warning::GateSelectsLength,
            length.is_some_and(|it| it.abs() > config.length_correlation),
        ),
    ];
    let holding = checks.into_iter().filter(|(_, holds)| *holds);
    holding.map(|(warning, _)| warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(source: GroupSource, entropy: f64, pass_rate: f64) -> GroupPoint {
        GroupPoint {
            source,
            is_mixed: pass_rate > 0.0 && pass_rate < 1.0,
            pass_rate,
            response_entropy: entropy * 2.0,
            prompt_entropy: entropy,
            question_entropy: None,
            prompt_tokens: 10,
            quartile: if entropy > 2.0 { 1 } else { 3 },
        }
    }

    fn step(groups: Vec<GroupPoint>) -> WindowStep {
        let pool = groups.iter().map(|it| PoolPoint {
            prompt_entropy: it.prompt_entropy,
            prompt_tokens: (100.0 * it.prompt_entropy) as u64,
        });
        WindowStep {
            pool: pool.collect(),
            groups,
        }
    }

    #[test]
    fn shares_and_correlations_of_a_window() {
        use GroupSource::{Audit, Kept};
        let steps = [
            step(vec![point(Kept, 3.0, 1.0), point(Kept, 2.5, 1.0)]),
            step(vec![point(Kept, 1.0, 0.5), point(Audit, 0.5, 0.25)]),
        ];
        let found = EdgeStats::of(&steps).unwrap();
        assert_eq!(
            (found.num_kept, found.num_audited, found.num_pool),
            (3, 1, 4)
        );
        assert_eq!(found.entropy_to_response_entropy, Some(1.0));
        assert!(found.entropy_to_pass_rate.unwrap() > 0.9);
        assert_eq!(found.entropy_to_prompt_tokens, None);
        assert_eq!(found.entropy_to_question_entropy, None);
        assert_eq!(found.pool_entropy_to_prompt_tokens, Some(1.0));
        assert_eq!(found.quartile_groups, [2, 0, 2, 0]);
        assert_eq!(
            found.quartile_mixed_frac,
            [Some(0.0), None, Some(1.0), None]
        );
        assert_eq!(found.kept_mixed_frac, Some(1.0 / 3.0));
        assert_eq!(found.audited_edge_distance, Some(0.25));
        assert_eq!(EdgeStats::of(&[WindowStep::default()]), None);
    }

    #[test]
    fn every_warning_has_its_condition() {
        let quiet = EdgeStats {
            num_kept: 60,
            num_audited: 30,
            num_pool: 100,
            entropy_to_response_entropy: Some(0.3),
            kept_mixed_frac: Some(0.5),
            audited_mixed_frac: Some(0.5),
            kept_edge_distance: Some(0.2),
            audited_edge_distance: Some(0.2),
            pool_entropy_to_prompt_tokens: Some(-0.6),
            ..EdgeStats::default()
        };
        let config = AuditConfig::default();
        let found = |change: fn(&mut EdgeStats)| {
            let mut stats = quiet.clone();
            change(&mut stats);
            warnings(&stats, &config)
        };
        assert_eq!(found(|_| ()), []);
        assert_eq!(
            found(|it| it.audited_mixed_frac = Some(0.75)),
            [Warning::GatePicksTheWorseHalf]
        );
        // z is 1.44 here.
        assert_eq!(found(|it| it.audited_mixed_frac = Some(0.66)), []);
        assert_eq!(
            found(|it| it.entropy_to_response_entropy = Some(0.0)),
            [Warning::ProxyLost]
        );
        assert_eq!(
            found(|it| {
                it.entropy_to_response_entropy = Some(-0.5);
                it.num_kept = 10;
            }),
            []
        );
        assert_eq!(
            found(|it| it.kept_edge_distance = Some(0.26)),
            [Warning::MovingAwayFromTheEdge]
        );
        assert_eq!(
            found(|it| it.pool_entropy_to_prompt_tokens = Some(-0.71)),
            [Warning::GateSelectsLength]
        );
        let empty = warnings(&EdgeStats::default(), &config);
        assert_eq!(empty, []);
    }
}
