//! The loss of the GRPO family: composes the other modules, adds no maths.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::aggregate::{Aggregation, Denominators, aggregate};
use crate::error::{ConfigError, check_number};
use crate::importance::{ImportanceCorrection, ImportanceWeights, importance_weights};
use crate::kl::{ClipLevel, KlEstimator, KlPenalty, KlTerms, LossKl, estimate, kl_terms};
use crate::mask::{as_float, fill_outside, masked_sum, row_lengths};
use crate::ratio::{RatioLevel, log_ratio, ratio, sequence_log_ratio};
use crate::shape::{expect_axis, expect_same};
use crate::sums::PendingSums;
use crate::surrogate::{Surrogate, SurrogateTerms, surrogate};

/// Everything a loss of the GRPO family leaves open.
///
/// The default is DAPO's token mean with clip-higher and no KL term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoLossConfig {
    /// One ratio per token or per sequence.
    pub ratio_level: RatioLevel,
    /// Clipped surrogate or CISPO.
    pub surrogate: Surrogate,
    /// From tokens to one number.
    pub aggregation: Aggregation,
    /// KL penalty against the reference in the loss; none by default.
    pub kl: Option<KlPenalty<LossKl>>,
    /// Weight of the entropy bonus; 0 by default.
    pub entropy_coef: f64,
    /// Correction of the sampler-trainer gap; none by default.
    pub importance: Option<ImportanceCorrection>,
}

impl GrpoLossConfig {
    /// DAPO (arXiv 2503.14476): token mean, clip-higher, no KL. The default.
    pub fn dapo() -> Self {
        Self::default()
    }

    /// GRPO (DeepSeekMath, arXiv 2402.03300): sequence mean, symmetric clip, k3 penalty 0.04.
    pub fn grpo() -> Self {
        Self {
            surrogate: symmetric_clip(0.2),
            aggregation: Aggregation::SequenceMean,
            kl: Some(KlPenalty {
                coef: 0.04,
                estimator: LossKl::K3,
                clip: None,
            }),
            ..Self::default()
        }
    }

    /// Dr. GRPO (arXiv 2503.20783): constant length `max_tokens`, symmetric clip, no KL. To be
    /// used with advantages that are not scaled.
    pub fn dr_grpo(max_tokens: usize) -> Self {
        Self {
            surrogate: symmetric_clip(0.2),
            aggregation: Aggregation::FixedLength { tokens: max_tokens },
            ..Self::default()
        }
    }

    /// BNPO (arXiv 2506.02864, as implemented by TRL): token mean of each micro-batch.
    pub fn bnpo() -> Self {
        Self {
            surrogate: symmetric_clip(0.2),
            aggregation: Aggregation::LocalTokenMean,
            ..Self::default()
        }
    }

    /// GSPO (arXiv 2507.18071): sequence-level ratio with its much tighter clip, sequence mean.
    pub fn gspo() -> Self {
        Self {
            ratio_level: RatioLevel::Sequence,
            surrogate: Surrogate::Clipped {
                clip_low: 3e-4,
                clip_high: 4e-4,
                dual_clip: None,
            },
            aggregation: Aggregation::SequenceMean,
            ..Self::default()
        }
    }

    /// CISPO (arXiv 2506.13585): weight bounded above by `1 + clip_high`, not below; token mean.
    pub fn cispo(clip_high: f64) -> Self {
        Self {
            surrogate: Surrogate::Cispo {
                clip_low: None,
                clip_high,
            },
            ..Self::default()
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the key relative to this section.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.surrogate
            .validate()
            .map_err(|e| e.within("surrogate"))?;
        self.aggregation
            .validate()
            .map_err(|e| e.within("aggregation"))?;
        if let Some(kl) = &self.kl {
            kl.validate_in_loss().map_err(|e| e.within("kl"))?;
        }
        if let Some(importance) = &self.importance {
            importance.validate().map_err(|e| e.within("importance"))?;
        }
        check_number("entropy_coef", self.entropy_coef, "a finite number", |_| {
            true
        })
    }

    /// The loss of this configuration.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(self) -> Result<GrpoLoss, ConfigError> {
        self.validate()?;
        Ok(GrpoLoss { config: self })
    }
}

