// Tensor cores through `nvcuda::wmma`. How a fragment is spread over the lanes of a warp is not
// specified there, so here lane 0 has all of it and works alone; the others only keep step.
#pragma once
#include "half_types.h"

namespace nvcuda {
namespace wmma {
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
namespace precision {
struct tf32 {};
} // namespace precision
enum layout_t { mem_row_major, mem_col_major };

// TF32 keeps ten bits of the mantissa; halves are rounded away from zero.
inline float __float_to_tf32(float value) {
    unsigned bits = emu_register(value);
    if (!std::isnan(value) && !std::isinf(value)) bits = (bits + 0x1000u) & ~0x1fffu;
    memcpy(&value, &bits, 4);
    return value;
}

template <class T> struct emu_stored { using type = T; };
template <> struct emu_stored<precision::tf32> { using type = float; };

template <class Use, int M, int N, int K> struct emu_shape;
template <int M, int N, int K> struct emu_shape<matrix_a, M, N, K> { static constexpr int rows = M, columns = K; };
template <int M, int N, int K> struct emu_shape<matrix_b, M, N, K> { static constexpr int rows = K, columns = N; };
template <int M, int N, int K> struct emu_shape<accumulator, M, N, K> { static constexpr int rows = M, columns = N; };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    static constexpr int rows = emu_shape<Use, M, N, K>::rows, columns = emu_shape<Use, M, N, K>::columns;
    static constexpr int num_elements = rows * columns;
    typename emu_stored<T>::type x[num_elements]; // row by row
};

inline bool emu_leads() { return emu_number() == 0; }

template <class F, class V> inline void fill_fragment(F &fragment, V value) {
    if (emu_leads()) for (auto &x : fragment.x) x = value;
}
template <class F, class P> inline void emu_load(F &fragment, const P *from, unsigned stride, bool by_row) {
    __syncwarp();
    if (!emu_leads()) return;
    for (int i = 0; i < F::rows; i++)
        for (int j = 0; j < F::columns; j++)
            fragment.x[i * F::columns + j] = from[by_row ? i * stride + j : j * stride + i];
}
template <class Use, int M, int N, int K, class T, class Layout, class P>
inline void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &to, const P *from, unsigned stride) {
    emu_load(to, from, stride, std::is_same<Layout, row_major>::value);
}
template <int M, int N, int K, class T, class P>
inline void load_matrix_sync(fragment<accumulator, M, N, K, T> &to, const P *from, unsigned stride, layout_t layout) {
    emu_load(to, from, stride, layout == mem_row_major);
}
template <int M, int N, int K, class T, class P>
inline void store_matrix_sync(P *to, const fragment<accumulator, M, N, K, T> &from, unsigned stride, layout_t layout) {
    if (emu_leads())
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) to[layout == mem_row_major ? i * stride + j : j * stride + i] = from.x[i * N + j];
    __syncwarp();
}
// Where the time of an emulated product goes: worth vectors, whatever the rest is compiled with.
template <int M, int N, int K, class A, class B, class C, class D, class LA, class LB>
__attribute__((optimize("O3"))) inline void mma_sync(fragment<accumulator, M, N, K, D> &d, const fragment<matrix_a, M, N, K, A, LA> &a,
                     const fragment<matrix_b, M, N, K, B, LB> &b, const fragment<accumulator, M, N, K, C> &c) {
    if (!emu_leads()) return;
    float sum[M * N];
    for (int i = 0; i < M * N; i++) sum[i] = float(c.x[i]);
    for (int i = 0; i < M; i++)
        for (int k = 0; k < K; k++) {
            float left = float(a.x[i * K + k]);
            for (int j = 0; j < N; j++) sum[i * N + j] += left * float(b.x[k * N + j]);
        }
    for (int i = 0; i < M * N; i++) d.x[i] = typename emu_stored<D>::type(sum[i]);
}
} // namespace wmma
} // namespace nvcuda
