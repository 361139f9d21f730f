//! Kernels in CUDA C++ as CubeCL writes it, compiled and launched through the C functions, against
//! what they define.

use core::ffi::c_void;
use std::ffi::CString;

use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUresult, CUstream};
use cudarc::nvrtc::sys::{nvrtcProgram, nvrtcResult};

use crate::grid::cuLaunchKernel;
use crate::memory::*;
use crate::module::{cuModuleGetFunction, cuModuleLoadData};
use crate::nvrtc::*;
use crate::settings::settings;
use crate::stream::*;

/// False, with a line about it, where kernels cannot be compiled.
fn has_compiler() -> bool {
    let compiler = &settings().compiler;
    let found = std::process::Command::new(compiler)
        .arg("--version")
        .output();
    if found.is_err() {
        println!("skipped: there is no {compiler}");
    }
    found.is_ok()
}

/// What a kernel is compiled to, or what the compiler said.
fn compile(source: &str) -> Result<Vec<u8>, String> {
    let source = CString::new(source).expect("no zeros");
    let none = core::ptr::null();
    let mut program: nvrtcProgram = core::ptr::null_mut();
    unsafe {
        nvrtcCreateProgram(
            &mut program,
            source.as_ptr(),
            core::ptr::null(),
            0,
            none,
            none,
        );
        let status = nvrtcCompileProgram(program, 0, none);
        let mut length = 0;
        nvrtcGetProgramLogSize(program, &mut length);
        let mut log = vec![0u8; length];
        nvrtcGetProgramLog(program, log.as_mut_ptr().cast());
        nvrtcGetPTXSize(program, &mut length);
        let mut image = vec![0u8; length];
        nvrtcGetPTX(program, image.as_mut_ptr().cast());
        nvrtcDestroyProgram(&mut program);
        match status {
            nvrtcResult::NVRTC_SUCCESS => Ok(image),
            _ => Err(String::from_utf8_lossy(&log).into_owned()),
        }
    }
}

fn kernel(source: &str) -> CUfunction {
    let image = compile(source).unwrap_or_else(|words| panic!("{words}"));
    let (mut module, mut function) = (core::ptr::null_mut(), core::ptr::null_mut());
    unsafe {
        assert_eq!(cuModuleLoadData(&mut module, image.as_ptr().cast()), OK);
        assert_eq!(cuModuleGetFunction(&mut function, module, c"".as_ptr()), OK);
    }
    function
}

const OK: CUresult = CUresult::CUDA_SUCCESS;

/// Device memory with these values.
struct Buffer {
    address: CUdeviceptr,
    bytes: usize,
}

impl Buffer {
    fn new<T: Copy>(values: &[T]) -> Self {
        let bytes = size_of_val(values);
        let mut address = 0;
        unsafe {
            assert_eq!(cuMemAlloc_v2(&mut address, bytes), OK);
            let from = values.as_ptr().cast();
            assert_eq!(cuMemcpyHtoDAsync_v2(address, from, bytes, NO_STREAM), OK);
        }
        Self { address, bytes }
    }

    fn read<T: Copy + Default>(&self) -> Vec<T> {
        let mut values = vec![T::default(); self.bytes / size_of::<T>()];
        let to = values.as_mut_ptr().cast();
        unsafe {
            assert_eq!(
                cuMemcpyDtoHAsync_v2(to, self.address, self.bytes, NO_STREAM),
                OK
            );
        }
        values
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        assert_eq!(cuMemFree_v2(self.address), OK);
    }
}

const NO_STREAM: CUstream = core::ptr::null_mut();

fn launch(function: CUfunction, grid: u32, block: u32, shared: u32, buffers: &[&Buffer]) {
    launch_on(function, grid, block, shared, buffers, NO_STREAM);
}

fn launch_on(
    function: CUfunction,
    grid: u32,
    block: u32,
    shared: u32,
    buffers: &[&Buffer],
    queue: CUstream,
) {
    let mut addresses: Vec<CUdeviceptr> = buffers.iter().map(|buffer| buffer.address).collect();
    let pointers = addresses
        .iter_mut()
        .map(|it| core::ptr::from_mut(it).cast());
    let mut pointers: Vec<*mut c_void> = pointers.collect();
    let arguments = pointers.as_mut_ptr();
    let none = core::ptr::null_mut();
    let status = unsafe {
        cuLaunchKernel(
            function, grid, 1, 1, block, 1, 1, shared, queue, arguments, none,
        )
    };
    assert_eq!(status, OK);
}