/// PPO's clip with equal sides and no dual clip.
fn symmetric_clip(clip: f64) -> Surrogate {
    Surrogate::Clipped {
        clip_low: clip,
        clip_high: clip,
        dual_clip: None,
    }
}

/// The rows of one micro-batch. Anything may stand outside `completion_mask`, NaN included.
#[derive(Clone, Debug)]
pub struct GrpoBatch {
    /// Under the trained weights, `[N, C]`; the only log-probs with gradient.
    pub policy_logprobs: Tensor<2>,
    /// Under the weights at the start of the step, `[N, C]`; on the first inner step the
    /// detached policy's own.
    pub old_logprobs: Tensor<2>,
    /// Under the frozen reference, `[N, C]`; needed by a KL penalty.
    pub ref_logprobs: Option<Tensor<2>>,
    /// [`exact_kl`](crate::exact_kl()) at each position, `[N, C]`, `values` tracked; needed by a
    /// penalty of the exact KL.
    pub exact_kl: Option<KlTerms>,
    /// As reported by decoding, `[N, C]`; needed by an importance correction.
    pub sampler_logprobs: Option<Tensor<2>>,
    /// Exact token entropies of the policy, `[N, C]`, tracked; needed by an entropy bonus.
    pub entropies: Option<Tensor<2>>,
    /// One advantage per row, `[N]`.
    pub advantages: Tensor<1>,
    /// Subtracted from the advantage of each token, `[N, C]`: a KL penalty in the reward at token
    /// level, see [`penalty_to_go`](crate::penalty::penalty_to_go).
    pub token_penalties: Option<Tensor<2>>,
    /// True where a position counts: up to and including the end token, `[N, C]`.
    pub completion_mask: Tensor<2, Bool>,
}

/// A loss and what its metrics need.
#[derive(Clone, Debug)]
pub struct GrpoLossOutput {
    /// To be minimised, `[1]`, tracked; the losses of a batch's micro-batches add up.
    pub loss: Tensor<1>,
    /// Untracked; one read brings all of them to the host.
    pub sums: PendingSums,
}

/// A validated loss.
#[derive(Clone, Debug)]
pub struct GrpoLoss {
    config: GrpoLossConfig,
}

impl GrpoLoss {
    /// The configuration with its current coefficients.
    pub fn config(&self) -> &GrpoLossConfig {
        &self.config
    }

    /// Sets the KL coefficient, as an adaptive controller does; nothing without a KL term.
    pub fn set_kl_coef(&mut self, coef: f64) {
        if let Some(kl) = &mut self.config.kl {
            kl.coef = coef;
        }
    }

    /// Sets the entropy coefficient, as an adaptive controller does.
    pub fn set_entropy_coef(&mut self, coef: f64) {
        self.config.entropy_coef = coef;
    }

