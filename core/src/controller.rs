//! Adaptive coefficients: small state machines with a state that can be saved.
//!
//! A controller is its config plus one number, and both are serialised together, so a resumed
//! run continues with the coefficient it stopped at. Measurements that are not finite leave the
//! state alone.

use serde::{Deserialize, Serialize};

use crate::error::{ConfigError, check_number};

/// Settings of [`AdaptiveKl`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveKlConfig {
    /// KL in nats, in the unit of the measurement (per token or per sequence), aimed at.
    pub target: f64,
    /// Share of the coefficient that one update changes per unit of the clipped error; 0.1 in
    /// the paper.
    pub gain: f64,
    /// The coefficient never falls below this.
    pub min_coef: f64,
    /// The coefficient never rises above this.
    pub max_coef: f64,
}

impl AdaptiveKlConfig {
    /// Checks target, gain and bounds.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the target or `min_coef` is not above 0 (a coefficient of 0 could never
    /// grow again), the gain is outside (0, 1], or `max_coef` is below `min_coef`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_number("target", self.target, "a number of nats above 0", |v| {
            v > 0.0
        })?;
        check_number("gain", self.gain, "a number above 0 and at most 1", |v| {
            v > 0.0 && v <= 1.0
        })?;
        check_number("min_coef", self.min_coef, "a number above 0", |v| v > 0.0)?;
        let min = self.min_coef;
        check_number("max_coef", self.max_coef, "at least min_coef", |v| v >= min)
    }
}

/// Proportional controller of the KL coefficient on a logarithmic scale.
///
/// ```text
/// e = clip((KL - target) / target, -0.2, 0.2),   coef <- coef (1 + gain e)
/// ```
///
/// Ziegler et al., arXiv 1909.08593.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveKl {
    config: AdaptiveKlConfig,
    coef: f64,
}

impl AdaptiveKl {
    /// A controller that starts at `coef`, moved into the configured bounds.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the config is not valid or `coef` not finite.
    pub fn new(config: AdaptiveKlConfig, coef: f64) -> Result<Self, ConfigError> {
        config.validate()?;
        check_number("coef", coef, "a finite number", |_| true)?;
        let coef = coef.clamp(config.min_coef, config.max_coef);
        Ok(Self { config, coef })
    }

    /// The coefficient to use now.
    pub fn coef(&self) -> f64 {
        self.coef
    }

    /// Takes the KL measured in the last step into account and gives the new coefficient.
    pub fn update(&mut self, measured_kl: f64) -> f64 {
        if measured_kl.is_finite() {
            let config = &self.config;
            let error = ((measured_kl - config.target) / config.target).clamp(-0.2, 0.2);
            let coef = self.coef * (1.0 + config.gain * error);
            self.coef = coef.clamp(config.min_coef, config.max_coef);
        }
        self.coef
    }
}

/// Settings of [`AdaptiveEntropy`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveEntropyConfig {
    /// Mean token entropy in nats that is not to be fallen below.
    pub target: f64,
    /// What one update adds to the coefficient or takes from it.
    pub delta: f64,
    /// The coefficient never falls below this.
    pub min_coef: f64,
    /// The coefficient never rises above this.
    pub max_coef: f64,
}

impl AdaptiveEntropyConfig {
    /// Checks target, step and bounds.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the target, `delta` or `min_coef` is negative, or `max_coef` is below
    /// `min_coef`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_number(
            "target",
            self.target,
            "a number of nats of at least 0",
            |v| v >= 0.0,
        )?;
        check_number("delta", self.delta, "a number of at least 0", |v| v >= 0.0)?;
        check_number("min_coef", self.min_coef, "a number of at least 0", |v| {
            v >= 0.0
        })?;
        let min = self.min_coef;
        check_number("max_coef", self.max_coef, "at least min_coef", |v| v >= min)
    }
}

/// Step controller of the entropy coefficient, switched off while entropy is above the target.
///
/// ```text
/// c <- c + delta   if H < target,   c - delta otherwise,   within [min_coef, max_coef]
/// coefficient used = c if H <= target, else 0
/// ```
///
/// He et al., Skywork Open Reasoner 1, arXiv 2505.22312 (adaptive entropy control).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveEntropy {
    config: AdaptiveEntropyConfig,
    coef: f64,
    is_active: bool,
}

