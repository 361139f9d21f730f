//! `trainer doctor`: what this binary and this machine can do, and what to change.

use std::fmt;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::thread;

use rlvr_backends::{BackendKind, DeviceFacts, compiled, device};

use crate::cli::DoctorArgs;
use crate::config::recipe_names;
use crate::failure::Failure;
use crate::metrics::{host_total_bytes, metric_table};
use crate::self_test::self_test;

/// Version of Burn that this binary is built with; equal to the pinned one (tested).
pub const BURN_VERSION: &str = "0.22.1";

/// Below this a real model does not fit beside its optimizer state and activations.
const LITTLE_MEMORY_BYTES: u64 = 4 << 30;

/// What one backend says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// A device answers, and says this of itself.
    Works(DeviceFacts),
    /// It is not in this binary.
    NotCompiled,
    /// It is, but no device answers, for this reason.
    NoDevice(String),
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Every backend that exists.
    pub backends: Vec<(BackendKind, BackendState)>,
    /// Name of the processor, where known.
    pub processor: Option<String>,
    /// Threads that this process may use.
    pub num_cores: Option<usize>,
    /// Memory of the machine and what of it is free, where known.
    pub memory_bytes: Option<(u64, u64)>,
    /// True if the current folder can be written to.
    pub can_write_here: bool,
    /// True if the binary was built with optimisation.
    pub is_optimised: bool,
}

/// Prints what was asked for; the exit code is 1 if a self-test failed.
///
/// # Errors
/// If a backend of the self-test cannot be used, or nothing can be printed.
pub fn run(args: &DoctorArgs, out: &mut impl io::Write) -> Result<u8, Failure> {
    if !args.self_test {
        write!(out, "{}", doctor(args)).map_err(Failure::run)?;
        return Ok(0);
    }
    let mut is_passed = true;
    for kind in args.backend.map_or_else(compiled, |kind| vec![kind]) {
        let found = self_test(kind)?;
        write!(out, "{found}").map_err(Failure::run)?;
        is_passed &= found.is_passed();
    }
    Ok(u8::from(!is_passed))
}

/// The report or table that the command prints.
fn doctor(args: &DoctorArgs) -> String {
    if args.metrics {
        return metric_table();
    }
    if args.recipes {
        return recipe_names().join("\n") + "\n";
    }
    Report::gather().to_string()
}

impl Report {
    /// Looks at this binary and this machine; opens each device that is compiled in.
    pub fn gather() -> Self {
        Self {
            backends: BackendKind::ALL.map(|kind| (kind, state(kind))).to_vec(),
            processor: processor(),
            num_cores: thread::available_parallelism().ok().map(NonZero::get),
            memory_bytes: host_total_bytes(),
            can_write_here: is_writable(Path::new(".")),
            is_optimised: !cfg!(debug_assertions),
        }
    }

    /// What to change, most important first; empty if nothing.
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if !self.is_optimised {
            advice.push("build with --release: this build is many times slower".into());
        }
        let works = |(_, state): &&(_, BackendState)| matches!(state, BackendState::Works(_));
        if self.backends.iter().filter(works).count() == 0 {
            let command = BackendKind::Cpu.build_command();
            advice.push(format!(
                "no backend works; `{command}` builds one that needs no driver"
            ));
        }
        advice.extend(self.backends.iter().filter_map(driver_advice));
        advice.extend(self.backends.iter().filter_map(header_advice));
        if self.num_cores == Some(1) {
            advice.push("one core only: expect half the speed of the README's figures".into());
        }
        if self
            .memory_bytes
            .is_some_and(|(_, free)| free < LITTLE_MEMORY_BYTES)
        {
            advice.push(
                "less than 4 GiB free: enough for the embedded model; for others lower \
                 rollout.kv_budget_bytes and update.max_tokens_per_microbatch"
                    .into(),
            );
        }
        if !self.can_write_here {
            advice.push("this folder cannot be written to: name a run directory with --out".into());
        }
        advice
    }
}