    /// The loss of one micro-batch of a batch with the given denominators.
    ///
    /// ```text
    /// loss = agg(-w v) + kl_coef agg(KL(policy‖ref)) - entropy_coef agg(H)
    /// ```
    ///
    /// with v the [`surrogate`], w the [`importance_weights`] (1 without a correction), agg the
    /// [`aggregate`]; citations there.
    ///
    /// Gradient: to `policy_logprobs`, `entropies` and the values of `exact_kl`, zero outside the
    /// mask.
    ///
    /// # Shapes
    ///
    /// - see [`GrpoBatch`]; the loss is `[1]`
    ///
    /// # Panics
    ///
    /// If shapes differ, or a tensor is missing that the configuration needs: `ref_logprobs` for
    /// a KL penalty, `exact_kl` for one of the exact KL, `sampler_logprobs` for an importance
    /// correction, `entropies` for an entropy coefficient other than 0.
    pub fn forward(&self, batch: GrpoBatch, denominators: Denominators) -> GrpoLossOutput {
        check_shapes(&batch);
        let mask = batch.completion_mask.clone();
        let total = |values| aggregate(values, mask.clone(), self.config.aggregation, denominators);
        let mut sums = zero_sums(&batch);

        let policy_loss = total(self.policy_terms(&batch, &mut sums)).neg();
        sums.policy_loss = policy_loss.clone().inner();
        let mut loss = policy_loss;
        record_reference(&batch, &mut sums);
        if let Some(penalty) = self.config.kl {
            let kl_loss = total(kl_penalty_terms(&batch, penalty, &mut sums)) * penalty.coef;
            sums.kl_loss = kl_loss.clone().inner();
            loss = loss + kl_loss;
        }
        let entropy_coef = self.config.entropy_coef;
        if let Some(entropies) = batch.entropies {
            sums.entropy_sum = masked_sum(entropies.clone().inner(), mask.clone().inner());
            if entropy_coef != 0.0 {
                let entropy_loss = total(entropies) * -entropy_coef;
                sums.entropy_loss = entropy_loss.clone().inner();
                loss = loss + entropy_loss;
            }
        } else {
            assert!(
                entropy_coef == 0.0,
                "`entropies` are missing, but entropy_coef is not 0"
            );
        }
        GrpoLossOutput { loss, sums }
    }

    /// Surrogate per token times its importance weight, `[N, C]`.
    fn policy_terms(&self, batch: &GrpoBatch, sums: &mut PendingSums) -> Tensor<2> {
        let mask = batch.completion_mask.clone();
        let policy = fill_outside(batch.policy_logprobs.clone(), mask.clone(), 0.0);
        let old = batch.old_logprobs.clone().inner();
        let token_log_ratio = log_ratio(policy.clone(), old, mask.clone());
        record_drift(token_log_ratio.clone().inner(), &mask, sums);
        let used_log_ratio = match self.config.ratio_level {
            RatioLevel::Token => token_log_ratio,
            RatioLevel::Sequence => sequence_log_ratio(token_log_ratio, mask.clone()),
        };
        record_ratio(used_log_ratio.clone().inner(), &mask, sums);
        let advantages = token_advantages(batch);
        let terms = surrogate(self.config.surrogate, used_log_ratio, policy, advantages);
        record_clips(&terms, &mask, sums);
        record_sampler_gap(batch, sums);
        match self.config.importance {
            None => terms.values,
            Some(correction) => terms.values * importance(batch, correction, sums),
        }
    }
}

/// The advantage of each token, `[N, C]`, untracked.
fn token_advantages(batch: &GrpoBatch) -> Tensor<2> {
    let advantages: Tensor<2> = batch.advantages.clone().inner().unsqueeze_dim(1);
    let advantages = advantages.expand(batch.policy_logprobs.dims());
    match &batch.token_penalties {
        None => advantages,
        Some(penalties) => {
            let mask = batch.completion_mask.clone().inner();
            advantages - fill_outside(penalties.clone().inner(), mask, 0.0)
        }
    }
}

/// Bounded importance weights, `[N, C]`.
fn importance(
    batch: &GrpoBatch,
    correction: ImportanceCorrection,
    sums: &mut PendingSums,
) -> Tensor<2> {
    let Some(sampler) = batch.sampler_logprobs.clone() else {
        panic!("`sampler_logprobs` are missing, but an importance correction is configured");
    };
    let mask = batch.completion_mask.clone().inner();
    let ImportanceWeights {
        weights,
        is_bounded,
    } = importance_weights(
        batch.old_logprobs.clone(),
        sampler,
        mask.clone(),
        correction,
    );
    sums.importance_weight_sum = masked_sum(weights.clone(), mask.clone());
    sums.importance_bounded_tokens = count(is_bounded.bool_and(mask), &weights);
    weights
}