impl AdaptiveEntropy {
    /// A controller that starts at `coef`, moved into the configured bounds, and switched off
    /// until the first measurement.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the config is not valid or `coef` not finite.
    pub fn new(config: AdaptiveEntropyConfig, coef: f64) -> Result<Self, ConfigError> {
        config.validate()?;
        check_number("coef", coef, "a finite number", |_| true)?;
        let coef = coef.clamp(config.min_coef, config.max_coef);
        Ok(Self {
            config,
            coef,
            is_active: false,
        })
    }

    /// The coefficient to use now; 0 while switched off.
    pub fn coef(&self) -> f64 {
        if self.is_active { self.coef } else { 0.0 }
    }

    /// Takes the mean token entropy of the last step into account and gives the new coefficient.
    pub fn update(&mut self, measured_entropy: f64) -> f64 {
        if measured_entropy.is_finite() {
            let config = &self.config;
            let is_low = measured_entropy < config.target;
            let change = if is_low { config.delta } else { -config.delta };
            self.coef = (self.coef + change).clamp(config.min_coef, config.max_coef);
            self.is_active = measured_entropy <= config.target;
        }
        self.coef()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kl_config() -> AdaptiveKlConfig {
        AdaptiveKlConfig {
            target: 0.5,
            gain: 0.1,
            min_coef: 0.01,
            max_coef: 1.0,
        }
    }

    fn entropy_config() -> AdaptiveEntropyConfig {
        AdaptiveEntropyConfig {
            target: 0.3,
            delta: 0.25,
            min_coef: 0.0,
            max_coef: 0.5,
        }
    }

    #[test]
    fn the_kl_coefficient_follows_the_error_within_its_bounds() {
        let mut controller = AdaptiveKl::new(kl_config(), 0.1).expect("valid");
        assert!(
            (controller.update(0.55) - 0.1 * 1.01).abs() < 1e-15,
            "a tenth over the target"
        );
        assert!(
            (controller.update(50.0) - 0.1 * 1.01 * 1.02).abs() < 1e-15,
            "clipped error"
        );
        assert!(
            controller.update(0.0) < 0.1 * 1.01 * 1.02,
            "below the target it falls"
        );
        for _ in 0..1000 {
            controller.update(50.0);
        }
        assert_eq!(controller.coef(), 1.0);
        for _ in 0..1000 {
            controller.update(0.0);
        }
        assert_eq!(controller.coef(), 0.01);
    }

    #[test]
    fn a_measurement_that_is_no_number_changes_nothing() {
        let mut kl = AdaptiveKl::new(kl_config(), 0.1).expect("valid");
        assert_eq!(kl.update(f64::NAN), 0.1);
        let mut entropy = AdaptiveEntropy::new(entropy_config(), 0.25).expect("valid");
        entropy.update(0.1);
        assert_eq!(entropy.update(f64::INFINITY), 0.5);
    }

    #[test]
    fn the_entropy_coefficient_is_off_above_the_target() {
        let mut controller = AdaptiveEntropy::new(entropy_config(), 0.0).expect("valid");
        assert_eq!(controller.coef(), 0.0);
        assert_eq!(controller.update(0.2), 0.25);
        assert_eq!(controller.update(0.2), 0.5);
        assert_eq!(controller.update(0.2), 0.5, "at its bound");
        assert_eq!(controller.update(0.4), 0.0, "off above the target");
        assert_eq!(controller.update(0.2), 0.5, "0.25 was kept, and grew");
    }

    #[test]
    fn a_saved_controller_continues() {
        let mut original = AdaptiveKl::new(kl_config(), 0.1).expect("valid");
        original.update(0.7);
        let text = serde_json::to_string(&original).expect("serialises");
        let mut restored: AdaptiveKl = serde_json::from_str(&text).expect("reads back");
        assert_eq!(restored, original);
        assert_eq!(
            restored.update(0.2).to_bits(),
            original.update(0.2).to_bits()
        );
    }

    #[test]
    fn impossible_settings_are_errors() {
        let zero_floor = AdaptiveKlConfig {
            min_coef: 0.0,
            ..kl_config()
        };
        assert_eq!(
            AdaptiveKl::new(zero_floor, 0.1).expect_err("floor").key,
            "min_coef"
        );
        let crossed = AdaptiveEntropyConfig {
            max_coef: -1.0,
            ..entropy_config()
        };
        assert_eq!(
            AdaptiveEntropy::new(crossed, 0.1).expect_err("crossed").key,
            "max_coef"
        );
        assert!(AdaptiveKl::new(kl_config(), f64::NAN).is_err());
    }
}