impl Report {
    fn write_backends(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nbackends")?;
        for (kind, state) in &self.backends {
            let name = kind.name();
            match state {
                BackendState::Works(facts) => {
                    writeln!(f, "  {name:8} works, in {}", facts.float_types.join(", "))?;
                    for line in device_lines(facts) {
                        writeln!(f, "  {:8} {line}", "")?;
                    }
                }
                BackendState::NotCompiled => {
                    writeln!(f, "  {name:8} not compiled in: {}", kind.build_command())?;
                }
                BackendState::NoDevice(reason) => writeln!(f, "  {name:8} no device: {reason}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        writeln!(f, "trainer {version}, Burn {BURN_VERSION}")?;
        self.write_backends(f)?;
        writeln!(f, "\nmachine")?;
        let unknown = || "unknown".to_string();
        let processor = self.processor.clone().unwrap_or_else(unknown);
        let num_cores = self
            .num_cores
            .map_or_else(unknown, |cores| cores.to_string());
        let memory = self.memory_bytes.map_or_else(unknown, |(total, free)| {
            format!(
                "{:.1} GiB, {:.1} GiB free",
                gibibytes(total),
                gibibytes(free)
            )
        });
        writeln!(
            f,
            "  processor {processor}\n  cores     {num_cores}\n  memory    {memory}"
        )?;
        writeln!(f, "\nrecipes\n  {}", recipe_names().join(", "))?;
        writeln!(f, "\nadvice")?;
        let advice = self.advice();
        if advice.is_empty() {
            return writeln!(f, "  none: `trainer` trains the embedded model");
        }
        advice.iter().try_for_each(|line| writeln!(f, "  - {line}"))
    }
}

/// What a device and its driver say, one line each.
fn device_lines(facts: &DeviceFacts) -> Vec<String> {
    let Some((device, target)) = &facts.identity else {
        return Vec::new();
    };
    let mut lines = vec![format!("{device}, kernels for {target}")];
    lines.extend(facts.driver.clone());
    let memory = facts.memory_bytes.map_or_else(
        || "unknown".to_string(),
        |(total, free)| {
            let (total, free) = (gibibytes(total), gibibytes(free));
            format!("{total:.1} GiB, {free:.1} GiB free")
        },
    );
    let buffer = facts.max_buffer_bytes.map(|bytes| {
        let bytes = gibibytes(bytes);
        format!(", largest buffer {bytes:.2} GiB")
    });
    lines.push(format!("memory {memory}{}", buffer.unwrap_or_default()));
    lines
}

/// What to install for a backend that is compiled in and finds no device.
fn driver_advice((kind, state): &(BackendKind, BackendState)) -> Option<String> {
    let BackendState::NoDevice(reason) = state else {
        return None;
    };
    let missing = |library: &str| reason.contains(library);
    let advice = match kind {
        BackendKind::Cuda if missing("libnvrtc") => {
            "install NVRTC of the CUDA toolkit (package cuda-nvrtc-12-8 of NVIDIA, libnvrtc12 of \
             Debian) and add its folder to LD_LIBRARY_PATH"
        }
        BackendKind::Cuda if missing("CUDA_PATH") => {
            "install the headers of the CUDA toolkit (package cuda-cudart-dev-12-8 of NVIDIA, \
             nvidia-cuda-dev of Debian) and set CUDA_PATH to the folder that has include/"
        }
        BackendKind::Cuda => {
            "install the NVIDIA driver (package cuda-drivers of NVIDIA, nvidia-driver of Debian); \
             in a container, start it with the GPU (docker run --gpus all); `nvidia-smi` shows \
             whether it works"
        }
        BackendKind::Wgpu | BackendKind::Vulkan => {
            "install the Vulkan loader and a driver (packages libvulkan1 and mesa-vulkan-drivers \
             of Debian and Ubuntu, vulkan-loader and mesa-vulkan-drivers of Fedora), unset \
             VK_ICD_FILENAMES and VK_DRIVER_FILES if they name none; `vulkaninfo --summary` shows \
             whether it works"
        }
        BackendKind::Cpu | BackendKind::Ndarray => "this should never happen: please report it",
    };
    Some(format!("for {kind}: {advice}"))
}

/// What to install where a device works, but not as fast as it could.
fn header_advice((kind, state): &(BackendKind, BackendState)) -> Option<String> {
    let BackendState::Works(facts) = state else {
        return None;
    };
    let missing = facts.missing_headers.iter();
    let missing: Vec<String> = missing.map(|path| path.display().to_string()).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "for {kind}: without {} products do not use tensor cores; install the headers of the \
             CUDA toolkit (packages cuda-cudart-dev-12-8, cuda-cccl-12-8 and cuda-crt-12-8 of \
             NVIDIA) or set CUDA_PATH to the folder whose include/ has them",
            missing.join(", ")
        )
    })
}

fn state(kind: BackendKind) -> BackendState {
    use rlvr_backends::BackendError::{NoDevice, NotCompiled};
    match device(kind) {
        Ok(device) => BackendState::Works(DeviceFacts::of(kind, &device)),
        Err(NotCompiled { .. }) => BackendState::NotCompiled,
        Err(NoDevice { reason, .. }) => BackendState::NoDevice(reason),
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().into())
}

