// The two 16-bit floats of CUDA and their pairs, by rounding the result of 32-bit arithmetic to
// nearest even: what the device's instructions give for one operation.
#pragma once

#define EMU_HALF_TYPE(H, H2, FROM, TO) \
    struct H { \
        unsigned short bits; \
        H() = default; \
        template <class T, class = std::enable_if_t<std::is_arithmetic<T>::value>> H(T value) : bits(FROM(float(value))) {} \
        operator float() const { return TO(bits); } \
    }; \
    struct alignas(4) H2 { \
        H x, y; \
    }; \
    inline H operator+(H a, H b) { return H(float(a) + float(b)); } \
    inline H operator-(H a, H b) { return H(float(a) - float(b)); } \
    inline H operator*(H a, H b) { return H(float(a) * float(b)); } \
    inline H operator/(H a, H b) { return H(float(a) / float(b)); } \
    inline H operator-(H a) { return H(-float(a)); } \
    inline bool operator<(H a, H b) { return float(a) < float(b); } \
    inline bool operator>(H a, H b) { return float(a) > float(b); } \
    inline bool operator<=(H a, H b) { return float(a) <= float(b); } \
    inline bool operator>=(H a, H b) { return float(a) >= float(b); } \
    inline bool operator==(H a, H b) { return float(a) == float(b); } \
    inline bool operator!=(H a, H b) { return float(a) != float(b); } \
    inline H2 operator+(H2 a, H2 b) { return {a.x + b.x, a.y + b.y}; } \
    inline H2 operator-(H2 a, H2 b) { return {a.x - b.x, a.y - b.y}; } \
    inline H2 operator*(H2 a, H2 b) { return {a.x * b.x, a.y * b.y}; } \
    inline H2 operator/(H2 a, H2 b) { return {a.x / b.x, a.y / b.y}; } \
    inline H2 operator-(H2 a) { return {-a.x, -a.y}; } \
    inline H __hfma(H a, H b, H c) { return H(::fmaf(float(a), float(b), float(c))); } \
    inline H2 __hfma2(H2 a, H2 b, H2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; } \
    inline H __hmax(H a, H b) { return H(fmaxf(float(a), float(b))); } \
    inline H __hmin(H a, H b) { return H(fminf(float(a), float(b))); } \
    inline H __hmax_nan(H a, H b) { return H(emu_max_nan(float(a), float(b))); } \
    inline H __hmin_nan(H a, H b) { return H(emu_min_nan(float(a), float(b))); } \
    inline H2 __hmax2(H2 a, H2 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; } \
    inline H2 __hmin2(H2 a, H2 b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; } \
    inline H2 __hmax2_nan(H2 a, H2 b) { return {__hmax_nan(a.x, b.x), __hmax_nan(a.y, b.y)}; } \
    inline H2 __hmin2_nan(H2 a, H2 b) { return {__hmin_nan(a.x, b.x), __hmin_nan(a.y, b.y)}; } \
    inline bool __hisnan(H a) { return std::isnan(float(a)); } \
    inline bool __hisinf(H a) { return std::isinf(float(a)); } \
    inline H __habs(H a) { return H(::fabsf(float(a))); } \
    inline H2 __habs2(H2 a) { return {__habs(a.x), __habs(a.y)}; } \
    EMU_HALF_FUNCTION(H, H2, exp) \
    EMU_HALF_FUNCTION(H, H2, log) \
    EMU_HALF_FUNCTION(H, H2, sin) \
    EMU_HALF_FUNCTION(H, H2, cos) \
    EMU_HALF_FUNCTION(H, H2, tanh) \
    EMU_HALF_FUNCTION(H, H2, sqrt) \
    EMU_HALF_FUNCTION(H, H2, rsqrt) \
    EMU_HALF_FUNCTION(H, H2, ceil) \
    EMU_HALF_FUNCTION(H, H2, trunc) \
    EMU_HALF_FUNCTION(H, H2, floor) \
    EMU_HALF_FUNCTION(H, H2, rint)

// The names are joined to a prefix, so the macros of device.h do not change them.
#define EMU_HALF_FUNCTION(H, H2, name) \
    inline H h##name(H a) { return H(emu_half_##name(float(a))); } \
    inline H2 h2##name(H2 a) { return {h##name(a.x), h##name(a.y)}; }

inline float emu_half_exp(float x) { return ::expf(x); }
inline float emu_half_log(float x) { return ::logf(x); }
inline float emu_half_sin(float x) { return ::sinf(x); }
inline float emu_half_cos(float x) { return ::cosf(x); }
inline float emu_half_tanh(float x) { return ::tanhf(x); }
inline float emu_half_sqrt(float x) { return ::sqrtf(x); }
inline float emu_half_rsqrt(float x) { return 1.0f / ::sqrtf(x); }
inline float emu_half_ceil(float x) { return ::ceilf(x); }
inline float emu_half_trunc(float x) { return ::truncf(x); }
inline float emu_half_floor(float x) { return ::floorf(x); }
inline float emu_half_rint(float x) { return ::rintf(x); }

inline unsigned short emu_bfloat16_bits(float value) {
    unsigned bits = emu_register(value);
    if (std::isnan(value)) return 0x7fff;
    return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
inline float emu_bfloat16_value(unsigned short bits) {
    unsigned wide = unsigned(bits) << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}
inline unsigned short emu_float16_bits(float value) {
    _Float16 half = (_Float16)value;
    unsigned short bits;
    memcpy(&bits, &half, 2);
    return bits;
}
inline float emu_float16_value(unsigned short bits) {
    _Float16 half;
    memcpy(&half, &bits, 2);
    return float(half);
}

EMU_HALF_TYPE(__nv_bfloat16, __nv_bfloat162, emu_bfloat16_bits, emu_bfloat16_value)
EMU_HALF_TYPE(__half, __half2, emu_float16_bits, emu_float16_value)
