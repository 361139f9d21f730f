//! What a device says of itself.

use burn::tensor::{Device, FloatDType};

/// True if the device computes on the host's memory, so that reading a tensor costs no transfer: of
/// the backends of this project, `cpu` and `ndarray`. A Vulkan device in software counts as a GPU.
pub fn is_host(device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    if *device == Device::flex() {
        return true;
    }
    #[cfg(feature = "ndarray")]
    #[allow(deprecated)] // it serves as a second implementation while Burn carries it
    if *device == Device::ndarray() {
        return true;
    }
    false
}

/// Who a device is and which floating-point types it computes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its name and what kernels are compiled for, of backends that report them.
    pub identity: Option<(String, String)>,
    /// Types with storage and arithmetic, widest first.
    pub float_types: Vec<&'static str>,
}

impl DeviceFacts {
    /// Asks the device.
    pub fn of(device: &Device) -> Self {
        let types = [
            ("f64", FloatDType::F64),
            ("f32", FloatDType::F32),
            ("bf16", FloatDType::BF16),
            ("f16", FloatDType::F16),
        ];
        let supported = types
            .iter()
            .filter(|(_, kind)| device.supports_dtype(*kind));
        Self {
            identity: identity(device),
            float_types: supported.map(|(name, _)| *name).collect(),
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn identity(device: &Device) -> Option<(String, String)> {
    let identity = device.identity()?;
    Some((identity.name, identity.fingerprint))
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn identity(_: &Device) -> Option<(String, String)> {
    None
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_the_host_tracked_or_not() {
        assert!(is_host(&Device::flex()));
        assert!(is_host(&Device::flex().autodiff()));
        #[cfg(feature = "wgpu")]
        assert!(!is_host(&Device::wgpu(Default::default())));
    }

    #[test]
    fn the_cpu_computes_in_f32_and_has_no_name() {
        let facts = DeviceFacts::of(&Device::flex());
        assert!(facts.float_types.contains(&"f32"), "{facts:?}");
        assert_eq!(facts.identity, None);
    }
}
