//! Launches that are recorded once and repeated as one: CUDA graphs.
//!
//! Launching a kernel costs the host microseconds, and a decode step of a small model is hundreds of
//! kernels that take little more. A graph is launched as one.
//!
//! A replay runs the recorded kernels on the recorded memory, with the recorded numbers, those that the
//! host handed over included: whatever differs from one time to the next has to stand in memory that
//! is written in place, and that memory has to be the same as when it was recorded, which [`Storage`]
//! tells. CubeCL refuses a recording within which the device would be asked for memory or waited for,
//! so the same work has to have been done before, in a [`Preparation`]; and it keeps whatever memory
//! was recorded from any other use for as long as the graph lives.

#[cfg(feature = "cuda")]
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(feature = "cuda")]
use burn::backend::{Backend, BackendGraph, Dispatch, ExecutionError};
use burn::tensor::Device;
#[cfg(not(feature = "cuda"))]
use burn::tensor::{Int, Tensor};
use thiserror::Error;

#[cfg(feature = "cuda")]
use crate::sentence::device_sentence;

/// A recording failed, or a replay.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct GraphError(String);

impl GraphError {
    /// With the words of whoever refused.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// True if the device records launches, which it does not while CubeCL times each of them for its log.
pub fn records_launches(device: &Device) -> bool {
    #[cfg(feature = "cuda")]
    return crate::nvidia::compute_capability(device).is_some() && !times_launches();
    #[cfg(not(feature = "cuda"))]
    {
        let _ = device;
        false
    }
}

#[cfg(feature = "cuda")]
fn times_launches() -> bool {
    use cubecl::config::profiling::ProfilingLogLevel;
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
    let level = CubeClRuntimeConfig::get().profiling.logger.level;
    !matches!(
        level,
        ProfilingLogLevel::Disabled | ProfilingLogLevel::Minimal
    )
}

/// Recorded launches.
#[cfg(feature = "cuda")]
#[derive(Debug)]
pub struct Graph {
    device: Device,
    graph: BackendGraph<Dispatch>,
}

/// Work is done that will be recorded, so that the memory it needs is there.
#[cfg(feature = "cuda")]
#[derive(Debug)]
pub struct Preparation {
    device: Device,
    is_over: bool,
}

#[cfg(feature = "cuda")]
impl Preparation {
    /// Begins. What will be recorded is to be done a few times from now on, between two calls of
    /// `device.flush()` each.
    ///
    /// # Errors
    /// If the device does not record, or records already.
    pub fn new(device: &Device) -> Result<Self, GraphError> {
        Dispatch::graph_prepare(device.as_dispatch()).map_err(said)?;
        Ok(Self {
            device: device.clone(),
            is_over: false,
        })
    }

    /// Records what `work` launches, which is not run now.
    ///
    /// # Errors
    /// If the device refuses, or `work` needs what a recording cannot have. What `work` would have
    /// written cannot be read any more then.
    pub fn record<T>(mut self, work: impl FnOnce() -> T) -> Result<(Graph, T), GraphError> {
        let device = self.device.clone();
        self.is_over = true;
        Dispatch::graph_start_capture(device.as_dispatch()).map_err(said)?;
        let output = work();
        let graph = Dispatch::graph_stop_capture(device.as_dispatch()).map_err(said)?;
        Ok((Graph { device, graph }, output))
    }
}

#[cfg(feature = "cuda")]
impl Drop for Preparation {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Without a recording the device goes on preparing. Asked in a panic, it may panic again, which
        // would end the process.
        let stop = || Dispatch::graph_stop_capture(self.device.as_dispatch());
        let _ = catch_unwind(AssertUnwindSafe(stop));
    }
}

#[cfg(feature = "cuda")]
fn said(error: ExecutionError) -> GraphError {
    GraphError::new(device_sentence(&error.to_string()))
}

