//! Sums over a micro-batch from which a step's metrics are formed: added up over the
//! micro-batches, divided once.

use alloc::vec::Vec;

use burn::tensor::{Tensor, TensorReadError};
use serde::{Deserialize, Serialize};

/// How the values of two micro-batches become one.
#[derive(Clone, Copy)]
enum Fold {
    Sum,
    Min,
    Max,
}

impl Fold {
    /// The value of no micro-batch at all.
    const fn start(self) -> f64 {
        match self {
            Self::Sum => 0.0,
            Self::Min => f64::INFINITY,
            Self::Max => f64::NEG_INFINITY,
        }
    }

    fn combine(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum => a + b,
            Self::Min => a.min(b),
            Self::Max => a.max(b),
        }
    }
}

/// Writes the record of numbers and the record of tensors from one list of fields.
macro_rules! loss_sums {
    ($($(#[$doc:meta])* $field:ident: $fold:ident,)*) => {
        /// What one micro-batch, or by addition one batch, contributes to the loss's metrics.
        ///
        /// The three losses are already divided by the batch's denominators, so they add up as
        /// well. All other fields are counts, sums over counted tokens in nats, and extremes.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        pub struct LossSums {
            $($(#[$doc])* pub $field: f64,)*
        }

        /// The same values while they are still on the device: `[1]` each, untracked.
        #[derive(Clone, Debug)]
        pub struct PendingSums {
            $($(#[$doc])* pub $field: Tensor<1>,)*
        }

        impl Default for LossSums {
            /// The sums of no micro-batch at all: the neutral element of [`add`](Self::add).
            fn default() -> Self {
                Self { $($field: Fold::$fold.start(),)* }
            }
        }

        impl LossSums {
            /// Adds another micro-batch: extremes are compared, everything else is summed.
            pub fn add(&mut self, other: &Self) {
                $(self.$field = Fold::$fold.combine(self.$field, other.$field);)*
            }
        }

        impl PendingSums {
            /// Reads all values from the device at once.
            ///
            /// # Errors
            ///
            /// [`TensorReadError`] if the device fails.
            pub fn read(self) -> Result<LossSums, TensorReadError> {
                let values: Vec<Tensor<1>> = alloc::vec![$(self.$field,)*];
                let values = Tensor::cat(values, 0).try_into_vec_as::<f64>()?;
                let mut values = values.into_iter();
                let mut sums = LossSums::default();
                $(sums.$field = values.next().unwrap_or(f64::NAN);)*
                Ok(sums)
            }
        }
    };
}

loss_sums! {
    /// Counted completion tokens.
    num_tokens: Sum,
    /// Negated, aggregated surrogate.
    policy_loss: Sum,
    /// Aggregated KL penalty times its coefficient; 0 without one.
    kl_loss: Sum,
    /// Negated, aggregated entropy bonus times its coefficient; 0 without entropies.
    entropy_loss: Sum,
    /// Tokens whose surrogate the lower clip decides.
    clip_low_tokens: Sum,
    /// Tokens whose surrogate the upper clip or the dual clip decides.
    clip_high_tokens: Sum,
    /// Sum of the ratio policy over old, at the level that the loss uses.
    ratio_sum: Sum,
    /// Smallest ratio; infinity if no token counts.
    ratio_min: Min,
    /// Largest ratio; minus infinity if no token counts.
    ratio_max: Max,
    /// Sum of k1 for KL(old‖policy), token level.
    kl_old_policy_k1_sum: Sum,
    /// Sum of k3 for KL(old‖policy), token level.
    kl_old_policy_k3_sum: Sum,
    /// Sum of the penalty's own estimate of KL(policy‖ref), clip included; 0 without a penalty.
    kl_policy_ref_sum: Sum,
    /// Sum of k1 for KL(policy‖ref), without clip; 0 without a reference.
    kl_policy_ref_k1_sum: Sum,
    /// Sum of k3 for KL(policy‖ref), without clip; 0 without a reference.
    kl_policy_ref_k3_sum: Sum,
    /// KL terms of the penalty: tokens, or sequences if its clip is at sequence level.
    num_kl_terms: Sum,
    /// KL terms that the clip changed; divided by `num_kl_terms` this is the clip fraction.
    num_kl_clipped: Sum,
    /// Sum of clipped minus unclipped estimates: the clip's measured bias.
    kl_clip_bias_sum: Sum,
    /// Sum of `max(abs(log_r) - tau, 0)`.
    kl_clip_excess_sum: Sum,
    /// Sum of the exact token entropies; 0 without entropies.
    entropy_sum: Sum,
    /// Sum of the bounded importance weights; 0 without a correction.
    importance_weight_sum: Sum,
    /// Tokens whose importance weight was truncated or masked.
    importance_bounded_tokens: Sum,
    /// Sum of `abs(old_logprobs - sampler_logprobs)`; 0 without sampler log-probs.
    sampler_gap_sum: Sum,
    /// Largest `abs(old_logprobs - sampler_logprobs)`; minus infinity without sampler log-probs
    /// or counted tokens.
    sampler_gap_max: Max,
}

impl LossSums {
    /// The total loss: policy, KL and entropy parts.
    pub fn loss(&self) -> f64 {
        self.policy_loss + self.kl_loss + self.entropy_loss
    }

    /// A sum divided by the counted tokens; 0 if there are none.
    pub fn per_token(&self, sum: f64) -> f64 {
        if self.num_tokens > 0.0 {
            sum / self.num_tokens
        } else {
            0.0
        }
    }

    /// Share of the KL terms that the clip changed; 0 if there are none.
    pub fn kl_clip_frac(&self) -> f64 {
        if self.num_kl_terms > 0.0 {
            self.num_kl_clipped / self.num_kl_terms
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_sums_sums_and_compares_extremes() {
        let mut total = LossSums::default();
        let first = LossSums {
            num_tokens: 2.0,
            ratio_sum: 3.0,
            ratio_min: 0.5,
            ratio_max: 2.5,
            ..LossSums::default()
        };
        let second = LossSums {
            num_tokens: 1.0,
            ratio_sum: 0.25,
            ratio_min: 0.25,
            ratio_max: 0.25,
            ..LossSums::default()
        };
        total.add(&first);
        assert_eq!(total, first, "the default is neutral");
        total.add(&second);
        assert_eq!((total.num_tokens, total.ratio_sum), (3.0, 3.25));
        assert_eq!((total.ratio_min, total.ratio_max), (0.25, 2.5));
        assert_eq!(total.per_token(total.ratio_sum), 3.25 / 3.0);
        assert_eq!(LossSums::default().per_token(1.0), 0.0);
        assert_eq!(LossSums::default().kl_clip_frac(), 0.0);
    }
}
