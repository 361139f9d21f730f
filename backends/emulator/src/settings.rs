//! The settings, read from the environment once.

use std::path::PathBuf;
use std::sync::OnceLock;

/// What the environment asks for.
pub(crate) struct Settings {
    /// Compute capability, as 10 times the major version and the minor one.
    pub(crate) arch: i32,
    /// Bytes of device memory.
    pub(crate) memory: usize,
    /// The C++ compiler.
    pub(crate) compiler: String,
    /// Where compiled kernels are kept.
    pub(crate) cache: PathBuf,
    /// A real NVRTC that has to accept every kernel as well.
    pub(crate) nvrtc: Option<PathBuf>,
    /// The file that hears of calls that fail.
    pub(crate) log: Option<PathBuf>,
    /// Whether it hears of every launch too.
    pub(crate) traces: bool,
    /// Whether streams refuse to capture.
    pub(crate) refuses_capture: bool,
    /// Launches after which kernels are launched and not run.
    pub(crate) idle_after: usize,
}

/// The settings of this process.
///
/// # Panics
///
/// If a number cannot be read.
pub(crate) fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| Settings {
        arch: number("CUDA_EMULATOR_ARCH", 80),
        memory: number("CUDA_EMULATOR_MEMORY", 8 << 30),
        compiler: text("CUDA_EMULATOR_CXX").unwrap_or_else(|| "g++".into()),
        cache: text("CUDA_EMULATOR_CACHE").map_or_else(
            || std::env::temp_dir().join("rlvr-cuda-emulator"),
            PathBuf::from,
        ),
        nvrtc: text("CUDA_EMULATOR_NVRTC").map(PathBuf::from),
        log: text("CUDA_EMULATOR_LOG").map(PathBuf::from),
        traces: text("CUDA_EMULATOR_TRACE").is_some(),
        refuses_capture: text("CUDA_EMULATOR_NO_CAPTURE").is_some(),
        idle_after: number("CUDA_EMULATOR_IDLE_AFTER", usize::MAX),
    })
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    let Some(value) = text(name) else {
        return default;
    };
    value
        .parse()
        .unwrap_or_else(|_| panic!("{name} is {value:?}, which is no number"))
}
