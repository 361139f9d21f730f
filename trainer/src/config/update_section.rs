//! The optimizer and its schedule.

use serde::{Deserialize, Serialize};

use super::error::InvalidValue;
use super::range::{at_least, below, not_negative, positive};
use crate::optimizer::Schedule;

/// AdamW, its schedule, and how a step's rollouts are cut into passes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateSection {
    /// Peak learning rate, more than 0.
    pub learning_rate: f64,
    /// Decay of the first and second moment, each from 0 to below 1.
    pub betas: [f64; 2],
    /// Numerical guard under the root of the second moment, more than 0.
    pub eps: f64,
    /// Decoupled weight decay per unit of learning rate, 0 or more.
    pub weight_decay: f64,
    /// Global gradient norm above which gradients are scaled down, more than 0; unset means never.
    pub max_grad_norm: Option<f64>,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// What the learning rate does after the warm-up.
    pub schedule: Schedule,
    /// Passes over a step's rollouts, 1 or more.
    pub inner_epochs: usize,
    /// Optimizer steps per pass, 1 or more.
    pub minibatches: usize,
    /// Tokens of one forward pass, prompts counted once, 1 or more; or "auto", the default: as many
    /// as fit into a device that tells its memory, up to 131,072, and 8,192 elsewhere.
    pub max_tokens_per_microbatch: usize,
    /// Largest logits tensor of the loss, bytes, 1024 or more; or "auto", the default: 64 MiB, and up
    /// to 1 GiB on a device that tells its memory.
    pub max_logits_bytes: usize,
    /// Keep only the inputs of the blocks and run each block again in the backward pass: a tenth
    /// of the activations for a third more time.
    pub gradient_checkpointing: bool,
    /// Steps in a row that may be skipped for a non-finite loss or gradient before the run stops.
    pub max_consecutive_skips: u64,
}

impl Default for UpdateSection {
    fn default() -> Self {
        Self {
            learning_rate: 1e-6,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: Some(1.0),
            warmup_steps: 0,
            schedule: Schedule::Constant,
            inner_epochs: 1,
            minibatches: 1,
            max_tokens_per_microbatch: 8192,
            max_logits_bytes: 64 << 20,
            gradient_checkpointing: false,
            max_consecutive_skips: 5,
        }
    }
}

impl UpdateSection {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        positive("update.learning_rate", self.learning_rate)?;
        for beta in self.betas {
            below("update.betas", beta, 0.0, 1.0)?;
        }
        positive("update.eps", self.eps)?;
        not_negative("update.weight_decay", self.weight_decay)?;
        positive("update.max_grad_norm", self.max_grad_norm.unwrap_or(1.0))?;
        at_least("update.inner_epochs", self.inner_epochs, 1)?;
        at_least("update.minibatches", self.minibatches, 1)?;
        let tokens = self.max_tokens_per_microbatch;
        at_least("update.max_tokens_per_microbatch", tokens, 1)?;
        at_least("update.max_logits_bytes", self.max_logits_bytes, 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a value impossible.
    type Damaging = fn(&mut UpdateSection);

    #[test]
    fn impossible_values_are_named() {
        let cases: [(&str, Damaging); 6] = [
            ("update.learning_rate", |it| it.learning_rate = 0.0),
            ("update.betas", |it| it.betas[1] = 1.0),
            ("update.eps", |it| it.eps = f64::NAN),
            ("update.max_grad_norm", |it| it.max_grad_norm = Some(-1.0)),
            ("update.minibatches", |it| it.minibatches = 0),
            ("update.max_logits_bytes", |it| it.max_logits_bytes = 1),
        ];
        assert_eq!(UpdateSection::default().validate(), Ok(()));
        for (key, damage) in cases {
            let mut section = UpdateSection::default();
            damage(&mut section);
            assert_eq!(section.validate().unwrap_err().key, key);
        }
    }
}
