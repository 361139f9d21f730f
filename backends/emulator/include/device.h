// What NVRTC knows without an include, for a C++ compiler of the host: qualifiers, built-in
// variables, synchronisation, and the functions that CubeCL's kernels call. Included before every
// kernel. A lane is one CUDA thread; the library that loads the kernel runs the lanes of a block and
// gives each its turn (`emu_table`).
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <utility>

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define __CUDA_ARCH__ 800

struct emu_dim3 {
    unsigned x, y, z;
};

struct emu_lane {
    emu_dim3 thread, block, block_dim, grid_dim;
    char *shared;
};

enum emu_kind {
    EMU_ACTIVE,
    EMU_SYNC,
    EMU_SHUFFLE,
    EMU_SHUFFLE_XOR,
    EMU_SHUFFLE_UP,
    EMU_SHUFFLE_DOWN,
    EMU_BALLOT,
    EMU_ALL,
    EMU_ANY,
    EMU_MMA_BF16,
    EMU_MMA_F16,
    EMU_MMA_TF32,
    EMU_LDMATRIX,
    EMU_LDMATRIX_TRANS,
};

struct emu_table {
    emu_lane *(*current)();
    void (*block_barrier)();
    unsigned long long (*warp)(int kind, unsigned long long value, unsigned argument, unsigned site);
    void (*give_way)();
};

extern "C" {
emu_table emu; // filled by the loader
}

// One lane runs one call of the kernel from its start to its end, so within it the answer never changes.
__attribute__((const, noinline)) static emu_lane *emu_here() { return emu.current(); }

#define threadIdx (emu_here()->thread)
#define blockIdx (emu_here()->block)
#define blockDim (emu_here()->block_dim)
#define gridDim (emu_here()->grid_dim)
#define warpSize 32u
#define emu_shared() (emu_here()->shared)

// The place of a warp operation in the text of the kernel: lanes at the same place meet, and of
// lanes at several places those go on first that are behind.
#define emu_site() ((unsigned)__COUNTER__)

#define __syncthreads() emu.block_barrier()
#define __threadfence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define __syncwarp(...) ((void)emu.warp(EMU_SYNC, 0, 0, emu_site()))
#define __activemask() ((unsigned)emu.warp(EMU_ACTIVE, 0, 0, emu_site()))
#define __all_sync(mask, value) ((mask), emu.warp(EMU_ALL, (value) ? 1 : 0, 0, emu_site()) != 0)
#define __any_sync(mask, value) ((mask), emu.warp(EMU_ANY, (value) ? 1 : 0, 0, emu_site()) != 0)
#define __ballot_sync(mask, value) ((mask), (unsigned)emu.warp(EMU_BALLOT, (value) ? 1 : 0, 0, emu_site()))

// Number of this lane in its warp.
inline unsigned emu_number() {
    emu_lane *lane = emu_here();
    return (lane->thread.x + lane->block_dim.x * (lane->thread.y + lane->block_dim.y * lane->thread.z)) % 32;
}
// One of the lanes that are active: the first.
inline unsigned emu_elect(unsigned active) { return emu_number() == unsigned(__builtin_ctz(active)) ? 1 : 0; }

template <class T> inline T emu_shuffle(emu_kind kind, T value, unsigned argument, unsigned site) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bits = emu.warp(kind, bits, argument, site);
    memcpy(&value, &bits, sizeof(T));
    return value;
}
#define __shfl_sync(mask, value, lane) ((mask), emu_shuffle(EMU_SHUFFLE, (value), (unsigned)(lane), emu_site()))
#define __shfl_xor_sync(mask, value, bits) ((mask), emu_shuffle(EMU_SHUFFLE_XOR, (value), (unsigned)(bits), emu_site()))
#define __shfl_up_sync(mask, value, delta) ((mask), emu_shuffle(EMU_SHUFFLE_UP, (value), (unsigned)(delta), emu_site()))
#define __shfl_down_sync(mask, value, delta) ((mask), emu_shuffle(EMU_SHUFFLE_DOWN, (value), (unsigned)(delta), emu_site()))

