//! AdamW with global gradient-norm clipping and a learning-rate schedule.
//!
//! The update rule is that of Burn's AdamW and of PyTorch's `torch.optim.AdamW` (Loshchilov and
//! Hutter, arXiv 1711.05101), in one pass over weights and moments
//! ([`rlvr_backends::kernels::adamw`]); state and its file are Burn's. Burn's own clipping works on
//! each tensor alone, so the global norm (Pascanu et al., arXiv 1211.5063) is here.

use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{
    AdamWState, AdaptiveMomentumState, GradientsParams, ModuleOptimizer, Optimizer as Rule,
};
use burn::tensor::{Device, Tensor, TensorReadError};
use rlvr_backends::kernels::{AdamWStep, Moved, adamw, scale, sum_of_squares};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Shape of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stays at its peak.
    #[default]
    Constant,
    /// Falls linearly to zero at the last step.
    Linear,
    /// Falls along half a cosine to zero at the last step.
    Cosine,
}

/// Constants of the optimizer; shared by GRPO and the supervised warm start.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerSettings {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Guard of the division.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest global gradient norm; `None` clips nothing.
    pub max_grad_norm: Option<f64>,
    /// Steps of linear rise from zero.
    pub warmup_steps: u64,
    /// Shape after the rise.
    pub schedule: Schedule,
    /// Last step of the schedule.
    pub total_steps: u64,
}

impl OptimizerSettings {
    /// Learning rate of `step`, counted from 0.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / span).min(1.0);
        self.learning_rate
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - done,
                Schedule::Cosine => 0.5 * (1.0 + (core::f64::consts::PI * done).cos()),
            }
    }
}

/// The optimizer's state could not be written or read.
#[derive(Debug, Error)]
#[error("move the optimizer state: {0}")]
pub struct OptimizerStateError(String);

/// AdamW over a whole module.
#[derive(Clone)]
pub struct Optimizer {
    inner: ModuleOptimizer,
    max_grad_norm: Option<f64>,
}

/// The rule for one parameter.
#[derive(Clone, Debug)]
struct AdamWRule {
    beta_1: f32,
    beta_2: f32,
    eps: f32,
    weight_decay: f64,
}

impl Rule for AdamWRule {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: f64,
        weights: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let (time, moment_1, moment_2) = match state {
            Some(AdamWState { momentum }) => (momentum.time, momentum.moment_1, momentum.moment_2),
            None => (0, grad.zeros_like(), grad.zeros_like()),
        };
        let time = time + 1;
        let correction = |beta: f32| 1.0 - beta.powi(time as i32);
        let step = AdamWStep {
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            correction_1: correction(self.beta_1),
            correction_2: correction(self.beta_2),
            eps: self.eps,
            decay: (1.0 - learning_rate * self.weight_decay) as f32,
            learning_rate: learning_rate as f32,
        };
        let state = Moved {
            weights,
            moment_1,
            moment_2,
        };
        let moved = adamw(state, grad, &step);
        let momentum = AdaptiveMomentumState::new(time, moved.moment_1, moved.moment_2);
        (moved.weights, Some(AdamWState::new(momentum)))
    }

    fn to_device<const D: usize>(mut state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        state.momentum = state.momentum.to_device(device);
        state
    }
}

/// What one optimizer step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepOutcome {
    /// The weights moved; the global gradient norm before clipping.
    Applied {
        /// Before clipping.
        grad_norm: f64,
    },
    /// The gradient was not finite; neither weights nor moments moved.
    SkippedNonFinite,
}

impl Optimizer {
    /// A fresh optimizer.
    pub fn new(settings: &OptimizerSettings) -> Self {
        let rule = AdamWRule {
            beta_1: settings.beta_1 as f32,
            beta_2: settings.beta_2 as f32,
            eps: settings.eps as f32,
            weight_decay: settings.weight_decay,
        };
        Self {
            inner: rule.into(),
            max_grad_norm: settings.max_grad_norm,
        }
    }

