//! Memory of devices: what is held, how it is handed back, and what happens when there is none.

use std::panic::resume_unwind;

use burn::tensor::{Device, Tensor};
use thiserror::Error;

use crate::hear::{Ear, hear, message};

/// The device had no room for an allocation.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("no room on the device{}", .bytes.map_or_else(String::new, |it| format!(" for {it} bytes")))]
pub struct OutOfMemory {
    /// Size of the allocation that failed, where the driver says it.
    pub bytes: Option<u64>,
}

/// What CubeCL 0.11 and wgpu 30 say of an allocation that failed; the size follows at once, if at
/// all. CubeCL frees what it holds unused and tries again before it says so.
const SAYINGS: [&str; 6] = [
    // `IoError::OutOfMemory`: the driver has none left.
    "out of device memory allocating ",
    // `IoError::BufferTooBig`: larger than any buffer of the device.
    "can't allocate buffer of size: ",
    // `IoError::PageSizesExhausted`: no page of a new size can be made.
    "every page size the memory tracks still holds live allocations",
    // `IoError::NotFound`: what is read never got the memory that was asked for.
    "couldn't find resource for that handle: Memory location was never initialized",
    // `LaunchError::OutOfMemory`.
    "An out-of-memory error happened during launch",
    WGPU_SAYING,
];

/// What wgpu says in a panic on the thread of the device: the operation that needed the memory
/// leaves its result unwritten, and nothing later need report it.
const WGPU_SAYING: &str = "wgpu error: Out of Memory";

impl OutOfMemory {
    /// The shortage that an error or a panic reports; `None` if it is about something else.
    pub fn in_text(text: &str) -> Option<Self> {
        let rest = SAYINGS.iter().find_map(|saying| {
            let place = text.find(saying)?;
            Some(&text[place + saying.len()..])
        })?;
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let digits = &rest[..end.unwrap_or(rest.len())];
        Some(Self {
            bytes: digits.parse().ok(),
        })
    }
}

/// Shortages on the thread of the work, and those of wgpu on the threads of devices.
struct Shortages;

impl Ear for Shortages {
    fn takes(&self, words: &str, is_own_thread: bool) -> bool {
        match is_own_thread {
            true => OutOfMemory::in_text(words).is_some(),
            false => words.contains(WGPU_SAYING),
        }
    }
}

/// Runs `work`, which ends with a read of all that it computed, and reports if the device ran out
/// of memory meanwhile, by whatever but an error. Any other panic goes on.
///
/// Backends report a failed allocation late: by a panic in the read of a result that was never
/// written, or on a thread of their own. An error that `work` returns instead of panicking is
/// recognised by [`OutOfMemory::in_text`].
///
/// # Errors
/// If memory ran out. The tensors that `work` made are not to be used; dropped, the device is as it
/// was before.
fn catch_out_of_memory<T>(work: impl FnOnce() -> T) -> Result<T, OutOfMemory> {
    let heard = hear(Shortages, work);
    let taken = heard.words.iter().find_map(|it| OutOfMemory::in_text(it));
    match (heard.outcome, taken) {
        (_, Some(shortage)) => Err(shortage),
        (Ok(value), None) => Ok(value),
        // Passed on from another thread, where the hook could not tell whose it was.
        (Err(payload), None) => match OutOfMemory::in_text(&message(payload.as_ref())) {
            Some(shortage) => Err(shortage),
            None => resume_unwind(payload),
        },
    }
}

/// Runs `work`, which ends with a read of all that it computed, and reports if the device ran out of memory
/// meanwhile, by a panic or by an error, in whose `words` it then stands. Any other panic goes on.
///
/// # Errors
/// If memory ran out; any other error of `work` is the value. The tensors that `work` made are not to be
/// used; dropped, the device is as it was before.
pub fn catch_shortage<T, E>(
    work: impl FnOnce() -> Result<T, E>,
    words: impl Fn(&E) -> String,
) -> Result<Result<T, E>, OutOfMemory> {
    let found = catch_out_of_memory(work)?;
    let error = found.as_ref().err();
    match error.and_then(|error| OutOfMemory::in_text(&words(error))) {
        Some(shortage) => Err(shortage),
        None => Ok(found),
    }
}

/// Memory that the allocator of a device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Of tensors that exist.
    pub in_use_bytes: u64,
    /// Taken from the driver, that of `in_use_bytes` included.
    pub reserved_bytes: u64,
}