#[cfg(feature = "cuda")]
impl Graph {
    /// Runs what was recorded, behind what was asked of the device before.
    ///
    /// # Errors
    /// If the device refuses.
    #[allow(unsafe_code, reason = "Burn cannot know what a replay writes")]
    pub fn replay(&self) -> Result<(), GraphError> {
        // SAFETY: every page that the recorded launches were given memory on is guarded for as long
        // as the graph lives: it is neither released nor moved, and nothing new is placed on it
        // (`cubecl_runtime::memory_management::PageGuard`). So a replay writes no memory that has come
        // to belong to another tensor, whether those of the recording exist or not. Tensors do not
        // leave the thread, and with it the stream, that a recording is made on.
        let replayed = unsafe { Dispatch::graph_replay(self.device.as_dispatch(), &self.graph) };
        replayed.map_err(said)
    }
}

#[cfg(not(feature = "cuda"))]
mod without {
    use std::convert::Infallible;

    use burn::tensor::Device;

    use super::GraphError;

    /// There is none: no backend that records is compiled in.
    #[derive(Debug)]
    pub struct Preparation(Infallible);

    /// There is none.
    #[derive(Debug)]
    pub struct Graph(Infallible);

    impl Preparation {
        /// Fails.
        ///
        /// # Errors
        /// Always.
        pub fn new(_: &Device) -> Result<Self, GraphError> {
            Err(GraphError::new("the CUDA backend is not compiled in"))
        }

        /// Is never called.
        ///
        /// # Errors
        /// None.
        pub fn record<T>(self, _: impl FnOnce() -> T) -> Result<(Graph, T), GraphError> {
            match self.0 {}
        }
    }

    impl Graph {
        /// Is never called.
        ///
        /// # Errors
        /// None.
        pub fn replay(&self) -> Result<(), GraphError> {
            match self.0 {}
        }
    }
}

#[cfg(not(feature = "cuda"))]
pub use without::{Graph, Preparation};

/// Where the numbers of a tensor are: an allocation, and its first and last byte. `None` for devices
/// that do not record.
///
/// There is none of a tensor that was to be written and never was, for want of memory: a replay would take what
/// stands there, and with that CubeCL forgets the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage(Option<[u64; 3]>);

#[cfg(feature = "cuda")]
mod storage {
    use burn::tensor::{Int, Tensor};
    use burn_cubecl::tensor::CubeTensor;
    use burn_cubecl::{Cube, CubeBackend};

    use super::{GraphError, Storage};

    impl Storage {
        /// Of a tensor of floats.
        ///
        /// # Errors
        /// If it was never written.
        pub fn of<const D: usize>(tensor: &Tensor<D>) -> Result<Self, GraphError> {
            let lazy = tensor.clone().try_into_primitive::<Cube>();
            let resolved = lazy.map(|it| it.client.clone().resolve_tensor_float::<CubeBackend>(it));
            Ok(Self(resolved.ok().map(place).transpose()?))
        }

        /// Of a tensor of integers.
        ///
        /// # Errors
        /// If it was never written.
        pub fn of_ints<const D: usize>(tensor: &Tensor<D, Int>) -> Result<Self, GraphError> {
            let lazy = tensor.clone().try_into_primitive::<Cube>();
            let resolved = lazy.map(|it| it.client.clone().resolve_tensor_int::<CubeBackend>(it));
            Ok(Self(resolved.ok().map(place).transpose()?))
        }
    }

    fn place(tensor: CubeTensor) -> Result<[u64; 3], GraphError> {
        let written = tensor.client.check([&tensor.handle]);
        written.map_err(|error| GraphError::new(error.to_string()))?;
        let (memory, first, last) = tensor.handle.binding().claim_key();
        Ok([memory.value as u64, first, last])
    }
}

#[cfg(not(feature = "cuda"))]
impl Storage {
    /// Of a tensor of floats.
    ///
    /// # Errors
    /// None.
    pub fn of<const D: usize>(_: &Tensor<D>) -> Result<Self, GraphError> {
        Ok(Self(None))
    }

    /// Of a tensor of integers.
    ///
    /// # Errors
    /// None.
    pub fn of_ints<const D: usize>(_: &Tensor<D, Int>) -> Result<Self, GraphError> {
        Ok(Self(None))
    }
}
