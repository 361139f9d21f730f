//! How fast a machine trains a shape: rollouts, update and optimizer, each beside its roofline.
//!
//! The stages run as in training, on made-up tokens: nothing ends before its longest. Each runs
//! once to prepare its kernels, then as often as asked.

pub mod load;
pub mod peaks;
pub mod roofline;
pub mod shapes;

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use rlvr_backends::{BackendKind, Precision, device_memory, hand_back_memory};
use serde::Serialize;

use self::load::{gradients, requests};
use self::peaks::Peaks;
use self::roofline::{Counts, Work};
use crate::batch::{MicroBatch, Row};
use crate::config::RunConfig;
use crate::failure::Failure;
use crate::gradient::ScoringSettings;
use crate::memory::{RunShape, bare_update_bytes};
use crate::optimizer::{Optimizer, OptimizerSettings, Schedule, global_norm};
use crate::policy::decoder::Decoder;
use crate::rollout::{Engine, RolloutConfig, RolloutStats};
use crate::seed::Stage;

/// Prompts and completions of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Different prompts.
    pub num_prompts: usize,
    /// G: completions of each.
    pub group: usize,
    /// Tokens of every prompt.
    pub prompt_tokens: usize,
    /// Tokens of every completion.
    pub new_tokens: usize,
}

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The policy, on a device that records gradients.
    pub policy: Decoder,
    /// The backend of that device.
    pub kind: BackendKind,
    /// How completions are sampled; sizes follow the load.
    pub rollout: RolloutConfig,
    /// How log-probs are computed.
    pub scoring: ScoringSettings,
    /// How often a stage is timed, after a first time that is told apart.
    pub repeats: usize,
    /// What the device can do at most, if it was measured.
    pub peaks: Option<Peaks>,
}

/// A stage, measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// `prefill`, `decode`, `update` or `optimizer`.
    pub stage: &'static str,
    /// What ran.
    pub load: Load,
    /// Tokens of a run: of prompts for a prefill, else of completions; weights for the optimizer.
    pub num_units: u64,
    /// Forward passes of a decode, 1 elsewhere.
    pub num_passes: u64,
    /// Those of them that were replays of a recorded one.
    pub num_replayed: u64,
    /// The first run, in which kernels are prepared.
    pub first_secs: f64,
    /// The runs after it.
    pub secs: Vec<f64>,
    /// The least that the measured peaks allow.
    pub floor_secs: Option<f64>,
    /// What an update was predicted to take of the device, weights included.
    pub predicted_bytes: Option<u64>,
    /// What the device's allocator had taken at the end of an update, where it has one.
    pub reserved_bytes: Option<u64>,
}

impl Measured {
    /// Median of the runs after the first.
    pub fn median_secs(&self) -> f64 {
        let mut secs = self.secs.clone();
        secs.sort_by(f64::total_cmp);
        let middle = secs.len() / 2;
        match secs.len() % 2 {
            _ if secs.is_empty() => self.first_secs,
            1 => secs[middle],
            _ => (secs[middle - 1] + secs[middle]) / 2.0,
        }
    }

    /// Tokens (of the optimizer: weights) per second.
    pub fn units_per_sec(&self) -> f64 {
        self.num_units as f64 / self.median_secs()
    }

    /// The floor as a share of the time it took: 1 is the roofline.
    pub fn roofline_share(&self) -> Option<f64> {
        Some(self.floor_secs? / self.median_secs())
    }
}

/// AdamW with clipping and so small a rate that the weights stay near where they were.
pub fn optimizer_settings() -> OptimizerSettings {
    OptimizerSettings {
        learning_rate: 1e-6,
        beta_1: 0.9,
        beta_2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        max_grad_norm: Some(1.0),
        warmup_steps: 0,
        schedule: Schedule::Constant,
        total_steps: 1,
    }
}