/// What the allocator of a device holds once all that was asked of it is done; `None` for devices
/// without one, such as the CPU.
pub fn device_memory(device: &Device) -> Option<DeviceMemory> {
    let usage = device.memory_pool_usage()?;
    Some(DeviceMemory {
        in_use_bytes: usage.bytes_in_use,
        reserved_bytes: usage.bytes_reserved,
    })
}

/// All memory of a device that has its own, used or not, where its driver tells: of CUDA devices. Of a
/// part of a card it is that part's.
pub fn total_memory(device: &Device) -> Option<u64> {
    #[cfg(feature = "cuda")]
    {
        use burn::backend::{CubeDevice, DispatchDevice};
        let device = device.clone().without_autodiff();
        if let DispatchDevice::Cube(device @ CubeDevice::Cuda(_)) = device.as_dispatch() {
            return device.client().properties().memory.max_memory();
        }
    }
    let _ = device;
    None
}

/// Part of a device's memory that a page of its allocator takes at least.
const PAGES: u64 = 32;

/// Has the allocator carve tensors from large pages. CubeCL's pages are as large as the largest tensor
/// so far, which leaves half of them empty where tensors are of a few sizes: an update of SmolLM2-135M
/// took 6.2 GB of a device for 3.2 GB of tensors, and 3.25 GB after this. Does nothing where the size of
/// the device is not told.
pub(crate) fn enlarge_pages(device: &Device) {
    if let Some(total) = total_memory(device) {
        let values = total / PAGES / size_of::<f32>() as u64;
        drop(Tensor::<1>::empty([values as usize], device));
        hand_back_memory(device);
    }
}

/// Hands memory that no tensor uses back to the driver, so that a phase of a run does not hold what
/// only another one needs. Does nothing on the CPU.
pub fn hand_back_memory(device: &Device) {
    // What was dropped is free when the device comes to it.
    let _ = device.sync();
    device.memory_cleanup();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortages_are_told_from_other_trouble() {
        let bytes = |text| OutOfMemory::in_text(text).map(|it| it.bytes);
        let nested = "The bytes were never written (failure #3, still claiming 2 buffer(s))\nCaused \
                      by:\n  An IO error happened\nCaused by:\n  out of device memory allocating \
                      4096 bytes\n<backtrace>";
        assert_eq!(bytes(nested), Some(Some(4096)));
        assert_eq!(
            bytes("can't allocate buffer of size: 12\nmore"),
            Some(Some(12))
        );
        assert_eq!(bytes("wgpu error: Out of Memory"), Some(None));
        let pages = "Can't allocate 77 bytes: every page size the memory tracks still holds live \
                     allocations";
        assert_eq!(bytes(pages), Some(None));
        let refused = "An IO error happened: couldn't find resource for that handle: Memory location \
                       was never initialized";
        assert_eq!(bytes(refused), Some(None));
        for other in [
            "couldn't find resource for that handle",
            "Too much shared memory requested.\nRequested 200000 bytes, maximum 100000",
            "The device is poisoned",
            "wgpu error: Validation Error",
        ] {
            assert_eq!(bytes(other), None, "{other}");
        }
        // What is said of a shortage is not taken for another one.
        for bytes in [Some(4096), None] {
            assert_eq!(
                OutOfMemory::in_text(&OutOfMemory { bytes }.to_string()),
                None
            );
        }
    }

    #[test]
    fn a_shortage_is_caught_and_any_other_panic_goes_on() {
        let _turn = crate::hear::ONE_AT_A_TIME.lock();
        assert_eq!(catch_out_of_memory(|| 3), Ok(3));
        let own = catch_out_of_memory(|| panic!("out of device memory allocating 9 bytes"));
        assert_eq!(own, Err::<(), _>(OutOfMemory { bytes: Some(9) }));
        // On a thread of the driver, after which the work ends well.
        let driver = catch_out_of_memory(|| {
            let device = std::thread::spawn(|| panic!("wgpu error: Out of Memory"));
            drop(device.join());
        });
        assert_eq!(driver, Err(OutOfMemory { bytes: None }));
        let other = std::panic::catch_unwind(|| catch_out_of_memory(|| panic!("index 3 of 2")));
        let payload = other.expect_err("not a shortage");
        assert_eq!(message(payload.as_ref()), "index 3 of 2");
    }

    #[test]
    #[cfg(feature = "cpu")]
    fn the_cpu_holds_nothing_for_later() {
        let device = Device::flex();
        hand_back_memory(&device);
        assert_eq!(device_memory(&device), None);
        assert_eq!(total_memory(&device), None);
    }
}
