//! The section `[selection.audit]`.

use serde::{Deserialize, Serialize};

use crate::config::InvalidValue;
use crate::config::range::{at_least, not_negative, within};

/// What is measured about the gate. Nothing here changes a selection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// Steps between two audits of a gate, 1 or more; unset means none. An audit rolls out some of
    /// the prompts that the gate rejected, and trains on none of them.
    pub every: Option<u64>,
    /// Prompts of an audit, 1 or more.
    pub groups: usize,
    /// Steps between two measurements of the utility of the groups, 1 or more; unset means none.
    /// They cost a forward pass and the gradient of the head per group.
    pub utility_every: Option<u64>,
    /// Steps over which correlations and warnings are computed, 1 or more.
    pub window_steps: usize,
    /// Warn above this z of the mixed share of rejected over that of kept groups.
    pub worse_half_z: f64,
    /// Groups in the window from which on a lost correlation is warned about.
    pub proxy_min_groups: usize,
    /// Warn if kept groups are this much farther from a pass rate of one half than rejected ones.
    pub edge_distance: f64,
    /// Warn above this correlation of prompt entropy with prompt length, without sign.
    pub length_correlation: f64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            every: Some(10),
            groups: 32,
            utility_every: None,
            window_steps: 20,
            worse_half_z: 1.645,
            proxy_min_groups: 64,
            edge_distance: 0.05,
            length_correlation: 0.7,
        }
    }
}

impl AuditConfig {
    /// True if the step with this number, counted from 1, is audited.
    pub fn is_due(&self, step: u64) -> bool {
        self.every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// True if utilities are measured in the step with this number, counted from 1.
    pub fn is_utility_due(&self, step: u64) -> bool {
        let every = self.utility_every;
        every.is_some_and(|every| step == 1 || step.is_multiple_of(every))
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first key whose value is outside its range.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("selection.audit.every", self.every.unwrap_or(1), 1)?;
        at_least("selection.audit.groups", self.groups, 1)?;
        let every = self.utility_every.unwrap_or(1);
        at_least("selection.audit.utility_every", every, 1)?;
        at_least("selection.audit.window_steps", self.window_steps, 1)?;
        not_negative("selection.audit.worse_half_z", self.worse_half_z)?;
        not_negative("selection.audit.edge_distance", self.edge_distance)?;
        let most = self.length_correlation;
        within("selection.audit.length_correlation", most, 0.0..=1.0)
    }
}