    /// Clips the gradients, whose [`global_norm`] is given, then moves the weights. A norm that is
    /// not finite changes nothing.
    pub fn step<M: Module>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: GradientsParams,
        grad_norm: f64,
    ) -> (M, StepOutcome) {
        if !grad_norm.is_finite() {
            return (module, StepOutcome::SkippedNonFinite);
        }
        let gradients = match self.max_grad_norm {
            // Same rule as torch.nn.utils.clip_grad_norm_: coefficient max / (norm + 1e-6).
            Some(max_norm) if grad_norm > max_norm => {
                scaled(&module, gradients, max_norm / (grad_norm + 1e-6))
            }
            _ => gradients,
        };
        let module = self.inner.step(learning_rate, module, gradients);
        (module, StepOutcome::Applied { grad_norm })
    }

    /// Writes moments and step counts, to be read back by [`Optimizer::restored`]. They exist
    /// twice meanwhile, and not a third time as a file in memory.
    ///
    /// # Errors
    /// If Burn cannot serialise the state or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), OptimizerStateError> {
        let saved = self.inner.save(path);
        saved.map_err(|err| OptimizerStateError(err.to_string()))
    }

    /// This optimizer with the state of an earlier one. Parameters are matched by the identities
    /// that [`with_stable_ids`] gives.
    ///
    /// # Errors
    /// If the file is missing or holds no optimizer state.
    pub fn restored(self, path: &Path) -> Result<Self, OptimizerStateError> {
        let loaded = self.inner.load(path);
        let inner = loaded.map_err(|err| OptimizerStateError(err.to_string()))?;
        Ok(Self { inner, ..self })
    }
}

/// The same module with parameter identities 1, 2, 3, … in visiting order, so that optimizer state
/// finds its parameter again in another process.
pub fn with_stable_ids<M: Module>(module: M) -> M {
    struct Renumber(u64);
    impl ModuleMapper for Renumber {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 1;
            let (_, tensor, mapper) = param.consume();
            Param::from_mapped_value(ParamId::from(self.0), tensor, mapper)
        }
    }
    module.map(&mut Renumber(0))
}

/// Square root of the sum of squares over every gradient of the module, summed in f64. It reads
/// them all: where it gives a number, no gradient was left unwritten.
///
/// # Errors
/// If the device cannot be read.
pub fn global_norm<M: Module>(
    module: &M,
    gradients: &GradientsParams,
) -> Result<f64, TensorReadError> {
    struct Norm<'a> {
        gradients: &'a GradientsParams,
        squares: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Norm<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                self.squares.push(sum_of_squares(&gradient));
            }
        }
    }
    let mut norm = Norm {
        gradients,
        squares: Vec::new(),
    };
    module.visit(&mut norm);
    if norm.squares.is_empty() {
        return Ok(0.0);
    }
    // One read for all tensors: a device is asked once.
    let squares = Tensor::cat(norm.squares, 0).try_into_vec_as::<f64>()?;
    Ok(squares.iter().sum::<f64>().sqrt())
}

