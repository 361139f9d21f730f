//! What a run measures in every step, and the files it goes to.
//!
//! [`StepMetrics`] and its table are one definition: a metric that is not in the table does not
//! exist, and every line of `metrics.jsonl` has all of them in the table's order, `null` where a
//! value is absent or not finite. What depends on the machine is in the last object, `timing`;
//! everything before it is the same, byte for byte, in two runs of one configuration on the CPU.

mod define;
mod log;
mod memory;
mod step;

pub use define::MetricDef;
pub use log::{JsonlLog, Kept, LogError, read_records};
pub use memory::{host_peak_bytes, host_total_bytes};
pub use step::{StepMetrics, Timing, metric_table};
