//! Opening a device and making sure that it computes.

use burn::tensor::{Device, Tensor};

use crate::error::BackendError;
use crate::hear::{Ear, hear, message};
use crate::kind::{BackendKind, compiled};
use crate::memory::enlarge_pages;
use crate::sentence::device_sentence;

/// The default device of a backend, without autodiff, after it has computed a small sum.
///
/// Drivers report missing hardware by panicking, partly on threads of their own, so the sum runs
/// with the panic caught and its message, the first of any thread, becomes the reason.
pub fn device(kind: BackendKind) -> Result<Device, BackendError> {
    if !kind.is_compiled() {
        return Err(BackendError::NotCompiled {
            requested: kind,
            compiled: compiled(),
        });
    }
    #[cfg(feature = "cuda")]
    keep_kernels();
    answer(|| {
        let device = open(kind);
        probe(&device)?;
        enlarge_pages(&device);
        Ok(device)
    })
    .map_err(|said| BackendError::NoDevice {
        requested: kind,
        reason: sentence(said),
    })
}

/// Has CubeCL keep compiled kernels between runs, beside what its tuning finds: a run has hundreds, and a
/// second of the compiler for many of them. They are kept by the linker's build ID; without one a
/// changed kernel could not be told from the one before.
#[cfg(feature = "cuda")]
fn keep_kernels() {
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
    if buildid::build_id().is_none() {
        return;
    }
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache = true;
    // Refused once a device has been opened, by when it has been done.
    let _ = CubeClRuntimeConfig::try_set(config);
}

/// What a driver said in words for a person, where it is known; the last of its own words elsewhere.
fn sentence(said: String) -> String {
    let known = [
        (
            "AdapterUnavailable",
            "no GPU and no software driver answers to Vulkan, Metal, DirectX or OpenGL",
        ),
        (
            "No adapter available",
            "no GPU and no software driver answers to Vulkan, Metal, DirectX or OpenGL",
        ),
        (
            "dynamically load the \"cuda\"",
            "the library of the NVIDIA driver, libcuda, is not on this machine",
        ),
        (
            "dynamically load the \"nvrtc\"",
            "the compiler of the CUDA toolkit, libnvrtc, is not on this machine",
        ),
        (
            "CUDA_PATH environment variable",
            "the headers of the CUDA toolkit are not where CUDA_PATH or /usr/local/cuda says",
        ),
        (
            "CUDA_ERROR_NO_DEVICE",
            "the NVIDIA driver finds no card, or CUDA_VISIBLE_DEVICES hides it",
        ),
    ];
    let found = known.iter().find(|(words, _)| said.contains(words));
    found.map_or_else(
        || device_sentence(&said),
        |(_, sentence)| (*sentence).into(),
    )
}

/// The device handle; no hardware is touched before its first tensor.
fn open(kind: BackendKind) -> Device {
    match kind {
        #[cfg(feature = "cpu")]
        BackendKind::Cpu => Device::flex(),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)] // it serves as a second implementation while Burn carries it
        BackendKind::Ndarray => Device::ndarray(),
        #[cfg(feature = "wgpu")]
        BackendKind::Wgpu => Device::wgpu(Default::default()),
        #[cfg(feature = "vulkan")]
        BackendKind::Vulkan => Device::vulkan(Default::default()),
        #[cfg(feature = "cuda")]
        BackendKind::Cuda => Device::cuda(0usize),
        #[allow(unreachable_patterns)] // reachable only if a feature is missing
        _ => unreachable!("`device` refuses backends that are not compiled in"),
    }
}

/// One operation whose result is known.
fn probe(device: &Device) -> Result<(), String> {
    let sum = Tensor::<1>::from_floats([1.0, 2.0, 4.0], device).sum();
    let data = sum.try_into_data().map_err(|error| error.to_string())?;
    let values: Vec<f32> = data.iter::<f32>().collect();
    if values == [7.0] {
        Ok(())
    } else {
        Err(format!("1 + 2 + 4 gave {values:?}"))
    }
}

/// Every panic, of whatever thread: drivers start some.
struct All;

impl Ear for All {
    fn takes(&self, _: &str, _: bool) -> bool {
        true
    }
}

/// Runs `work` with panics caught and silenced; the first panic message is the error.
fn answer<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let heard = hear(All, work);
    heard.outcome.unwrap_or_else(|payload| {
        let first = heard.words.into_iter().next();
        Err(first.unwrap_or_else(|| message(payload.as_ref())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_driver_becomes_a_sentence() {
        let _turn = crate::hear::ONE_AT_A_TIME.lock();
        let error = answer::<()>(|| {
            let driver = std::thread::spawn(|| panic!("no adapter\n   found"));
            driver.join().map_err(|_| "joined".to_string())?;
            Ok(())
        });
        assert_eq!(error, Err("joined".into()));
        let error = answer::<()>(|| {
            let driver = std::thread::spawn(|| panic!("no adapter\n   found"));
            driver.join().expect("the driver thread ended");
            Ok(())
        });
        assert_eq!(error, Err("no adapter found".into()));
        assert_eq!(answer(|| Ok(3)), Ok(3));
    }

    #[test]
    fn what_drivers_say_of_missing_hardware_becomes_a_sentence() {
        let wgpu =
            "Unable to acquire wgpu device: AdapterUnavailable { device: WgpuDevice { .. } }";
        assert!(sentence(wgpu.into()).starts_with("no GPU and no software driver"));
        let cuda = "Unable to dynamically load the \"cuda\" shared library - searched for [..]";
        assert!(sentence(cuda.into()).contains("libcuda"));
        assert_eq!(sentence("the moon is full".into()), "the moon is full");
    }

    #[test]
    fn what_is_not_compiled_is_refused_with_the_command() {
        for kind in BackendKind::ALL {
            if kind.is_compiled() {
                continue;
            }
            let error = device(kind).unwrap_err();
            assert!(matches!(error, BackendError::NotCompiled { .. }));
            assert!(error.to_string().contains(kind.name()), "{error}");
        }
    }

    #[test]
    #[cfg(feature = "cpu")]
    fn the_cpu_always_answers() {
        let _turn = crate::hear::ONE_AT_A_TIME.lock();
        let device = device(BackendKind::Cpu).expect("the CPU needs no driver");
        assert!(!device.is_autodiff());
    }
}