/// Every gradient of the module times `factor`.
fn scaled<M: Module>(module: &M, gradients: GradientsParams, factor: f64) -> GradientsParams {
    struct Scale {
        gradients: GradientsParams,
        factor: f64,
    }
    impl ModuleVisitor for Scale {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.remove::<D>(param.id) {
                self.gradients
                    .register(param.id, scale(gradient, self.factor as f32));
            }
        }
    }
    let mut scale = Scale { gradients, factor };
    module.visit(&mut scale);
    scale.gradients
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    fn settings() -> OptimizerSettings {
        OptimizerSettings {
            learning_rate: 0.1,
            beta_1: 0.9,
            beta_2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: None,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            total_steps: 100,
        }
    }

    fn linear(device: &Device) -> Linear {
        let mut linear = LinearConfig::new(2, 1).with_bias(false).init(device);
        let weight = Tensor::<2>::from_floats([[0.5], [-0.25]], device).require_grad();
        linear.weight = Param::initialized(ParamId::from(1), weight);
        linear
    }

    fn gradients(module: &Linear, values: [f32; 2]) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let device = module.weight.val().device().inner();
        let gradient = Tensor::<2>::from_floats([[values[0]], [values[1]]], &device);
        gradients.register(module.weight.id, gradient);
        gradients
    }

    fn step(
        optimizer: &mut Optimizer,
        learning_rate: f64,
        module: Linear,
        gradients: GradientsParams,
    ) -> (Linear, StepOutcome) {
        let norm = global_norm(&module, &gradients).unwrap();
        optimizer.step(learning_rate, module, gradients, norm)
    }

    fn weights(module: &Linear) -> Vec<f64> {
        module.weight.val().into_data().iter::<f64>().collect()
    }

    /// PyTorch's AdamW in f64, written out.
    fn reference(settings: &OptimizerSettings, grads: &[[f64; 2]], mut w: [f64; 2]) -> [f64; 2] {
        let (mut m, mut v) = ([0.0; 2], [0.0; 2]);
        for (t, grad) in grads.iter().enumerate() {
            for i in 0..2 {
                w[i] *= 1.0 - settings.learning_rate * settings.weight_decay;
                m[i] = settings.beta_1 * m[i] + (1.0 - settings.beta_1) * grad[i];
                v[i] = settings.beta_2 * v[i] + (1.0 - settings.beta_2) * grad[i] * grad[i];
                let m_hat = m[i] / (1.0 - settings.beta_1.powi(t as i32 + 1));
                let v_hat = v[i] / (1.0 - settings.beta_2.powi(t as i32 + 1));
                w[i] -= settings.learning_rate * m_hat / (v_hat.sqrt() + settings.eps);
            }
        }
        w
    }

    #[test]
    fn adamw_follows_pytorch() {
        let settings = settings();
        let device = crate::test_device().autodiff();
        let grads = [[0.3, -0.7], [0.1, 0.2], [-0.4, 0.05], [0.25, -0.3]];
        let (mut module, mut optimizer) = (linear(&device), Optimizer::new(&settings));
        for grad in grads {
            let gradient = gradients(&module, grad.map(|value| value as f32));
            module = step(&mut optimizer, settings.learning_rate, module, gradient).0;
        }
        let expected = reference(&settings, &grads, [0.5, -0.25]);
        for (found, expected) in weights(&module).iter().zip(expected) {
            assert!(
                (found - expected).abs() < 2e-6,
                "{found} against {expected}"
            );
        }
    }

    #[test]
    fn every_step_has_the_bits_of_burns_own_rule() {
        let settings = settings();
        let device = crate::test_device().autodiff();
        let mut burns = burn::optim::AdamWConfig::new()
            .with_beta_1(settings.beta_1 as f32)
            .with_beta_2(settings.beta_2 as f32)
            .with_epsilon(settings.eps as f32)
            .with_weight_decay(settings.weight_decay as f32)
            .init();
        let (mut module, mut optimizer) = (linear(&device), Optimizer::new(&settings));
        let mut expected = linear(&device);
        for grad in [[0.3, -0.7], [0.1, 0.2], [-0.4, 0.05]] {
            let gradient = gradients(&module, grad);
            module = step(&mut optimizer, 0.037, module, gradient).0;
            let gradient = gradients(&expected, grad);
            expected = burns.step(0.037, expected, gradient);
            assert_eq!(weights(&module), weights(&expected));
        }
    }

    #[test]
    fn clipping_scales_the_global_norm() {
        let device = crate::test_device().autodiff();
        let module = linear(&device);
        let found = scaled(&module, gradients(&module, [3.0, 4.0]), 0.2);
        assert!((global_norm(&module, &found).unwrap() - 1.0).abs() < 1e-6);
        let norm = global_norm(&module, &gradients(&module, [3.0, 4.0]));
        assert_eq!(norm.unwrap(), 5.0);
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let device = crate::test_device().autodiff();
        let (module, mut optimizer) = (linear(&device), Optimizer::new(&settings()));
        let bad = gradients(&module, [f32::NAN, 1.0]);
        let (module, outcome) = step(&mut optimizer, 0.1, module, bad);
        assert_eq!(outcome, StepOutcome::SkippedNonFinite);
        assert_eq!(weights(&module), vec![0.5, -0.25]);
    }

    #[test]
    fn state_survives_a_round_trip_bit_for_bit() {
        let device = crate::test_device().autodiff();
        let mut straight = (linear(&device), Optimizer::new(&settings()));
        let first = gradients(&straight.0, [0.3, -0.7]);
        straight.0 = step(&mut straight.1, 0.1, straight.0, first).0;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.bin");
        straight.1.save(&path).unwrap();
        let mut restored = (
            straight.0.clone(),
            Optimizer::new(&settings()).restored(&path).unwrap(),
        );
        for (module, optimizer) in
            [&mut straight, &mut restored].map(|pair| (&mut pair.0, &mut pair.1))
        {
            let second = gradients(module, [0.1, 0.2]);
            *module = step(optimizer, 0.1, module.clone(), second).0;
        }
        assert_eq!(weights(&straight.0), weights(&restored.0));
        std::fs::write(&path, [1, 2, 3]).unwrap();
        assert!(Optimizer::new(&settings()).restored(&path).is_err());
    }

    #[test]
    fn schedules_rise_and_fall() {
        let mut settings = OptimizerSettings {
            warmup_steps: 10,
            total_steps: 110,
            ..settings()
        };
        assert!((settings.learning_rate_at(0) - 0.01).abs() < 1e-12);
        assert!((settings.learning_rate_at(9) - 0.1).abs() < 1e-12);
        assert_eq!(settings.learning_rate_at(60), 0.1);
        settings.schedule = Schedule::Linear;
        assert!((settings.learning_rate_at(60) - 0.05).abs() < 1e-12);
        settings.schedule = Schedule::Cosine;
        assert!((settings.learning_rate_at(60) - 0.05).abs() < 1e-12);
        assert!(settings.learning_rate_at(110).abs() < 1e-12);
    }
}
