//! Problems with reference answers: from files, from the hub, or made by procedural tasks.
//!
//! ```text
//! spec -> rows (file, hub) or generator (task) -> Problem -> split by content hash -> Dataset
//! ```
//!
//! Every reference answer is read by the verifier when it is loaded; train and held-out never
//! share a problem.

mod config;
mod error;
mod format;
mod hub;
mod load;
mod prompt;
mod row;
mod source;
mod spec;
mod split;
mod table;
pub mod task;

pub use config::{DataConfig, Fields, Unreadable};
pub use error::{DatasetError, Place};
pub use format::AnswerFormat;
pub use load::{DataReport, Dataset, load};
pub use prompt::{PromptConfig, Rendered, Shot};
pub use spec::{HubSpec, Spec};
pub use split::prompt_id;
