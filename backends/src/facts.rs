//! What a device says of itself.

use std::path::PathBuf;

use burn::tensor::{Device, FloatDType};

use crate::kind::BackendKind;

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

/// Who a device is, who drives it, and what it can hold and compute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its name and what kernels are compiled for, of backends that report them.
    pub identity: Option<(String, String)>,
    /// Interface and driver with their versions, in words, where they can be found out.
    pub driver: Option<String>,
    /// Its memory and what of it is free, where the driver tells.
    pub memory_bytes: Option<(u64, u64)>,
    /// The largest single buffer, where the interface limits it.
    pub max_buffer_bytes: Option<u64>,
    /// Types with storage and arithmetic, widest first.
    pub float_types: Vec<&'static str>,
    /// Headers of its toolkit without which kernels are slower, where any are missing.
    pub missing_headers: Vec<PathBuf>,
}

impl DeviceFacts {
    /// Asks a device of `kind`, and its driver.
    pub fn of(kind: BackendKind, device: &Device) -> Self {
        let types = [
            ("f64", FloatDType::F64),
            ("f32", FloatDType::F32),
            ("bf16", FloatDType::BF16),
            ("f16", FloatDType::F16),
        ];
        let supported = types
            .iter()
            .filter(|(_, kind)| device.supports_dtype(*kind));
        let facts = Self {
            float_types: supported.map(|(name, _)| *name).collect(),
            ..Self::default()
        };
        match kind {
            BackendKind::Cpu | BackendKind::Ndarray => facts,
            BackendKind::Wgpu | BackendKind::Vulkan => facts.with_graphics(kind, device),
            BackendKind::Cuda => facts.with_nvidia(device),
        }
    }
}

#[cfg(feature = "wgpu")]
mod graphics {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// In the order in which Burn goes through them; it stops at the first that has a GPU, or takes
    /// the first that has anything. The same part may answer to several by one name, so the first
    /// that knows the name is the one in use, and those behind it are not even opened.
    const INTERFACES: [wgpu::Backends; 4] = [
        wgpu::Backends::METAL,
        wgpu::Backends::VULKAN,
        wgpu::Backends::DX12,
        wgpu::Backends::GL,
    ];

    impl DeviceFacts {
        /// Adds what wgpu says of the adapter of this name. It tells no size of memory.
        pub(super) fn with_graphics(self, kind: BackendKind, device: &Device) -> Self {
            let Some(identity) = device.identity() else {
                return self;
            };
            let interfaces: &[wgpu::Backends] = match kind {
                BackendKind::Vulkan => &[wgpu::Backends::VULKAN],
                _ => &INTERFACES,
            };
            let mut adapters = interfaces.iter().copied().flat_map(adapters);
            let found = adapters.find(|it| it.get_info().name == identity.name);
            Self {
                identity: Some((identity.name.clone(), identity.fingerprint)),
                driver: found.as_ref().map(|adapter| words(&adapter.get_info())),
                max_buffer_bytes: found.map(|adapter| {
                    let limits = adapter.limits();
                    let binding = limits.max_storage_buffer_binding_size;
                    binding.min(limits.max_buffer_size)
                }),
                ..self
            }
        }
    }

    /// None where the interface has no driver.
    fn adapters(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        // Ready at once except in a browser.
        let found = pin!(instance.enumerate_adapters(backends));
        match found.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(adapters) => adapters,
            Poll::Pending => Vec::new(),
        }
    }

    fn words(info: &wgpu::AdapterInfo) -> String {
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "a discrete GPU",
            wgpu::DeviceType::IntegratedGpu => "an integrated GPU",
            wgpu::DeviceType::VirtualGpu => "a virtual GPU",
            wgpu::DeviceType::Cpu => "in software",
            wgpu::DeviceType::Other => "a device of unknown type",
        };
        let known = |text: &str| match text {
            "" => "unknown".to_string(),
            text => text.to_string(),
        };
        let (driver, version) = (known(&info.driver), known(&info.driver_info));
        format!("{:?}, {kind}, driver {driver}, {version}", info.backend)
    }
}

#[cfg(not(feature = "wgpu"))]
impl DeviceFacts {
    fn with_graphics(self, _: BackendKind, _: &Device) -> Self {
        self
    }
}

#[cfg(feature = "cuda")]
impl DeviceFacts {
    /// Adds what the driver says of the card through its own tool, which comes with it.
    fn with_nvidia(self, device: &Device) -> Self {
        let Some(identity) = device.identity() else {
            return self;
        };
        let address = identity.physical.as_ref().and_then(|card| card.pci_address);
        let found = address.and_then(|it| crate::nvidia::ask(&it.to_string()));
        Self {
            identity: Some((identity.name, identity.fingerprint)),
            driver: found.as_ref().map(|it| it.words()),
            memory_bytes: found.as_ref().and_then(|it| it.memory_bytes),
            missing_headers: crate::nvidia::missing_headers(),
            ..self
        }
    }
}

#[cfg(not(feature = "cuda"))]
impl DeviceFacts {
    fn with_nvidia(self, _: &Device) -> Self {
        self
    }
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
    fn the_cpu_computes_in_f32_and_has_no_driver() {
        let facts = DeviceFacts::of(BackendKind::Cpu, &Device::flex());
        assert!(facts.float_types.contains(&"f32"), "{facts:?}");
        let float_types = facts.float_types.clone();
        let nothing_else = DeviceFacts {
            float_types,
            ..DeviceFacts::default()
        };
        assert_eq!(facts, nothing_else);
    }
}