/// The penalty's KL per token, `[N, C]`, with the sums of what its clip did.
fn kl_penalty_terms(
    batch: &GrpoBatch,
    penalty: KlPenalty<LossKl>,
    sums: &mut PendingSums,
) -> Tensor<2> {
    let mask = batch.completion_mask.clone();
    let KlTerms {
        values,
        clip_biases,
        clip_excesses,
        clip_counts,
    } = match penalty.estimator.sampled() {
        Some(estimator) => sampled_kl_terms(batch, estimator, penalty),
        None => exact_kl_terms(batch),
    };
    let is_per_sequence = penalty
        .clip
        .is_some_and(|clip| clip.level == ClipLevel::Sequence);
    sums.num_kl_terms = if is_per_sequence {
        row_lengths(mask, &values).clamp_max(1.0).sum()
    } else {
        sums.num_tokens.clone()
    };
    sums.kl_policy_ref_sum = values.clone().inner().sum();
    sums.num_kl_clipped = clip_counts.sum();
    sums.kl_clip_bias_sum = clip_biases.sum();
    sums.kl_clip_excess_sum = clip_excesses.sum();
    values
}

/// An estimate from the log-ratio of each sampled token.
fn sampled_kl_terms(
    batch: &GrpoBatch,
    estimator: KlEstimator,
    penalty: KlPenalty<LossKl>,
) -> KlTerms {
    let Some(reference) = batch.ref_logprobs.clone() else {
        panic!("`ref_logprobs` are missing, but a KL penalty is configured");
    };
    let (policy, mask) = (batch.policy_logprobs.clone(), batch.completion_mask.clone());
    let log_r = log_ratio(reference.inner(), policy, mask.clone());
    kl_terms(log_r, mask, estimator, penalty.clip)
}

/// The divergence at each position, made safe outside the mask.
fn exact_kl_terms(batch: &GrpoBatch) -> KlTerms {
    let Some(exact) = batch.exact_kl.clone() else {
        panic!("`exact_kl` is missing, but a penalty of the exact KL is configured");
    };
    let mask = batch.completion_mask.clone();
    let untracked = |x: Tensor<2>| fill_outside(x.inner(), mask.clone().inner(), 0.0);
    KlTerms {
        values: fill_outside(exact.values, mask.clone(), 0.0),
        clip_biases: untracked(exact.clip_biases),
        clip_excesses: untracked(exact.clip_excesses),
        clip_counts: untracked(exact.clip_counts),
    }
}

fn record_drift(log_r: Tensor<2>, mask: &Tensor<2, Bool>, sums: &mut PendingSums) {
    let mask = mask.clone().inner();
    let k1 = estimate(log_r.clone(), KlEstimator::K1);
    sums.kl_old_policy_k1_sum = masked_sum(k1, mask.clone());
    sums.kl_old_policy_k3_sum = masked_sum(estimate(log_r, KlEstimator::K3), mask);
}

fn record_ratio(log_ratio: Tensor<2>, mask: &Tensor<2, Bool>, sums: &mut PendingSums) {
    let mask = mask.clone().inner();
    let ratio = ratio(log_ratio);
    sums.ratio_sum = masked_sum(ratio.clone(), mask.clone());
    sums.ratio_min = fill_outside(ratio.clone(), mask.clone(), f64::INFINITY).min();
    sums.ratio_max = fill_outside(ratio, mask, f64::NEG_INFINITY).max();
}

fn record_clips(terms: &SurrogateTerms, mask: &Tensor<2, Bool>, sums: &mut PendingSums) {
    let counted = |is_clipped: &Tensor<2, Bool>| {
        count(
            is_clipped.clone().bool_and(mask.clone().inner()),
            &terms.values,
        )
    };
    sums.clip_low_tokens = counted(&terms.is_clipped_low);
    sums.clip_high_tokens = counted(&terms.is_clipped_high);
}

