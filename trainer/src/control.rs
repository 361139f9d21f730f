//! Coefficients that follow a measurement: the section `[control]` and its saved state.

use rlvr_core::{
    AdaptiveEntropy, AdaptiveEntropyConfig, AdaptiveKl, AdaptiveKlConfig, ConfigError, GrpoLoss,
};
use serde::{Deserialize, Serialize};

use crate::config::InvalidValue;

/// The section `[control]`: nothing is adaptive unless asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// Moves `loss.kl.coef` so that KL(policy‖ref) per token (k3) stays near its target.
    pub adaptive_kl: Option<AdaptiveKlConfig>,
    /// Moves `loss.entropy_coef` so that the mean token entropy does not fall below its target.
    pub adaptive_entropy: Option<AdaptiveEntropyConfig>,
    /// Moves `loss.kl.clip.tau` of a sequence-level clip to the quantile that fresh rollouts on
    /// training prompts give (Tang, Chen, He, arXiv 2602.21765), at every evaluation.
    pub kl_clip: Option<KlClipRule>,
}

/// Where a clip's threshold comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlClipRule {
    /// The quantile rule; what the configuration says is where it starts.
    Auto,
}

impl ControlConfig {
    /// # Errors
    /// If a controller's settings are impossible, or it has nothing to control.
    pub fn validate(&self, has_kl_loss: bool) -> Result<(), InvalidValue> {
        let named = |section: &str, err: ConfigError| {
            InvalidValue::new(
                &format!("control.{section}.{}", err.key),
                err.value,
                err.allowed,
            )
        };
        if let Some(kl) = &self.adaptive_kl {
            kl.validate().map_err(|err| named("adaptive_kl", err))?;
            if !has_kl_loss {
                let allowed = "needs a KL term to control: set loss.kl";
                return Err(InvalidValue::new("control.adaptive_kl", "set", allowed));
            }
        }
        if let Some(entropy) = &self.adaptive_entropy {
            entropy
                .validate()
                .map_err(|err| named("adaptive_entropy", err))?;
        }
        Ok(())
    }
}

/// The running controllers; part of every checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Controllers {
    kl: Option<AdaptiveKl>,
    entropy: Option<AdaptiveEntropy>,
    /// Threshold of the KL clip, in nats, once a rule has chosen it.
    #[serde(default)]
    kl_clip_tau: Option<f64>,
}

impl Controllers {
    /// Controllers that start at the loss's own coefficients.
    ///
    /// # Errors
    /// As [`ControlConfig::validate`].
    pub fn new(config: &ControlConfig, loss: &GrpoLoss) -> Result<Self, ConfigError> {
        let kl_coef = loss.config().kl.map_or(0.0, |kl| kl.coef);
        let entropy_coef = loss.config().entropy_coef;
        let kl = config
            .adaptive_kl
            .map(|kl| AdaptiveKl::new(kl, kl_coef))
            .transpose()?;
        let entropy = config
            .adaptive_entropy
            .map(|entropy| AdaptiveEntropy::new(entropy, entropy_coef))
            .transpose()?;
        let kl_clip_tau = None;
        Ok(Self {
            kl,
            entropy,
            kl_clip_tau,
        })
    }

    /// Puts the current coefficients into the loss.
    pub fn apply(&self, loss: &mut GrpoLoss) {
        if let Some(kl) = &self.kl {
            loss.set_kl_coef(kl.coef());
        }
        if let Some(entropy) = &self.entropy {
            loss.set_entropy_coef(entropy.coef());
        }
        let mut config = *loss.config();
        let clip = config.kl.as_mut().and_then(|kl| kl.clip.as_mut());
        if let (Some(tau), Some(clip)) = (self.kl_clip_tau, clip) {
            clip.tau = tau;
            if let Ok(moved) = config.init() {
                *loss = moved;
            }
        }
    }

    /// Remembers the threshold that a rule chose; one that no clip can have is passed over.
    pub fn choose_kl_clip(&mut self, tau: f64) {
        if tau.is_finite() && tau > 0.0 {
            self.kl_clip_tau = Some(tau);
        }
    }

    /// The threshold that a rule chose.
    pub fn kl_clip_tau(&self) -> Option<f64> {
        self.kl_clip_tau
    }

    /// Takes a step's measurements into account.
    pub fn observe(&mut self, kl_policy_ref_k3: f64, entropy_mean: f64) {
        if let Some(kl) = &mut self.kl {
            kl.update(kl_policy_ref_k3);
        }
        if let Some(entropy) = &mut self.entropy {
            entropy.update(entropy_mean);
        }
    }
}
