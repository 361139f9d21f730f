//! A launch: the blocks of a grid, spread over the threads of the host.

use core::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cudarc::driver::sys::{CUfunction, CUresult, CUstream};
use rayon::prelude::*;

use crate::lanes::{Dim3, Lane, run_alone, run_together};
use crate::log;
use crate::module::{Kernel, kernel};
use crate::settings::settings;
use crate::stream::{self, Node};

/// Everything about one launch, with copies of its arguments.
#[derive(Clone)]
pub(crate) struct Launch {
    kernel: &'static Kernel,
    grid: Dim3,
    block: Dim3,
    shared_bytes: usize,
    /// The arguments, each in words of its own, so that they are aligned.
    arguments: Vec<Vec<u128>>,
}

/// Blocks that one thread takes at a time at least; a block of an elementwise kernel is short.
const BLOCKS_TOGETHER: usize = 4;

/// Launches that were run, those of graphs included.
static LAUNCHES: AtomicUsize = AtomicUsize::new(0);

/// True if kernels are not run any more; the host reads zeros then.
pub(crate) fn is_idle() -> bool {
    LAUNCHES.load(Ordering::Relaxed) >= settings().idle_after
}

impl Launch {
    /// Runs every block.
    ///
    /// # Safety
    ///
    /// The arguments are what the kernel expects.
    pub(crate) unsafe fn run(&self) -> Result<(), CUresult> {
        let started = Instant::now();
        let blocks = match is_idle() {
            true => 0,
            false => self.grid.count(),
        };
        LAUNCHES.fetch_add(1, Ordering::Relaxed);
        let pointers = Arguments(
            self.arguments
                .iter()
                .map(|words| words.as_ptr().cast_mut().cast())
                .collect(),
        );
        (0..blocks)
            .into_par_iter()
            .with_min_len(BLOCKS_TOGETHER)
            .for_each(|block| self.run_block(block, &pointers));
        if settings().traces {
            log::line(format_args!(
                "launch {} grid {} block {} shared {} seconds {:.6}",
                self.kernel.name,
                self.grid,
                self.block,
                self.shared_bytes,
                started.elapsed().as_secs_f64()
            ));
        }
        Ok(())
    }

    fn run_block(&self, block: usize, arguments: &Arguments) {
        let mut shared = vec![UNWRITTEN; self.shared_bytes.div_ceil(16)];
        let lane = Lane {
            thread: Dim3::default(),
            block: self.grid.place(block),
            block_dim: self.block,
            grid_dim: self.grid,
            shared: shared.as_mut_ptr().cast(),
        };
        // SAFETY: the kernel only reads the array of pointers.
        let call = || unsafe { (self.kernel.entry)(arguments.0.as_ptr().cast_mut()) };
        match self.kernel.meets {
            true => run_together(lane, &call),
            false => run_alone(lane, call),
        }
    }
}

/// Shared memory starts as NaN in every float format: what is read before it is written is seen.
const UNWRITTEN: u128 = u128::MAX;

/// Pointers to the arguments, which no block changes.
struct Arguments(Vec<*mut c_void>);

// SAFETY: the pointers are only read through, and what they point to outlives the launch.
unsafe impl Sync for Arguments {}

/// Launches a kernel, or writes it down.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: CUfunction,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    queue: CUstream,
    arguments: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> CUresult {
    let kernel = unsafe { kernel(function) };
    let (grid, block) = (
        Dim3::new(grid_x, grid_y, grid_z),
        Dim3::new(block_x, block_y, block_z),
    );
    let is_possible = grid.count() > 0 && (1..=1024).contains(&block.count());
    if !is_possible || grid_y > 65535 || grid_z > 65535 {
        log::line(format_args!("refused: grid {grid}, block {block}"));
        return CUresult::CUDA_ERROR_INVALID_VALUE;
    }
    let copy = |(place, bytes): (usize, &usize)| {
        let mut words = vec![0u128; bytes.div_ceil(16)];
        // SAFETY: the caller gives a pointer to each argument, of the size that the kernel declares.
        unsafe {
            let from = (*arguments.add(place)).cast::<u8>();
            core::ptr::copy_nonoverlapping(from, words.as_mut_ptr().cast(), *bytes);
        }
        words
    };
    let launch = Launch {
        kernel,
        grid,
        block,
        shared_bytes: shared_bytes as usize,
        arguments: kernel.parameters.iter().enumerate().map(copy).collect(),
    };
    if unsafe { stream::record(queue, || Node::Launch(launch.clone())) } {
        return CUresult::CUDA_SUCCESS;
    }
    match unsafe { launch.run() } {
        Ok(()) => CUresult::CUDA_SUCCESS,
        Err(error) => error,
    }
}