impl Bench {
    /// Completes every prompt of the load: prefill and decode, apart, and what the engine warns of.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn rollouts(&self, load: Load) -> Result<([Measured; 2], Option<String>), Failure> {
        let engine = self.engine(load);
        let requests = requests(
            self.policy.config().vocab_size,
            load.num_prompts,
            load.group,
            load.prompt_tokens,
        );
        // No token ends a completion.
        let params = RolloutConfig {
            max_new_tokens: load.new_tokens,
            stop_strings: Vec::new(),
            ..self.rollout.clone()
        }
        .sampling(Vec::new());
        let text = |_: &[u32]| String::new();
        let decoder = self.policy.valid();
        let mut runs: Vec<RolloutStats> = Vec::new();
        for step in 0..=self.repeats as u64 {
            let output =
                engine.roll_out(&decoder, &text, &requests, &params, 0, Stage::Rollout, step);
            runs.push(output.map_err(Failure::run)?.stats);
            hand_back_memory(&self.device());
        }
        let counts = self.counts();
        let prefill_secs = runs.iter().map(|run| run.prefill_secs).collect();
        let decode_secs = runs.iter().map(|run| run.decode_secs).collect();
        let prefill = self.measured("prefill", load, prefill_secs, &[counts.prefill(&load)]);
        let steps: Vec<Work> = (1..load.new_tokens)
            .map(|index| counts.decode_step(&load, index))
            .collect();
        let decode = self.measured("decode", load, decode_secs, &steps);
        let stats = runs[0];
        let measured = [
            Measured {
                num_units: stats.prefill_tokens,
                ..prefill
            },
            Measured {
                // The first token of a completion comes of its prefill.
                num_units: stats.decode_tokens - (load.num_prompts * load.group) as u64,
                num_passes: stats.decode_steps,
                num_replayed: stats.replayed_steps,
                ..decode
            },
        ];
        Ok((measured, engine.warning()))
    }

    /// Forward and backward pass of one micro-batch, and with it the optimizer's step if that is
    /// wanted; without it the weights stay as they are.
    ///
    /// # Errors
    /// If the device fails or a gradient is not finite.
    pub fn update(mut self, load: Load, with_optimizer: bool) -> Result<Vec<Measured>, Failure> {
        let device = self.device();
        let wait = || device.sync().map_err(Failure::run);
        let rows = load.rows(self.policy.config().vocab_size);
        let rows: Vec<&Row> = rows.iter().collect();
        let batch = MicroBatch::new(&rows, &device);
        let settings = optimizer_settings();
        let mut optimizer = Optimizer::new(&settings);
        let rate = settings.learning_rate;
        let (mut update_secs, mut optimizer_secs) = (Vec::new(), Vec::new());
        for _ in 0..=self.repeats {
            let started = Instant::now();
            let gradients = gradients(&self.policy, &batch, &self.scoring);
            wait()?;
            update_secs.push(started.elapsed().as_secs_f64());
            let started = Instant::now();
            let norm = global_norm(&self.policy, &gradients).map_err(Failure::run)?;
            if !norm.is_finite() {
                return Err(Failure::run("compute gradients: their norm is not finite"));
            }
            if with_optimizer {
                // Moved, so that nothing else holds the weights: they are then edited in place.
                self.policy = optimizer.step(rate, self.policy, gradients, norm).0;
                wait()?;
                optimizer_secs.push(started.elapsed().as_secs_f64());
            }
        }
        let counts = self.counts();
        let mut found = vec![Measured {
            num_units: (load.num_prompts * load.group * load.new_tokens) as u64,
            predicted_bytes: Some(self.predicted_bytes(load)),
            reserved_bytes: device_memory(&device).map(|it| it.reserved_bytes),
            ..self.measured("update", load, update_secs, &[counts.update(&load)])
        }];
        if with_optimizer {
            found.push(Measured {
                num_units: self.policy.num_params() as u64,
                ..self.measured("optimizer", load, optimizer_secs, &[counts.optimizer()])
            });
        }
        Ok(found)
    }

    /// Of an update of the load in one micro-batch.
    fn predicted_bytes(&self, load: Load) -> u64 {
        let (model, prompt) = (self.policy.config(), load.prompt_tokens);
        let shape = RunShape::of_call(self.kind, model, prompt, self.precision());
        let mut config = RunConfig::default();
        config.backend.kind = self.kind;
        config.selection.prompts_per_step = load.num_prompts;
        config.rollout.group_size = load.group;
        config.rollout.max_new_tokens = load.new_tokens;
        config.update.max_tokens_per_microbatch = usize::MAX;
        config.update.max_logits_bytes = self.scoring.max_logits_bytes;
        bare_update_bytes(&shape, &config)
    }

    fn engine(&self, load: Load) -> Engine {
        let model = self.policy.config();
        let rollout = RolloutConfig {
            max_slots: load.num_prompts * load.group,
            // All at once, whatever they take.
            kv_budget_bytes: u64::MAX,
            max_new_tokens: load.new_tokens,
            ..self.rollout.clone()
        };
        Engine::new(model, rollout, self.precision())
    }

    fn measured(
        &self,
        stage: &'static str,
        load: Load,
        mut secs: Vec<f64>,
        work: &[Work],
    ) -> Measured {
        let first_secs = secs.remove(0);
        let floor = |peaks: &Peaks| work.iter().map(|work| work.secs_at(peaks)).sum();
        Measured {
            stage,
            load,
            num_units: 0,
            num_passes: 1,
            num_replayed: 0,
            first_secs,
            secs,
            floor_secs: self.peaks.as_ref().map(floor),
            predicted_bytes: None,
            reserved_bytes: None,
        }
    }

    fn counts(&self) -> Counts {
        Counts::new(self.policy.config(), self.precision())
    }

    fn precision(&self) -> Precision {
        self.scoring.precision
    }

    fn device(&self) -> Device {
        self.policy.head_weight().device().inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::scoring;
    use crate::bench::shapes::tiny;
    use crate::optimizer::with_stable_ids;

    const LOAD: Load = Load {
        num_prompts: 2,
        group: 3,
        prompt_tokens: 20,
        new_tokens: 7,
    };

    fn bench() -> Bench {
        let peaks = Peaks {
            flops_per_sec: 1e12,
            matmul_size: 1,
            bytes_per_sec: 1e11,
        };
        Bench {
            policy: with_stable_ids(Decoder::init(&tiny(), 1, &crate::test_device().autodiff())),
            kind: BackendKind::Cpu,
            rollout: RolloutConfig {
                max_slots: 1,
                kv_budget_bytes: 1,
                ..RolloutConfig::default()
            },
            scoring: scoring(Precision::F32),
            repeats: 2,
            peaks: Some(peaks),
        }
    }

    #[test]
    fn all_completions_run_together_and_to_their_end() {
        let ([prefill, decode], warning) = bench().rollouts(LOAD).unwrap();
        assert_eq!(warning, None);
        assert_eq!((prefill.num_units, prefill.num_passes), (40, 1));
        assert_eq!((decode.num_units, decode.num_passes), (6 * 6, 6));
        for found in [prefill, decode] {
            assert_eq!(found.secs.len(), 2);
            assert!(found.secs.iter().all(|secs| *secs > 0.0), "{found:?}");
            let share = found.roofline_share().unwrap();
            assert!(share > 0.0 && share < 1.0, "{found:?}");
        }
    }

    #[test]
    fn an_update_counts_completion_tokens_and_the_optimizer_comes_if_asked() {
        let weights = bench().policy.num_params() as u64;
        let found = bench().update(LOAD, true).unwrap();
        let units: Vec<_> = found.iter().map(|it| (it.stage, it.num_units)).collect();
        assert_eq!(units, [("update", 6 * 7), ("optimizer", weights)]);
        assert!(found.iter().all(|it| it.secs.len() == 2), "{found:?}");
        // With the weights; a CPU's memory has no allocator of its own.
        assert!(found[0].predicted_bytes > Some(4 * weights));
        assert_eq!(found[0].reserved_bytes, None);
        let found = bench().update(LOAD, false).unwrap();
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn the_first_run_is_told_apart_and_the_median_is_in_the_middle() {
        let mut found = Measured {
            stage: "decode",
            load: LOAD,
            num_units: 12,
            num_passes: 1,
            num_replayed: 0,
            first_secs: 100.0,
            predicted_bytes: None,
            reserved_bytes: None,
            secs: vec![5.0, 1.0, 3.0],
            floor_secs: Some(1.5),
        };
        assert_eq!(found.median_secs(), 3.0);
        assert_eq!(found.units_per_sec(), 4.0);
        assert_eq!(found.roofline_share(), Some(0.5));
        found.secs = vec![5.0, 1.0];
        assert_eq!(found.median_secs(), 3.0);
    }
}
