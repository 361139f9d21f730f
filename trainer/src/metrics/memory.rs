//! Memory of this process and this machine, where the operating system tells.

use std::fs;

use burn::tensor::Device;
use rlvr_backends::{device_memory, hand_back_memory};

use super::step::Timing;

impl Timing {
    /// Notes what the device's allocator holds at the end of an update, and hands back what no
    /// tensor uses.
    pub fn end_update(&mut self, device: &Device) {
        let held = device_memory(device);
        self.device_reserved_bytes = held.map(|it| it.reserved_bytes);
        self.device_in_use_bytes = held.map(|it| it.in_use_bytes);
        hand_back_memory(device);
    }
}

/// Largest resident memory of this process so far; `None` where `/proc` does not exist.
pub fn host_peak_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Memory of the machine, all of it and what is still available.
pub fn host_total_bytes() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some((
        kibibytes(&text, "MemTotal:")?,
        kibibytes(&text, "MemAvailable:")?,
    ))
}

/// The value of a line such as `VmHWM:   1234 kB`, in bytes.
fn kibibytes(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_labelled_line_is_read_in_bytes() {
        let text = "VmPeak:\t 99 kB\nVmHWM:\t    1234 kB\n";
        assert_eq!(kibibytes(text, "VmHWM:"), Some(1_263_616));
        assert_eq!(kibibytes(text, "VmRSS:"), None);
        assert_eq!(kibibytes("VmHWM: many", "VmHWM:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_covers_what_was_allocated() {
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        assert!(host_peak_bytes().unwrap() > block.len() as u64);
        let (total, available) = host_total_bytes().unwrap();
        assert!(total >= available && available > 0);
    }
}
