//! Which precision a run computes its matrix products in.

use burn::tensor::{Device, FloatDType};
use rlvr_core::Precision;
use serde::{Deserialize, Serialize};

use crate::error::NoPrecision;
use crate::facts::DeviceFacts;
use crate::kind::BackendKind;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrecisionChoice {
    /// bf16 on backends whose hardware multiplies in it, if the device does; f32 elsewhere.
    #[default]
    Auto,
    /// f32 throughout.
    F32,
    /// Products in bf16.
    Bf16,
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 | Precision::F32Split => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl PrecisionChoice {
    /// The precision on this device of `kind`.
    ///
    /// # Errors
    /// If bf16 is asked for and the device does not compute in it.
    pub fn resolve(self, kind: BackendKind, device: &Device) -> Result<Precision, NoPrecision> {
        let has_it = device.supports_dtype(FloatDType::BF16);
        match self {
            Self::Auto if has_it && kind.multiplies_bf16() => Ok(Precision::Bf16),
            Self::F32 | Self::Auto if rounds_f32_products(kind, device) => Ok(Precision::F32Split),
            Self::F32 | Self::Auto => Ok(Precision::F32),
            Self::Bf16 if has_it => Ok(Precision::Bf16),
            Self::Bf16 => Err(NoPrecision {
                requested: kind,
                float_types: DeviceFacts::of(kind, device).float_types,
            }),
        }
    }
}

/// True if Burn's products of f32 tensors are not: on cards of NVIDIA with tensor cores for TF32,
/// which are those from compute capability 8.0 on, it uses them, and has no switch.
#[cfg(feature = "cuda")]
fn rounds_f32_products(kind: BackendKind, device: &Device) -> bool {
    if kind != BackendKind::Cuda {
        return false;
    }
    crate::nvidia::has_tensor_cores(device)
}

#[cfg(not(feature = "cuda"))]
fn rounds_f32_products(_: BackendKind, _: &Device) -> bool {
    false
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_chosen_where_hardware_multiplies_in_it_and_by_name() {
        // The device supports it; whether that is fast is known of the kind.
        let device = Device::flex();
        let resolve = |choice: PrecisionChoice, kind| choice.resolve(kind, &device).unwrap();
        for kind in BackendKind::ALL {
            let expected = match kind {
                BackendKind::Cuda => Precision::Bf16,
                _ => Precision::F32,
            };
            assert_eq!(resolve(PrecisionChoice::Auto, kind), expected, "{kind}");
            assert_eq!(resolve(PrecisionChoice::F32, kind), Precision::F32);
            assert_eq!(resolve(PrecisionChoice::Bf16, kind), Precision::Bf16);
        }
    }

    #[test]
    #[cfg(feature = "ndarray")]
    #[allow(deprecated)]
    fn what_a_device_lacks_is_refused_by_the_name_of_the_key() {
        let device = Device::ndarray();
        let error = PrecisionChoice::Bf16.resolve(BackendKind::Ndarray, &device);
        assert!(error.is_err());
        let auto = PrecisionChoice::Auto.resolve(BackendKind::Ndarray, &device);
        assert_eq!(auto, Ok(Precision::F32));
    }
}
