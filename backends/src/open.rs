//! Opening a device and making sure that it computes.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Tensor};

use crate::error::BackendError;
use crate::kind::{BackendKind, compiled};

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
    answer(|| {
        let device = open(kind);
        probe(&device)?;
        Ok(device)
    })
    .map_err(|reason| BackendError::NoDevice {
        requested: kind,
        reason,
    })
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
    let data = sum.try_into_data().map_err(|error| format!("{error:?}"))?;
    let values: Vec<f32> = data.iter::<f32>().collect();
    if values == [7.0] {
        Ok(())
    } else {
        Err(format!("1 + 2 + 4 gave {values:?}"))
    }
}

/// Runs `work` with panics caught and silenced; the first panic message is the error.
///
/// The panic hook belongs to the whole process, so one caller at a time exchanges it.
fn answer<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let heard = Arc::new(Mutex::new(None));
    let hearing = Arc::clone(&heard);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let mut first = hearing.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| message(info.payload()));
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(hook);
    outcome.unwrap_or_else(|payload| {
        let first = heard.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(first.unwrap_or_else(|| message(payload.as_ref())))
    })
}

/// The text of a panic on one line.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the driver gave no reason");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_driver_becomes_a_sentence() {
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
        let device = device(BackendKind::Cpu).expect("the CPU needs no driver");
        assert!(!device.is_autodiff());
    }
}
