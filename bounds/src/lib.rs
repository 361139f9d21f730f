//! Generalisation bounds for policies trained by reinforcement learning, in plain `f64`: what
//! theory says the observed reward will generalise to, for a report beside what was measured.
//!
//! What each bound assumes, in words:
//!
//! | id | module | bounds | assumes | standing |
//! | --- | --- | --- | --- | --- |
//! | T1 | [`mod@theorem1`] | the whole error | all that its three parts assume | weakest part |
//! | S1, S2 | [`mod@hoeffding`] | sampling error | prompts independent of the policy and of each other; bounded score | certified |
//! | S3 | [`mod@bernstein`] | sampling error | as S2 | certified |
//! | S4 | [`mod@bernoulli`] | sampling error | as S2 | certified |
//! | S5 | [`mod@betting`] | sampling error | as S2, order fixed | certified |
//! | S6 | [`mod@student`], [`mod@bootstrap`] | sampling error | many prompts | plug-in |
//! | S7 | [`mod@fixed`] | floor and ceiling | as its parts | weakest part |
//! | P1, P2 | [`mod@pac_bayes`] | sampling error on training prompts | a prior chosen beforehand | certified |
//! | P3 | [`mod@finite_class`] | sampling error on training prompts | a class or code chosen beforehand | certified |
//! | P4 | [`mod@ornstein_uhlenbeck`] | the KL of P1 | SGD is a diffusion | model-based |
//! | R1 to R7 | [`mod@reward_shift`] | error of a learned reward | draws of the reward's own distribution | see there |
//! | C1 to C6 | [`mod@clip`] | bias of clipped KL | completions drawn from the policy | see there |
//! | A1 to A5 | [`mod@budget`] | - | known costs | rule |
//!
//! Every theorem returns a [`Bound`]: value, delta, id, inputs and standing. Half-width functions
//! return bare numbers and claim nothing. Prompts that influenced the policy are another *type*
//! than held-out ones, and no fixed-policy theorem takes it; see [`mod@sample`].
//!
//! Conventions: n prompts, k rollouts each, b the length of the score's range, natural
//! logarithms, log-ratios in nats, bounds in reward units. Certified bounds are guarantees and
//! typically 3 to 10 times as wide as the error they cover; the t interval is the estimate.
//! Theory followed: Tang, Chen, He, "Generalisation of RLHF under Reward Shift and Clipped KL
//! Regularisation", arXiv 2602.21765.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod anova;
pub mod bernoulli;
pub mod bernstein;
pub mod betting;
pub mod bootstrap;
pub mod bound;
pub mod budget;
pub mod clip;
pub mod decomposition;
pub mod distribution;
pub mod error;
pub mod finite_class;
pub mod fixed;
pub mod hoeffding;
pub mod kl_estimators;
pub mod ornstein_uhlenbeck;
pub mod pac_bayes;
pub mod reward_shift;
pub mod sample;
mod search;
pub mod student;
mod sums;
mod symmetric;
pub mod theorem1;
pub mod verdict;

pub use anova::{Anova, anova};
pub use bernoulli::{
    kl_bernoulli, kl_interval, kl_inv_first_upper, kl_inv_lower, kl_inv_upper, kl_upper, xi,
};
pub use bernstein::{emp_bernstein, emp_bernstein_one_sided};
pub use betting::{betting_ci, betting_ci_grid};
pub use bootstrap::cluster_bootstrap;
pub use bound::{Bound, Input, Standing};
pub use budget::{
    Allocation, PairRate, RolloutChoice, alloc_prompts_pairs, k_star_hoeffding, k_star_variance,
};
pub use clip::tail::{certify_lower_tail, clip_bias, grid_price};
pub use clip::threshold::clip_objective_asym;
pub use clip::{
    RenyiTail, Tail, clip_objective, free_lower_tail, free_lower_tail_weak, renyi_tail,
    smoothing_range, tail, tau_star, tau_star_asym,
};
pub use decomposition::{Decomposition, Scored, decompose};
pub use distribution::Distribution;
pub use error::{BoundsError, Result};
pub use finite_class::{
    ClassForm, affordable_nats, certify_class, finite_class, fixed_nats, prefix_nats,
};
pub use fixed::{
    Method, OneSided, ceiling, certify_fixed, certify_fixed_best, certify_upper, floor,
};
pub use hoeffding::{hoeffding_direct, hoeffding_one_sided, hoeffding_paper};
pub use kl_estimators::{
    Estimator, K3_CROSSING, Moments, capped_k3, clipped_k1, exact_token_kl, gaussian_moments, k1,
    k2, k3, moments,
};
pub use ornstein_uhlenbeck::{
    gauss_best_s2, gauss_kl, gauss_log_ratio, lyapunov, lyapunov_discrete, with_grid,
};
pub use pac_bayes::{PacBayesForm, Posterior, certify_pac_bayes, pac_bayes};
pub use reward_shift::chi_square::{
    Coverage, RELIABLE_SHARE, chi_square, coverage, mean_inverse_ratio,
};
pub use reward_shift::clipped::{certify_reward_shift, clipped_chi2, clipped_moment};
pub use reward_shift::donsker_varadhan::donsker_varadhan;
pub use reward_shift::hockey_stick::{
    certify_hockey_stick, hockey_stick, hockey_stick_bound, tv_from_logw,
};
pub use reward_shift::mixture::mixture_refresh;
pub use reward_shift::processing::kl_dpi;
pub use sample::{HeldOut, PromptRole, Range, Role, Rows, Sample, Selected, Trained};
pub use student::{t_interval, t_quantile};
pub use theorem1::{Rate, Theorem1, clip_term, theorem1};
pub use verdict::{Verdict, verdict};