// --- arithmetic
// As on the device, of a number and a NaN `max` and `min` give the number.
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
template <class T, class = std::enable_if_t<std::is_integral<T>::value>> inline T max(T a, T b) { return a < b ? b : a; }
template <class T, class = std::enable_if_t<std::is_integral<T>::value>> inline T min(T a, T b) { return b < a ? b : a; }
inline float emu_max_nan(float a, float b) { return std::isnan(a) || std::isnan(b) ? NAN : fmaxf(a, b); }
inline float emu_min_nan(float a, float b) { return std::isnan(a) || std::isnan(b) ? NAN : fminf(a, b); }

#define EMU_FLOAT_FUNCTION(name) \
    inline float emu_##name(float x) { return ::name##f(x); } \
    inline double emu_##name(double x) { return ::name(x); }
EMU_FLOAT_FUNCTION(exp)
EMU_FLOAT_FUNCTION(log)
EMU_FLOAT_FUNCTION(sin)
EMU_FLOAT_FUNCTION(cos)
EMU_FLOAT_FUNCTION(tan)
EMU_FLOAT_FUNCTION(tanh)
EMU_FLOAT_FUNCTION(sinh)
EMU_FLOAT_FUNCTION(cosh)
EMU_FLOAT_FUNCTION(acos)
EMU_FLOAT_FUNCTION(asin)
EMU_FLOAT_FUNCTION(atan)
EMU_FLOAT_FUNCTION(asinh)
EMU_FLOAT_FUNCTION(acosh)
EMU_FLOAT_FUNCTION(atanh)
EMU_FLOAT_FUNCTION(sqrt)
EMU_FLOAT_FUNCTION(ceil)
EMU_FLOAT_FUNCTION(trunc)
EMU_FLOAT_FUNCTION(floor)
EMU_FLOAT_FUNCTION(rint)
EMU_FLOAT_FUNCTION(expm1)
EMU_FLOAT_FUNCTION(log1p)
EMU_FLOAT_FUNCTION(erf)
EMU_FLOAT_FUNCTION(fabs)
inline float emu_pow(float x, float y) { return ::powf(x, y); }
inline double emu_pow(double x, double y) { return ::pow(x, y); }
#define exp emu_exp
#define log emu_log
#define sin emu_sin
#define cos emu_cos
#define tan emu_tan
#define tanh emu_tanh
#define sinh emu_sinh
#define cosh emu_cosh
#define acos emu_acos
#define asin emu_asin
#define atan emu_atan
#define asinh emu_asinh
#define acosh emu_acosh
#define atanh emu_atanh
#define sqrt emu_sqrt
#define ceil emu_ceil
#define trunc emu_trunc
#define floor emu_floor
#define rint emu_rint
#define expm1 emu_expm1
#define log1p emu_log1p
#define erf emu_erf
#define fabs emu_fabs
#define pow emu_pow
inline float rsqrt(float x) { return 1.0f / ::sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }
using std::abs;
using std::isinf;
using std::isnan;

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(unsigned long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(unsigned x) { return __builtin_ffs(int(x)); }
inline int __ffsll(unsigned long long x) { return __builtin_ffsll((long long)x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned __brev(unsigned x) {
    unsigned y = 0;
    for (int i = 0; i < 32; i++) y |= (x >> i & 1u) << (31 - i);
    return y;
}

// --- atomics: blocks run on several threads of the host
template <class T, class Op> inline T emu_atomic(T *place, Op op) {
    using Bits = std::conditional_t<sizeof(T) == 8, unsigned long long, std::conditional_t<sizeof(T) == 4, unsigned, unsigned short>>;
    static_assert(sizeof(T) == sizeof(Bits), "");
    Bits *bits = reinterpret_cast<Bits *>(place), old = __atomic_load_n(bits, __ATOMIC_RELAXED), next;
    T before, after;
    do {
        memcpy(&before, &old, sizeof(T));
        after = op(before);
        memcpy(&next, &after, sizeof(T));
    } while (!__atomic_compare_exchange_n(bits, &old, next, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return before;
}
// PTX takes any address, and CubeCL declares a buffer that only atomics write `const`.
template <class P, class T> inline T emu_atomic_add(P *place, T value) { return emu_atomic(const_cast<T *>(place), [=](T old) { return T(old + value); }); }
template <class P, class T> inline T emu_atomic_min(P *place, T value) { return emu_atomic(const_cast<T *>(place), [=](T old) { return min(old, value); }); }
template <class P, class T> inline T emu_atomic_max(P *place, T value) { return emu_atomic(const_cast<T *>(place), [=](T old) { return max(old, value); }); }
template <class T> inline T atomicExch(T *place, T value) { return emu_atomic(place, [=](T) { return value; }); }
template <class T> inline T atomicCAS(T *place, T expected, T value) { return emu_atomic(place, [=](T old) { return old == expected ? value : old; }); }
template <class T> inline T atomicMin(T *place, T value) { return emu_atomic_min(place, value); }
template <class T> inline T atomicMax(T *place, T value) { return emu_atomic_max(place, value); }
template <class T> inline T atomicAnd(T *place, T value) { return emu_atomic(place, [=](T old) { return T(old & value); }); }
template <class T> inline T atomicOr(T *place, T value) { return emu_atomic(place, [=](T old) { return T(old | value); }); }
template <class T> inline T atomicXor(T *place, T value) { return emu_atomic(place, [=](T old) { return T(old ^ value); }); }

// --- shared memory by its 32-bit address, and instructions that read or write it
inline unsigned __cvta_generic_to_shared(const void *place) { return unsigned((const char *)place - emu_shared()); }
inline void emu_cp_async(unsigned to, const void *from, unsigned size, unsigned source_size) {
    memset(emu_shared() + to, 0, size);
    memcpy(emu_shared() + to, from, source_size < size ? source_size : size);
}

// Registers of one lane for `mma.sync` and `ldmatrix`, as the instruction set lays them out.
struct emu_registers {
    unsigned a[4], b[2];
    float c[4], d[4];
    const void *row;
    unsigned loaded[4];
    unsigned count;
};
template <class T> inline unsigned emu_register(T value) {
    static_assert(sizeof(T) == 4, "a register has 32 bits");
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline void emu_mma(emu_kind kind, unsigned site, float *d, std::initializer_list<unsigned> in) {
    emu_registers lane{};
    const unsigned *word = in.begin();
    for (int i = 0; i < 4; i++) lane.a[i] = *word++;
    for (int i = 0; i < 2; i++) lane.b[i] = *word++;
    memcpy(lane.c, word, sizeof lane.c);
    emu.warp(kind, (unsigned long long)&lane, 0, site);
    memcpy(d, lane.d, sizeof lane.d);
}
inline void emu_ldmatrix(emu_kind kind, unsigned site, unsigned *out, unsigned count, unsigned address) {
    emu_registers lane{};
    lane.row = emu_shared() + address;
    lane.count = count;
    emu.warp(kind, (unsigned long long)&lane, 0, site);
    memcpy(out, lane.loaded, 4 * count);
}

// --- the entry: parameters come as an array of pointers
template <class... A, size_t... I> inline void emu_call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*reinterpret_cast<std::remove_cv_t<std::remove_reference_t<A>> *>(arguments[I])...);
}
template <class... A> inline void emu_enter(void (*kernel)(A...), void **arguments) {
    emu_call(kernel, arguments, std::index_sequence_for<A...>{});
}
template <class... A> inline size_t emu_sizes(void (*)(A...), size_t *sizes, size_t room) {
    const size_t all[] = {sizeof(A)..., 0};
    for (size_t i = 0; i < sizeof...(A) && i < room; i++) sizes[i] = all[i];
    return sizeof...(A);
}

// Kernels define these names for themselves, by other types of the same width.
#define int8_t emu_int8
#define int16_t emu_int16
#define int32_t emu_int32
#define int64_t emu_int64
#define uint8_t emu_uint8
#define uint16_t emu_uint16
#define uint32_t emu_uint32
#define uint64_t emu_uint64
