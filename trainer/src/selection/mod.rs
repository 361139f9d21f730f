//! Which prompts receive rollouts in a step.
//!
//! ```text
//! config ──> plan ──> driver: ┌─ stream ─> stage 1 ─> pool ─> gate ─> roll out ─> filter ─┐
//!                             └──────────────── top up until P groups ────────────────────┘
//!                       │
//!                       ├──> groups to train on (run.rs)
//!                       ├──> state: histories, exploration, position (checkpoints)
//!                       └──> records, window, edge map (what the gate is worth)
//! ```
//!
//! All arms are one [`Plan`] each and run through one driver and one set of counters. The
//! mathematics is in `rlvr_core::selection`.

mod audit_config;
mod calibration;
mod choose;
mod collected;
mod config;
mod counts;
mod driver;
pub mod edge_map;
mod error;
mod histories;
mod plan;
mod posterior;
mod record;
mod report;
mod rounds_config;
mod source;
mod state;
mod stream;
pub mod utility;
mod window;

pub use audit_config::AuditConfig;
pub use calibration::{Calibration, Correlations, Quartile};
pub use choose::stage1_passes;
pub use collected::Collected;
pub use config::{
    EntropyGate, Greso, GresoCode, History, Hive, Mopps, PoolRule, Preset, RandomGate,
    SelectionConfig, SelectionMethod,
};
pub use counts::{AuditCounts, StepCounts};
pub use driver::Collector;
pub use error::{CollectError, ShortStep};
pub use histories::{Histories, PromptHistory, Visit};
pub use plan::{Plan, PoolGate, Refill, Screen};
pub use record::{GroupRecord, GroupSource, group_record};
pub use report::{SelectionLine, SelectionTiming};
pub use rounds_config::{Filter, OnShort, RoundsConfig};
pub use source::{LiveSource, RolloutSource, SourceStats};
pub use state::{SelectionState, SelectionStateError, Totals};
pub use stream::{DataStream, EpochEnd, uniform_step};
pub use window::{EdgeStats, GroupPoint, PoolPoint, Warning, WindowStep, warnings};
