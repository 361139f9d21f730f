//! The threads of a block. Where they never meet, one after the other; where they do, each is a
//! coroutine that runs until it waits, and the block goes on when all that have to wait do.

use core::fmt;
use std::cell::{Cell, RefCell};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::warp::{WARP, WarpCall, resolve};

/// Three sizes or places, in the layout of `emu_dim3` in `device.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dim3 {
    x: u32,
    y: u32,
    z: u32,
}

impl Dim3 {
    pub(crate) fn new(x: u32, y: u32, z: u32) -> Self {
        Self { x, y, z }
    }

    /// The product.
    pub(crate) fn count(self) -> usize {
        self.x as usize * self.y as usize * self.z as usize
    }

    /// The place with this number, the first axis fastest.
    pub(crate) fn place(self, number: usize) -> Self {
        let (x, y) = (self.x as usize, self.y as usize);
        Self {
            x: (number % x) as u32,
            y: (number / x % y) as u32,
            z: (number / (x * y)) as u32,
        }
    }
}

impl fmt::Display for Dim3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.x, self.y, self.z)
    }
}

/// What a thread knows of itself, in the layout of `emu_lane` in `device.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) thread: Dim3,
    pub(crate) block: Dim3,
    pub(crate) block_dim: Dim3,
    pub(crate) grid_dim: Dim3,
    pub(crate) shared: *mut u8,
}

/// Why a lane stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wait {
    /// For the whole block.
    Block,
    /// For its warp.
    Warp(WarpCall),
    /// For others to go on, once.
    Others,
}

thread_local! {
    static CURRENT: Cell<*mut Lane> = const { Cell::new(core::ptr::null_mut()) };
    static YIELDER: Cell<*const Yielder<u64, Wait>> = const { Cell::new(core::ptr::null()) };
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// Bytes of a lane's stack: local arrays and fragments of kernels live there. Only what is touched
/// takes memory.
const STACK_BYTES: usize = 256 << 10;

/// The lane that runs on this thread of the host.
pub(crate) extern "C" fn current() -> *mut Lane {
    CURRENT.get()
}

/// Waits for the block: `__syncthreads`.
pub(crate) extern "C" fn block_barrier() {
    suspend(Wait::Block);
}

/// Lets the others go on: what a lane does that waits for a word in memory.
pub(crate) extern "C" fn give_way() {
    suspend(Wait::Others);
}

/// Stops the lane that runs, until it is resumed with a value.
pub(crate) fn suspend(wait: Wait) -> u64 {
    let yielder = YIELDER.get();
    // SAFETY: set before the lane was resumed, by the coroutine that this call runs in.
    unsafe { &*yielder }.suspend(wait)
}

/// Runs the lanes of a block that never meet.
pub(crate) fn run_alone(mut lane: Lane, mut call: impl FnMut()) {
    CURRENT.set(&raw mut lane);
    for number in 0..lane.block_dim.count() {
        lane.thread = lane.block_dim.place(number);
        call();
    }
    CURRENT.set(core::ptr::null_mut());
}

/// One lane of a block whose lanes meet.
struct Running {
    lane: Box<Lane>,
    /// Set by the coroutine when it starts.
    yielder: Box<Cell<*const Yielder<u64, Wait>>>,
    routine: Coroutine<u64, Wait, (), DefaultStack>,
    state: State,
}

enum State {
    Ready(u64),
    Waits(Wait),
    Done,
}

/// Runs the lanes of a block that meet.
pub(crate) fn run_together(lane: Lane, call: &impl Fn()) {
    let lanes = (0..lane.block_dim.count()).map(|number| Running::new(lane, number, call));
    let mut lanes: Vec<Running> = lanes.collect();
    while lanes.iter().any(|lane| !matches!(lane.state, State::Done)) {
        lanes.iter_mut().for_each(Running::go);
        let is_released = release_warps(&mut lanes) | release_those_who_gave_way(&mut lanes);
        if !is_released {
            release_block(&mut lanes);
        }
    }
    STACKS.with_borrow_mut(|stacks| {
        stacks.extend(lanes.into_iter().map(|lane| lane.routine.into_stack()));
    });
}

impl Running {
    fn new(lane: Lane, number: usize, call: &impl Fn()) -> Self {
        let thread = lane.block_dim.place(number);
        let yielder = Box::new(Cell::new(core::ptr::null()));
        let own: *const Cell<_> = &raw const *yielder;
        let stack = STACKS.with_borrow_mut(Vec::pop);
        let stack = stack.unwrap_or_else(|| {
            DefaultStack::new(STACK_BYTES).expect("the host has memory for a stack")
        });
        let call: &'static dyn Fn() =
            // SAFETY: every coroutine ends before `run_together` returns, so before `call` does.
            unsafe { core::mem::transmute::<&dyn Fn(), &'static dyn Fn()>(call) };
        let routine = Coroutine::with_stack(stack, move |yielder: &Yielder<u64, Wait>, _| {
            // SAFETY: the cell is in a box that lives as long as the coroutine.
            unsafe { &*own }.set(yielder);
            YIELDER.set(yielder);
            call();
        });
        Self {
            lane: Box::new(Lane { thread, ..lane }),
            yielder,
            routine,
            state: State::Ready(0),
        }
    }

    /// Runs until the lane waits or is done.
    fn go(&mut self) {
        let State::Ready(value) = self.state else {
            return;
        };
        CURRENT.set(&raw mut *self.lane);
        YIELDER.set(self.yielder.get());
        self.state = match self.routine.resume(value) {
            CoroutineResult::Yield(wait) => State::Waits(wait),
            CoroutineResult::Return(()) => State::Done,
        };
    }

    fn warp_call(&self) -> Option<WarpCall> {
        match self.state {
            State::Waits(Wait::Warp(call)) => Some(call),
            _ => None,
        }
    }
}

/// Lets one group of every warp go on whose lanes wait at one place; of several places the first in
/// the code, which is how the lanes of a warp that have parted come together again.
fn release_warps(lanes: &mut [Running]) -> bool {
    let mut is_released = false;
    for warp in lanes.chunks_mut(WARP) {
        let Some(site) = warp
            .iter()
            .filter_map(|lane| lane.warp_call().map(|call| call.site))
            .min()
        else {
            continue;
        };
        let calls: Vec<Option<WarpCall>> = warp
            .iter()
            .map(|lane| lane.warp_call().filter(|call| call.site == site))
            .collect();
        let results = resolve(&calls);
        for ((lane, call), result) in warp.iter_mut().zip(&calls).zip(results) {
            if call.is_some() {
                lane.state = State::Ready(result);
            }
        }
        is_released = true;
    }
    is_released
}

/// Lets those go on that only waited for the others to.
fn release_those_who_gave_way(lanes: &mut [Running]) -> bool {
    let mut is_released = false;
    for lane in lanes {
        if matches!(lane.state, State::Waits(Wait::Others)) {
            lane.state = State::Ready(0);
            is_released = true;
        }
    }
    is_released
}

/// Lets the block go on: every lane that is not done waits for it.
fn release_block(lanes: &mut [Running]) {
    for lane in lanes {
        if matches!(lane.state, State::Waits(Wait::Block)) {
            lane.state = State::Ready(0);
        }
    }
}