fn record_sampler_gap(batch: &GrpoBatch, sums: &mut PendingSums) {
    let Some(sampler) = batch.sampler_logprobs.clone() else {
        return;
    };
    let mask = batch.completion_mask.clone().inner();
    let old = batch.old_logprobs.clone().inner();
    let gap = log_ratio(old, sampler.inner(), mask.clone()).abs();
    sums.sampler_gap_sum = gap.clone().sum();
    sums.sampler_gap_max = fill_outside(gap, mask, f64::NEG_INFINITY).max();
}

fn record_reference(batch: &GrpoBatch, sums: &mut PendingSums) {
    let Some(reference) = batch.ref_logprobs.clone() else {
        return;
    };
    let mask = batch.completion_mask.clone().inner();
    let policy = batch.policy_logprobs.clone().inner();
    let log_r = log_ratio(reference.inner(), policy, mask);
    sums.kl_policy_ref_k1_sum = estimate(log_r.clone(), KlEstimator::K1).sum();
    sums.kl_policy_ref_k3_sum = estimate(log_r, KlEstimator::K3).sum();
}

/// Number of true positions, `[1]`.
fn count(mask: Tensor<2, Bool>, like: &Tensor<2>) -> Tensor<1> {
    as_float(mask, like).sum()
}

/// All sums zero (extremes at their neutral value), with the token count filled in.
fn zero_sums(batch: &GrpoBatch) -> PendingSums {
    let num_tokens = count(batch.completion_mask.clone(), &batch.policy_logprobs);
    let zero = num_tokens.zeros_like();
    let lowest = num_tokens.full_like(f64::NEG_INFINITY);
    PendingSums {
        num_tokens,
        policy_loss: zero.clone(),
        kl_loss: zero.clone(),
        entropy_loss: zero.clone(),
        clip_low_tokens: zero.clone(),
        clip_high_tokens: zero.clone(),
        ratio_sum: zero.clone(),
        ratio_min: zero.full_like(f64::INFINITY),
        ratio_max: lowest.clone(),
        kl_old_policy_k1_sum: zero.clone(),
        kl_old_policy_k3_sum: zero.clone(),
        kl_policy_ref_sum: zero.clone(),
        kl_policy_ref_k1_sum: zero.clone(),
        kl_policy_ref_k3_sum: zero.clone(),
        num_kl_terms: zero.clone(),
        num_kl_clipped: zero.clone(),
        kl_clip_bias_sum: zero.clone(),
        kl_clip_excess_sum: zero.clone(),
        entropy_sum: zero.clone(),
        importance_weight_sum: zero.clone(),
        importance_bounded_tokens: zero.clone(),
        sampler_gap_sum: zero,
        sampler_gap_max: lowest,
    }
}

/// Panics with names if a tensor of the batch has another shape than `policy_logprobs`.
fn check_shapes(batch: &GrpoBatch) {
    let shape = batch.policy_logprobs.dims();
    let like = "policy_logprobs";
    expect_same("old_logprobs", batch.old_logprobs.dims(), like, shape);
    expect_same("completion_mask", batch.completion_mask.dims(), like, shape);
    expect_axis(
        "advantages",
        "N",
        batch.advantages.dims()[0],
        like,
        shape[0],
    );
    let exact_kl = batch.exact_kl.as_ref().map(|terms| terms.values.clone());
    let optional = [
        ("ref_logprobs", &batch.ref_logprobs),
        ("exact_kl", &exact_kl),
        ("sampler_logprobs", &batch.sampler_logprobs),
        ("entropies", &batch.entropies),
        ("token_penalties", &batch.token_penalties),
    ];
    for (name, tensor) in optional {
        if let Some(tensor) = tensor {
            expect_same(name, tensor.dims(), like, shape);
        }
    }
}
