//! What NVIDIA's driver says of a card, through `nvidia-smi`, which is part of the driver, and what is
//! missing of the toolkit.

use std::path::{Path, PathBuf};

/// Versions and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nvidia {
    driver: Option<String>,
    cuda: Option<String>,
    /// All and free.
    pub(crate) memory_bytes: Option<(u64, u64)>,
}

/// 10 times the major version of the card's compute capability, and the minor one.
#[cfg(feature = "cuda")]
pub(crate) fn compute_capability(device: &burn::tensor::Device) -> Option<u32> {
    let identity = device.identity()?;
    identity.fingerprint.strip_prefix("ptx_sm")?.parse().ok()
}

/// True if the card has tensor cores for bf16 and for TF32: from compute capability 8.0 on.
#[cfg(feature = "cuda")]
pub(crate) fn has_tensor_cores(device: &burn::tensor::Device) -> bool {
    compute_capability(device).is_some_and(|capability| capability >= 80)
}

/// Asks for the card at a PCI address; `None` where the tool is missing or refuses.
#[cfg(feature = "cuda")]
pub(crate) fn ask(pci_address: &str) -> Option<Nvidia> {
    let arguments = ["-q", "-d", "MEMORY", "-i", pci_address];
    let output = std::process::Command::new("nvidia-smi")
        .args(arguments)
        .output()
        .ok()?;
    let is_answered = output.status.success();
    is_answered.then(|| Nvidia::parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Headers that kernels of products include. CubeCL takes a kernel that does not compile for one that
/// is slow: without these, tensor cores would be left alone and nothing would say so.
const HEADERS: [&str; 4] = ["cuda_bf16.h", "mma.h", "crt/mma.h", "cuda/barrier"];

/// Headers that are not in the toolkit that CubeCL finds, and its folder; none where it needs no
/// headers.
#[cfg(feature = "cuda")]
pub(crate) fn missing_headers() -> Vec<PathBuf> {
    if !cfg!(feature = "cuda-nvrtc") {
        return Vec::new();
    }
    let named = std::env::var_os("CUDA_PATH").map(PathBuf::from);
    let usual = ["/usr/local/cuda", "/opt/cuda", "/usr"].map(PathBuf::from);
    let found = named.or_else(|| usual.into_iter().find(|folder| folder.exists()));
    found.map_or_else(Vec::new, |folder| missing_under(&folder.join("include")))
}

/// Headers that are in neither of the two folders that kernels are compiled with.
fn missing_under(include: &Path) -> Vec<PathBuf> {
    let is_missing = |header: &&&str| {
        let places = [include.join(header), include.join("cccl").join(header)];
        !places.iter().any(|place| place.exists())
    };
    let missing = HEADERS.iter().filter(is_missing);
    missing.map(|header| include.join(header)).collect()
}

impl Nvidia {
    /// Reads lines such as `Driver Version : 550.54.15`; the sizes are those of the section `FB
    /// Memory Usage`.
    fn parse(text: &str) -> Self {
        let (mut found, mut section) = (Self::default(), "");
        let (mut total, mut free) = (None, None);
        for line in text.lines() {
            let Some((name, value)) = line.split_once(" : ") else {
                section = line.trim();
                continue;
            };
            let value = value.trim();
            match (section, name.trim()) {
                (_, "Driver Version") => found.driver = Some(value.into()),
                (_, "CUDA Version") => found.cuda = Some(value.into()),
                ("FB Memory Usage", "Total") => total = mebibytes(value),
                ("FB Memory Usage", "Free") => free = mebibytes(value),
                _ => {}
            }
        }
        found.memory_bytes = total.zip(free);
        found
    }

    pub(crate) fn words(&self) -> String {
        let known = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".into());
        format!(
            "driver {}, CUDA up to {}",
            known(&self.driver),
            known(&self.cuda)
        )
    }
}

fn mebibytes(text: &str) -> Option<u64> {
    let number: u64 = text.strip_suffix("MiB")?.trim().parse().ok()?;
    Some(number << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What driver 550 prints for an H100.
    const ANSWER: &str = "
==============NVSMI LOG==============

Timestamp                                 : Mon Nov 23 10:00:00 2026
Driver Version                            : 550.54.15
CUDA Version                              : 12.4

Attached GPUs                             : 1
GPU 00000000:04:00.0
    FB Memory Usage
        Total                             : 81559 MiB
        Reserved                          : 551 MiB
        Used                              : 1007 MiB
        Free                              : 80001 MiB
    BAR1 Memory Usage
        Total                             : 131072 MiB
        Used                              : 1 MiB
        Free                              : 131071 MiB
    Conf Compute Protected Memory Usage
        Total                             : 0 MiB
        Used                              : 0 MiB
        Free                              : 0 MiB
";

    #[test]
    fn a_header_may_be_in_either_folder() {
        let name = format!("rlvr-headers-{}", std::process::id());
        let include = std::env::temp_dir().join(name);
        for header in ["cuda_bf16.h", "mma.h", "cccl/cuda/barrier"] {
            let path = include.join(header);
            let folder = path.parent().expect("it is in a folder");
            std::fs::create_dir_all(folder).expect("the folder is ours");
            std::fs::write(&path, "").expect("the folder is ours");
        }
        assert_eq!(missing_under(&include), [include.join("crt/mma.h")]);
        std::fs::remove_dir_all(&include).expect("the folder is ours");
        assert_eq!(missing_under(&include).len(), HEADERS.len());
    }

    #[test]
    fn versions_and_the_memory_of_the_card_are_read() {
        let found = Nvidia::parse(ANSWER);
        assert_eq!(found.words(), "driver 550.54.15, CUDA up to 12.4");
        assert_eq!(found.memory_bytes, Some((81559 << 20, 80001 << 20)));
        let nothing = Nvidia::parse("No devices were found");
        assert_eq!(nothing, Nvidia::default());
        assert_eq!(nothing.words(), "driver unknown, CUDA up to unknown");
    }
}
