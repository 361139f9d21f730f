//! The CUDA driver and NVRTC, made of a CPU: a stand-in for `libcuda` and `libnvrtc` with which a
//! program of the feature `cuda-nvrtc` runs, and can be tested, on a machine without a GPU.
//!
//! It is one shared library that answers to both names. NVRTC's half takes CUDA C++, as CubeCL writes
//! it, and has the C++ compiler of the host (`g++`, or what `CUDA_EMULATOR_CXX` names) build it
//! against `include/`, where the qualifiers, built-in variables, 16-bit floats and tensor-core
//! fragments of CUDA are written in C++. The driver's half keeps memory, streams, events, modules and
//! graphs, and runs a launch block by block: the threads of a block are coroutines that take turns
//! and meet at `__syncthreads` and at the operations of a warp.
//!
//! What it shows: that every kernel a run launches compiles and computes, that sizes, bindings,
//! element types, synchronisation and the order of copies are right, how much device memory a run
//! allocates, and what happens when there is no more. What it does not show: the time of a device, the
//! accuracy of the device's own `exp` and its like, races between the threads of a block, and
//! everything of the parts that are not written here (tensor memory accelerator, clusters, several
//! devices).
//!
//! Environment variables, all optional:
//!
//! | name | meaning | default |
//! |---|---|---|
//! | `CUDA_EMULATOR_ARCH` | compute capability, such as `90` | `80` |
//! | `CUDA_EMULATOR_MEMORY` | bytes of device memory | 8 GiB |
//! | `CUDA_EMULATOR_CXX` | the C++ compiler | `g++` |
//! | `CUDA_EMULATOR_CACHE` | folder for compiled kernels | a folder of the system's temporary one |
//! | `CUDA_EMULATOR_NVRTC` | a real `libnvrtc` that has to accept every kernel too | none |
//! | `CUDA_EMULATOR_LOG` | a file that gets one line for every call that fails | none |
//! | `CUDA_EMULATOR_NO_CAPTURE` | whatever it is, streams refuse to capture graphs | none |
//! | `CUDA_EMULATOR_IDLE_AFTER` | so many launches are run, and those behind them not, and the host reads zeros: what a program takes then is the time of the host | all are |
//! | `CUDA_EMULATOR_TRACE` | whatever it is, the log gets a line for every launch and every allocation of memory too | none |

#![allow(non_snake_case)] // the names are those of the driver API

mod device;
mod grid;
mod lanes;
mod log;
mod memory;
mod module;
mod nvrtc;
mod settings;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod warp;