/// Values that bfloat16 holds exactly and whose products are exact in f32.
fn small(count: usize, salt: usize) -> Vec<f32> {
    let value = |index: usize| ((index * 7 + salt * 13) % 17) as f32 - 8.0;
    (0..count).map(value).collect()
}

fn bf16(values: &[f32]) -> Vec<u16> {
    let high = |value: &f32| (value.to_bits() >> 16) as u16;
    values.iter().map(high).collect()
}

/// `[16, k]` times `[k, 8]`.
fn product(a: &[f32], b: &[f32], k: usize) -> Vec<f32> {
    let one = |row: usize, column: usize| -> f32 {
        (0..k).map(|i| a[row * k + i] * b[i * 8 + column]).sum()
    };
    (0..16 * 8).map(|place| one(place / 8, place % 8)).collect()
}

#[test]
fn threads_of_a_block_meet_and_lanes_of_a_warp_exchange_values() {
    if !has_compiler() {
        return;
    }
    let sums = kernel(
        r#"extern "C" __global__ void __launch_bounds__(96) sums(float const* const __restrict__ x, float * const __restrict__ y) {
extern __shared__ __align__(4) char v1[];
float * const parts = reinterpret_cast<float *>(&v1[0]);
float sum = x[blockIdx.x * blockDim.x + threadIdx.x];
for (int bit = 16; bit > 0; bit /= 2) sum += __shfl_xor_sync(__activemask(), sum, bit);
if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
__syncthreads();
if (threadIdx.x == 0) y[blockIdx.x] = parts[0] + parts[1] + parts[2];
}"#,
    );
    let values = small(5 * 96, 1);
    let (x, y) = (Buffer::new(&values), Buffer::new(&[0f32; 5]));
    launch(sums, 5, 96, 12, &[&x, &y]);
    let expected: Vec<f32> = values.chunks(96).map(|block| block.iter().sum()).collect();
    assert_eq!(y.read::<f32>(), expected);
}

#[test]
fn lanes_that_part_see_only_each_other_and_come_together_again() {
    if !has_compiler() {
        return;
    }
    let masks = kernel(
        r#"extern "C" __global__ void __launch_bounds__(32) masks(unsigned int * const __restrict__ y) {
unsigned int inner = 0;
if (threadIdx.x < 13) { inner = __activemask(); } else { inner = __ballot_sync(__activemask(), threadIdx.x % 2); }
unsigned int last = threadIdx.x;
for (unsigned int turn = 0; turn < threadIdx.x % 3; turn++) last = __shfl_sync(__activemask(), last, 2);
unsigned int outer = __activemask();
y[threadIdx.x * 3] = inner;
y[threadIdx.x * 3 + 1] = outer;
y[threadIdx.x * 3 + 2] = last;
}"#,
    );
    let y = Buffer::new(&[0u32; 96]);
    launch(masks, 1, 32, 0, &[&y]);
    for (lane, found) in y.read::<u32>().chunks(3).enumerate() {
        let inner = match lane < 13 {
            true => (1 << 13) - 1,
            false => 0xaaaa_aaaa & !((1 << 13) - 1),
        };
        let last = if lane.is_multiple_of(3) {
            lane as u32
        } else {
            2
        };
        assert_eq!(found, [inner, u32::MAX, last], "lane {lane}");
    }
}

#[test]
fn producers_and_consumers_wait_for_each_others_barrier() {
    if !has_compiler() {
        return;
    }
    let pipe = kernel(
        r#"#include <cuda/barrier>
extern "C" __global__ void __launch_bounds__(64) pipe(float const* const __restrict__ x, float * const __restrict__ y) {
extern __shared__ __align__(8) char v1[];
cuda::barrier<cuda::thread_scope_block> * const full = reinterpret_cast<cuda::barrier<cuda::thread_scope_block> *>(&v1[0]);
cuda::barrier<cuda::thread_scope_block> * const empty = reinterpret_cast<cuda::barrier<cuda::thread_scope_block> *>(&v1[8]);
float * const stage = reinterpret_cast<float *>(&v1[16]);
if (threadIdx.x == 0) { init(full, 32); init(empty, 32); }
__syncthreads();
unsigned int lane = threadIdx.x % 32;
unsigned int phase = 0;
float sum = 0;
for (unsigned int turn = 0; turn < 4; turn++) {
  if (threadIdx.x < 32) {
    empty->wait_parity(phase ^ 1);
    unsigned int const to = __cvta_generic_to_shared(&stage[lane]);
    float const* const from = &x[turn * 32 + lane];
    asm volatile("cp.async.ca.shared::cta.global [%0], [%1], 4, 4;" :  : "r"(to), "l"(from) : "memory");
    cuda::barrier<cuda::thread_scope_block>::arrival_token token = full->arrive();
  } else {
    full->wait_parity(phase);
    sum += stage[31 - lane];
    cuda::barrier<cuda::thread_scope_block>::arrival_token token = empty->arrive();
  }
  phase ^= 1;
}
if (threadIdx.x >= 32) y[lane] = sum;
}"#,
    );
    let values = small(128, 3);
    let (x, y) = (Buffer::new(&values), Buffer::new(&[0f32; 32]));
    launch(pipe, 1, 64, 16 + 128, &[&x, &y]);
    let sum = |lane: usize| {
        (0..4)
            .map(|turn| values[turn * 32 + 31 - lane])
            .sum::<f32>()
    };
    assert_eq!(y.read::<f32>(), (0..32).map(sum).collect::<Vec<_>>());
}

