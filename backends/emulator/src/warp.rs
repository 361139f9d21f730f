//! What the 32 lanes of a warp do together: shuffles, votes, and the instructions of tensor cores.

use core::ffi::c_int;

use crate::lanes::{Wait, suspend};

/// Lanes of a warp.
pub(crate) const WARP: usize = 32;

/// One lane's part in an operation of its warp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WarpCall {
    kind: Kind,
    value: u64,
    argument: u32,
    /// Where in the text of the kernel: lanes at one place do one operation.
    pub(crate) site: u32,
}

/// The operations, in the order of `emu_kind` in `device.h`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Active,
    Sync,
    Shuffle,
    ShuffleXor,
    ShuffleUp,
    ShuffleDown,
    Ballot,
    All,
    Any,
    MultiplyBf16,
    MultiplyF16,
    MultiplyTf32,
    LoadMatrix,
    LoadMatrixTransposed,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Active,
        Self::Sync,
        Self::Shuffle,
        Self::ShuffleXor,
        Self::ShuffleUp,
        Self::ShuffleDown,
        Self::Ballot,
        Self::All,
        Self::Any,
        Self::MultiplyBf16,
        Self::MultiplyF16,
        Self::MultiplyTf32,
        Self::LoadMatrix,
        Self::LoadMatrixTransposed,
    ];
}

/// A lane's part in an operation, called by the kernel.
pub(crate) extern "C" fn warp(kind: c_int, value: u64, argument: u32, site: u32) -> u64 {
    suspend(Wait::Warp(WarpCall {
        kind: Kind::ALL[kind as usize],
        value,
        argument,
        site,
    }))
}

/// What every lane of a group gets; lanes that take no part are `None`.
pub(crate) fn resolve(calls: &[Option<WarpCall>]) -> Vec<u64> {
    let Some(first) = calls.iter().flatten().next() else {
        return vec![0; calls.len()];
    };
    let bits = |of: fn(&WarpCall) -> bool| -> u64 {
        let each = calls.iter().enumerate();
        each.filter(|(_, call)| call.as_ref().is_some_and(of))
            .fold(0, |bits, (lane, _)| bits | 1 << lane)
    };
    let active = bits(|_| true);
    let voted = bits(|call| call.value != 0);
    match first.kind {
        Kind::MultiplyBf16 => multiply(calls, 16, bf16),
        Kind::MultiplyF16 => multiply(calls, 16, f16),
        Kind::MultiplyTf32 => multiply(calls, 8, tf32),
        Kind::LoadMatrix => load_matrix(calls, false),
        Kind::LoadMatrixTransposed => load_matrix(calls, true),
        _ => {}
    }
    let result = |(lane, call): (usize, &Option<WarpCall>)| {
        let Some(call) = call else { return 0 };
        let from = |source: usize| {
            let other = calls.get(source).and_then(Option::as_ref);
            other.map_or(call.value, |other| other.value)
        };
        let distance = call.argument as usize;
        match call.kind {
            Kind::Active => active,
            Kind::Ballot => voted,
            Kind::All => u64::from(voted == active),
            Kind::Any => u64::from(voted != 0),
            Kind::Shuffle => from(distance % WARP),
            Kind::ShuffleXor => from(lane ^ distance),
            Kind::ShuffleUp => lane.checked_sub(distance).map_or(call.value, from),
            Kind::ShuffleDown => from(lane + distance),
            _ => 0,
        }
    };
    calls.iter().enumerate().map(result).collect()
}

/// Registers of one lane, in the layout of `emu_registers` in `device.h`.
#[repr(C)]
struct Registers {
    a: [u32; 4],
    b: [u32; 2],
    c: [f32; 4],
    d: [f32; 4],
    row: *const u16,
    loaded: [u32; 4],
    count: u32,
}

/// The registers of all lanes; an operation of tensor cores needs the whole warp.
fn registers(calls: &[Option<WarpCall>]) -> Vec<*mut Registers> {
    assert!(
        calls.len() == WARP && calls.iter().all(Option::is_some),
        "a tensor-core instruction without all lanes of the warp"
    );
    let all = calls.iter().flatten();
    all.map(|call| call.value as *mut Registers).collect()
}

fn bf16(register: u32, half: usize) -> f32 {
    f32::from_bits((register >> (16 * half) & 0xffff) << 16)
}

/// Subnormals included.
fn f16(register: u32, half: usize) -> f32 {
    let bits = register >> (16 * half) & 0xffff;
    let (sign, exponent, mantissa) = (bits >> 15, bits >> 10 & 31, bits & 1023);
    let magnitude = match exponent {
        0 => mantissa as f32 * 2f32.powi(-24),
        31 if mantissa == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => f32::from_bits((exponent + 112) << 23 | mantissa << 13),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// The device ignores the 13 bits that TF32 does not have.
fn tf32(register: u32, _: usize) -> f32 {
    f32::from_bits(register & !0x1fff)
}

/// `mma.m16n8k{depth}`, row by column, with the fragments laid out as the PTX ISA says (sections
/// "Matrix Fragments for mma.m16n8k16 with floating point type" and "mma.m16n8k8").
fn multiply(calls: &[Option<WarpCall>], depth: usize, value: fn(u32, usize) -> f32) {
    let lanes = registers(calls);
    // Elements of a register: two of 16 bits, or one.
    let packed = if depth == 16 { 2 } else { 1 };
    let (mut a, mut b) = (vec![[0f32; 16]; 16], vec![[0f32; 8]; 16]);
    for (lane, registers) in lanes.iter().enumerate() {
        let (group, member) = (lane / 4, lane % 4);
        // SAFETY: the lane waits, and its registers are on its stack.
        let registers = unsafe { &**registers };
        for half in 0..packed {
            let column = member * packed + half;
            for (index, register) in registers.a.iter().enumerate() {
                let (row, k) = (group + index % 2 * 8, column + index / 2 * (depth / 2));
                a[row][k] = value(*register, half);
            }
            for (index, register) in registers.b.iter().enumerate() {
                b[column + index * (depth / 2)][group] = value(*register, half);
            }
        }
    }
    for (lane, registers) in lanes.iter().enumerate() {
        let (group, member) = (lane / 4, lane % 4);
        // SAFETY: as above, and no other reference is left.
        let registers = unsafe { &mut **registers };
        for index in 0..4 {
            let (row, column) = (group + index / 2 * 8, member * 2 + index % 2);
            let products = (0..depth).map(|k| a[row][k] * b[k][column]);
            registers.d[index] = registers.c[index] + products.sum::<f32>();
        }
    }
}

/// `ldmatrix.m8n8.b16`: of every 8 x 8 matrix, the rows are where eight lanes say, and each lane gets
/// two neighbours of a row, or of a column.
fn load_matrix(calls: &[Option<WarpCall>], is_transposed: bool) {
    let lanes = registers(calls);
    let rows: Vec<*const u16> = lanes.iter().map(|lane| unsafe { (**lane).row }).collect();
    for (lane, registers) in lanes.iter().enumerate() {
        // SAFETY: the lane waits; rows are of eight elements in the block's shared memory.
        let registers = unsafe { &mut **registers };
        for matrix in 0..registers.count as usize {
            let element = |row: usize, column: usize| {
                u32::from(unsafe { *rows[matrix * 8 + row].add(column) })
            };
            let (far, near) = (lane / 4, lane % 4 * 2);
            let (low, high) = match is_transposed {
                false => (element(far, near), element(far, near + 1)),
                true => (element(near, far), element(near + 1, far)),
            };
            registers.loaded[matrix] = low | high << 16;
        }
    }
}