fn is_writable(folder: &Path) -> bool {
    let probe = folder.join(format!(".trainer-doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, b"").is_ok();
    written && std::fs::remove_file(&probe).is_ok()
}

fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let advice = |kind, reason: &str| {
            let state = BackendState::NoDevice(reason.into());
            driver_advice(&(kind, state)).expect("there is no device")
        };
        let nvrtc = "the compiler of the CUDA toolkit, libnvrtc, is not on this machine";
        assert!(advice(BackendKind::Cuda, nvrtc).contains("cuda-nvrtc"));
        let headers = "the headers of the CUDA toolkit are not where CUDA_PATH says";
        assert!(advice(BackendKind::Cuda, headers).contains("cuda-cudart-dev"));
        let driver = "the library of the NVIDIA driver, libcuda, is not on this machine";
        assert!(advice(BackendKind::Cuda, driver).contains("nvidia-driver"));
        let adapter = advice(BackendKind::Wgpu, "no GPU answers");
        assert!(
            adapter.starts_with("for wgpu: install the Vulkan loader"),
            "{adapter}"
        );
        let unlimited = DeviceFacts {
            identity: Some(("llvmpipe".into(), "spirv".into())),
            max_buffer_bytes: Some(1 << 27),
            ..DeviceFacts::default()
        };
        let slow = DeviceFacts {
            missing_headers: vec!["/opt/cuda/include/crt/mma.h".into()],
            ..unlimited.clone()
        };
        let found = header_advice(&(BackendKind::Cuda, BackendState::Works(slow)));
        let found = found.expect("a header is missing");
        assert!(
            found.contains("crt/mma.h") && found.contains("cuda-crt"),
            "{found}"
        );
        let works = BackendState::Works(unlimited.clone());
        assert_eq!(header_advice(&(BackendKind::Cuda, works)), None);
        let lines = device_lines(&unlimited);
        assert_eq!(lines[1], "memory unknown, largest buffer 0.12 GiB");
    }

    #[test]
    fn the_report_names_every_backend_and_this_machine() {
        let text = doctor(&DoctorArgs::default());
        for kind in BackendKind::ALL {
            assert!(text.contains(&format!("  {:8} ", kind.name())), "{text}");
        }
        for part in ["Burn 0.22.1", "cores", "GiB free", "tiny", "advice"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn trouble_becomes_advice() {
        let facts = DeviceFacts {
            identity: Some(("Some GPU".into(), "its target".into())),
            driver: Some("driver 550.54.15, CUDA up to 12.4".into()),
            memory_bytes: Some((80 << 30, 60 << 30)),
            float_types: vec!["f32", "bf16"],
            ..DeviceFacts::default()
        };
        let healthy = Report {
            backends: vec![(BackendKind::Cpu, BackendState::Works(facts))],
            processor: None,
            num_cores: Some(2),
            memory_bytes: Some((16 << 30, 8 << 30)),
            can_write_here: true,
            is_optimised: true,
        };
        assert!(healthy.advice().is_empty());
        let text = healthy.to_string();
        assert!(text.contains("works, in f32, bf16"), "{text}");
        let said = [
            "           Some GPU, kernels for its target\n",
            "           driver 550.54.15, CUDA up to 12.4\n",
            "           memory 80.0 GiB, 60.0 GiB free\n",
        ];
        assert!(text.contains(&said.concat()), "{text}");
        let ill = Report {
            backends: vec![
                (BackendKind::Cpu, BackendState::NotCompiled),
                (
                    BackendKind::Cuda,
                    BackendState::NoDevice("no driver".into()),
                ),
            ],
            num_cores: Some(1),
            memory_bytes: Some((2 << 30, 1 << 30)),
            can_write_here: false,
            is_optimised: false,
            ..healthy
        };
        assert_eq!(ill.advice().len(), 6);
        assert!(ill.to_string().contains("no device: no driver"));
    }

    #[test]
    fn the_lists_are_printed_alone() {
        let metrics = DoctorArgs {
            metrics: true,
            ..DoctorArgs::default()
        };
        assert!(doctor(&metrics).contains("| `reward_mean` | 1 |"));
        let recipes = DoctorArgs {
            recipes: true,
            ..DoctorArgs::default()
        };
        assert!(doctor(&recipes).lines().any(|line| line == "tiny"));
    }
}