#[test]
fn tensor_cores_multiply_through_fragments_and_through_registers() {
    if !has_compiler() {
        return;
    }
    let (a, b) = (small(16 * 16, 5), small(16 * 8, 6));
    let expected = product(&a, &b, 16);
    let columns: Vec<f32> = (0..8 * 16).map(|i| b[i % 16 * 8 + i / 16]).collect();
    let (a, b) = (Buffer::new(&bf16(&a)), Buffer::new(&bf16(&columns)));

    // `ldmatrix` gives a lane the words of A that `mma` wants; those of B are read as they are.
    let registers = kernel(
        r#"#include <cuda_bf16.h>
struct alignas(16) words_4 { unsigned int i_0; unsigned int i_1; unsigned int i_2; unsigned int i_3; };
struct alignas(16) float_4 { float i_0; float i_1; float i_2; float i_3; };
extern "C" __global__ void __launch_bounds__(32) registers(__nv_bfloat16 const* const __restrict__ a, unsigned int const* const __restrict__ b, float * const __restrict__ d) {
extern __shared__ __align__(16) char v1[];
__nv_bfloat16 * const tile = reinterpret_cast<__nv_bfloat16 *>(&v1[0]);
unsigned int const lane = threadIdx.x;
for (unsigned int i = lane; i < 256; i += 32) tile[i] = a[i];
__syncwarp();
unsigned int const row = lane % 16;
unsigned int const address = __cvta_generic_to_shared(&tile[row * 16 + lane / 16 * 8]);
words_4 const fa = [&]{ words_4 result; asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared::cta.b16 {%0, %1, %2, %3}, [%4];" : "=r"(result.i_0), "=r"(result.i_1), "=r"(result.i_2), "=r"(result.i_3) : "r"(address) : "memory"); return result; }();
unsigned int const b0 = b[lane / 4 * 8 + lane % 4];
unsigned int const b1 = b[lane / 4 * 8 + lane % 4 + 4];
float const zero = 0;
float_4 const fd = [&]{ float_4 result; asm ("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};" : "=f"(result.i_0), "=f"(result.i_1), "=f"(result.i_2), "=f"(result.i_3) : "r"(fa.i_0), "r"(fa.i_1), "r"(fa.i_2), "r"(fa.i_3), "r"(b0), "r"(b1), "f"(zero), "f"(zero), "f"(zero), "f"(zero) ); return result; }();
float * const at = &d[lane / 4 * 8 + lane % 4 * 2];
at[0] = fd.i_0; at[1] = fd.i_1; at[64] = fd.i_2; at[65] = fd.i_3;
}"#,
    );
    let d = Buffer::new(&[0f32; 128]);
    launch(registers, 1, 32, 512, &[&a, &b, &d]);
    assert_eq!(d.read::<f32>(), expected);

    // The same with fragments, 16 columns of which half are zero.
    let fragments = kernel(
        r#"#include <cuda_bf16.h>
#include <mma.h>
extern "C" __global__ void __launch_bounds__(32) fragments(__nv_bfloat16 const* const __restrict__ a, __nv_bfloat16 const* const __restrict__ b, float * const __restrict__ d) {
nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 32, 8, 16, __nv_bfloat16, nvcuda::wmma::row_major> fa;
nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 32, 8, 16, __nv_bfloat16, nvcuda::wmma::col_major> fb;
nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 32, 8, 16, float> sum;
nvcuda::wmma::fill_fragment(sum, 1.0f);
nvcuda::wmma::load_matrix_sync(fa, a, 0u);
nvcuda::wmma::load_matrix_sync(fb, b, 16u);
nvcuda::wmma::mma_sync(sum, fa, fb, sum);
nvcuda::wmma::store_matrix_sync(d, sum, 8u, nvcuda::wmma::mem_row_major);
}"#,
    );
    let d = Buffer::new(&[0f32; 256]);
    launch(fragments, 1, 32, 0, &[&a, &b, &d]);
    // A stride of 0: every row is the first.
    let first: Vec<f32> = expected[..8].iter().map(|value| value + 1.0).collect();
    assert_eq!(d.read::<f32>(), first.repeat(32));
}

#[test]
fn halves_round_to_nearest_even_and_tf32_away_from_zero() {
    if !has_compiler() {
        return;
    }
    let rounds = kernel(
        r#"#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>
extern "C" __global__ void __launch_bounds__(1) rounds(float const* const __restrict__ x, float * const __restrict__ y) {
unsigned int const i = blockIdx.x;
y[i * 3] = float(__nv_bfloat16(x[i]));
y[i * 3 + 1] = float(__half(x[i]));
y[i * 3 + 2] = nvcuda::wmma::__float_to_tf32(x[i]);
}"#,
    );
    let half_way = 1.0 + 1.0 / 256.0;
    let values = [
        half_way,
        1.0 + 3.0 / 256.0,
        1.0 + 1.0 / 2048.0,
        -(1.0 + 3.0 / 2048.0),
        70000.0,
    ];
    let (x, y) = (
        Buffer::new(&values.map(|value: f64| value as f32)),
        Buffer::new(&[0f32; 15]),
    );
    launch(rounds, 5, 1, 0, &[&x, &y]);
    let (bf16, f16, tf32) = (1.0 / 128.0, 1.0 / 1024.0, 1.0 / 1024.0);
    let expected = [
        [1.0, half_way, half_way],
        [1.0 + 2.0 * bf16, 1.0 + 3.0 / 256.0, 1.0 + 3.0 / 256.0],
        [1.0, 1.0, 1.0 + tf32],
        [-1.0, -(1.0 + 2.0 * f16), -(1.0 + 2.0 * tf32)],
        [70144.0, f64::INFINITY, 70016.0],
    ];
    let expected: Vec<f32> = expected
        .concat()
        .iter()
        .map(|value| *value as f32)
        .collect();
    assert_eq!(y.read::<f32>(), expected);
}

#[test]
fn a_captured_launch_runs_when_the_graph_does() {
    if !has_compiler() {
        return;
    }
    let adds = kernel(
        r#"extern "C" __global__ void __launch_bounds__(4) adds(float const* const __restrict__ x, float * const __restrict__ y) {
y[threadIdx.x] = y[threadIdx.x] + x[threadIdx.x];
}"#,
    );
    let (x, y) = (Buffer::new(&[1f32, 2.0, 3.0, 4.0]), Buffer::new(&[0f32; 4]));
    let mut queue = core::ptr::null_mut();
    let (mut graph, mut executable) = (core::ptr::null_mut(), core::ptr::null_mut());
    unsafe {
        cuStreamCreate(&mut queue, 0);
        let mode = cudarc::driver::sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
        assert_eq!(cuStreamBeginCapture_v2(queue, mode), OK);
        launch_on(adds, 1, 4, 0, &[&x, &y], queue);
        assert_ne!(cuStreamSynchronize(queue), OK);
        assert_eq!(cuStreamEndCapture(queue, &mut graph), OK);
        assert_eq!(y.read::<f32>(), [0.0; 4]);
        cuGraphInstantiateWithFlags(&mut executable, graph, 0);
        cuGraphDestroy(graph);
        for _ in 0..3 {
            assert_eq!(cuGraphLaunch(executable, queue), OK);
        }
        cuGraphExecDestroy(executable);
        cuStreamDestroy_v2(queue);
    }
    assert_eq!(y.read::<f32>(), [3.0, 6.0, 9.0, 12.0]);
}

#[test]
fn what_is_not_allocated_cannot_be_copied_or_freed_and_memory_ends() {
    let buffer = Buffer::new(&[1f32; 4]);
    let mut host = [0f32; 8];
    let to = host.as_mut_ptr().cast();
    let outside = unsafe { cuMemcpyDtoHAsync_v2(to, buffer.address, 32, NO_STREAM) };
    assert_eq!(outside, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(
        cuMemFree_v2(buffer.address + 4),
        CUresult::CUDA_ERROR_INVALID_VALUE
    );
    let mut address = 0;
    let all = unsafe { cuMemAlloc_v2(&mut address, settings().memory) };
    assert_eq!(all, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
}

#[test]
fn what_does_not_compile_says_why() {
    if !has_compiler() {
        return;
    }
    let source =
        r#"extern "C" __global__ void __launch_bounds__(1) k(float * const y) { y[0] = nothing; }"#;
    let words = compile(source).unwrap_err();
    assert!(words.contains("nothing"), "{words}");
}
