//! Choice of the device that a run computes on.
//!
//! Cargo features decide which backends a binary contains, and any number of them can be
//! compiled together; a run chooses one by name. This is the only package that names a backend:
//! everything else takes its device from the tensors it is given.
//!
//! ```
//! # #[cfg(feature = "cpu")] {
//! use rlvr_backends::{BackendKind, device};
//! let device = device(BackendKind::Cpu)?;
//! assert!(!device.is_autodiff());
//! # }
//! # Ok::<(), rlvr_backends::BackendError>(())
//! ```

mod allocator;
mod error;
mod facts;
mod hear;
mod kind;
mod memory;
#[cfg(any(test, feature = "cuda"))]
mod nvidia;
mod open;
mod precision;
mod row_layout;
mod sentence;
mod threads;

pub mod graph;
pub mod kernels;

pub use allocator::keep_freed_memory;
pub use error::{BackendError, NoPrecision, ThreadsError};
pub use facts::{DeviceFacts, is_host};
pub use kind::{BackendKind, UnknownBackend, compiled};
pub use memory::{
    DeviceMemory, OutOfMemory, catch_shortage, device_memory, hand_back_memory, total_memory,
};
pub use open::device;
pub use precision::PrecisionChoice;
pub use rlvr_core::Precision;
pub use row_layout::RowLayout;
pub use sentence::device_sentence;
pub use threads::set_threads;
