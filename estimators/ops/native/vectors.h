// Vectors of numbers, and points in panels of them: what every part of the library is built on.
//
// Compile with -ffp-contract=fast and without -ffast-math: rounding by a magic number must stay as it is written.

#pragma once

#include <cstdint>

#ifndef BYTES
#define BYTES 16
#endif

namespace {

constexpr int R = 4;                           // rows of a tile
constexpr int NV = BYTES == 64 ? 4 : 2;        // vectors of a panel: with R·NV sums they fit into the registers
constexpr int64_t FLUSH = 16;                  // panels summed in the points' precision before it becomes double

template <class T> struct Lane;
template <> struct Lane<float> {
    using I = int32_t;
    static constexpr int mantissa = 23, bias = 127;
    static constexpr float magic = 12582912.0f;  // 1.5·2^23
    static constexpr float lowest = -126.0f, smallest = 1.17549435e-38f;  // normal, and its logarithm
    // 2^f on [−½, ½] by a minimax polynomial that is 1 at 0, so that its powers are exact there: relative error 1.1e-7.
    static constexpr int terms = 6;
    static constexpr float exp2[terms] = {1.3264727490544179e-3f, 9.671512641773398e-3f, 5.5507337423071824e-2f,
                                          2.4022242085357523e-1f, 6.931469775997526e-1f, 1.0f};
};
template <> struct Lane<double> {
    using I = int64_t;
    static constexpr int mantissa = 52, bias = 1023;
    static constexpr double magic = 6755399441055744.0;  // 1.5·2^52
    static constexpr double lowest = -1022.0, smallest = 2.2250738585072014e-308;
    static constexpr int terms = 12;  // relative error 3e-18
    static constexpr double exp2[terms] = {
        4.43528270695727715e-10, 7.0741056135081428e-9, 1.01780196812719308e-7, 1.32154330896763992e-6,
        1.52527334899885256e-5,  1.54035304625144321e-4, 1.33335581467899217e-3, 9.61812910758833524e-3,
        5.55041086648199216e-2,  2.40226506959101562e-1, 6.9314718055994533e-1,  1.0};
};

template <class T> struct Vector {
    typedef T type __attribute__((vector_size(BYTES)));
    typedef typename Lane<T>::I bits __attribute__((vector_size(BYTES)));
    static constexpr int L = BYTES / sizeof(T), W = NV * L;
};
template <class T> using vec = typename Vector<T>::type;
template <class T> using ivec = typename Vector<T>::bits;

#define ALWAYS __attribute__((always_inline))
#define INLINE static inline ALWAYS

template <class T> INLINE vec<T> load(const T* p) {
    vec<T> v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
template <class T> INLINE void store(T* p, vec<T> v) { __builtin_memcpy(p, &v, sizeof v); }
template <class T> INLINE vec<T> all(T value) { return vec<T>{} + value; }
template <class T> INLINE vec<T> at_least(vec<T> a, T low) { return a > low ? a : all<T>(low); }
template <class T> INLINE double total(vec<T> v) {
    double sum = 0;
    for (int l = 0; l < Vector<T>::L; ++l) sum += v[l];
    return sum;
}

// 2^t for t <= 0, and 0 below the smallest normal number.
template <class T> INLINE vec<T> exp2(vec<T> t) {
    constexpr T low = Lane<T>::lowest;
    vec<T> kept = at_least<T>(t, low);
    vec<T> shifted = kept + Lane<T>::magic;
    vec<T> f = kept - (shifted - Lane<T>::magic);
    vec<T> p = all<T>(Lane<T>::exp2[0]);
    for (int k = 1; k < Lane<T>::terms; ++k) p = p * f + Lane<T>::exp2[k];
    ivec<T> n = (ivec<T>)shifted << Lane<T>::mantissa;  // the low bits of the shifted number are the integer
    vec<T> value = (vec<T>)((ivec<T>)p + n);
    return t > low ? value : all<T>(0);
}

// log2 of a positive normal number: of its mantissa in [√½, √2) by the series of atanh.
template <class T> INLINE vec<T> log2(vec<T> v) {
    using I = typename Lane<T>::I;
    constexpr int M = Lane<T>::mantissa;
    constexpr T root = 1.41421356237309504880;
    ivec<T> bits = (ivec<T>)v;
    ivec<T> exponent = (bits >> M) - Lane<T>::bias;
    vec<T> m = (vec<T>)((bits & ((I(1) << M) - 1)) | (I(Lane<T>::bias) << M));
    ivec<T> above = m > root;  // −1 where true
    m = above ? m * T(0.5) : m;
    exponent -= above;
    vec<T> s = (m - T(1)) / (m + T(1)), z = s * s;
    constexpr int terms = sizeof(T) == 4 ? 5 : 12;
    vec<T> sum = all<T>(T(1) / (2 * terms + 1));
    for (int k = terms - 1; k >= 0; --k) sum = sum * z + T(1) / (2 * k + 1);
    return __builtin_convertvector(exponent, vec<T>) + s * sum * T(2.88539008177792681472);  // 2/log 2
}

template <class T> INLINE vec<T> root(vec<T> v) {
    vec<T> r;
    for (int l = 0; l < Vector<T>::L; ++l) r[l] = sizeof(T) == 4 ? __builtin_sqrtf(v[l]) : __builtin_sqrt(v[l]);
    return r;
}

// Squared distances of R rows to a panel.
template <class T>
INLINE void distances(const T* const (&x)[R], const T* panel, int64_t d, vec<T> (&tile)[R][NV]) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < NV; ++c) tile[r][c] = all<T>(0);
    for (int64_t k = 0; k < d; ++k) {
        vec<T> y[NV];
        for (int c = 0; c < NV; ++c) y[c] = load<T>(panel + k * W + c * L);
        for (int r = 0; r < R; ++r) {
            const T value = x[r][k];
            for (int c = 0; c < NV; ++c) {
                vec<T> gap = y[c] - value;
                tile[r][c] += gap * gap;
            }
        }
    }
}

// While it lives subnormal numbers are 0: powers of small values are often subnormal, which costs a hundred cycles each.
struct Flushed {
#ifdef __SSE__
    const unsigned before = __builtin_ia32_stmxcsr();
    Flushed() { __builtin_ia32_ldmxcsr(before | 0x8040); }
    ~Flushed() { __builtin_ia32_ldmxcsr(before); }
#endif
};

// (n, d) in panels of W columns, (⌈n/W⌉, d, W), padded by zeros.
template <class T> void pack(const T* y, int64_t n, int64_t d, T* panels) {
    constexpr int W = Vector<T>::W;
    for (int64_t start = 0; start < n; start += W)
        for (int64_t k = 0; k < d; ++k)
            for (int64_t l = 0; l < W; ++l) panels[start * d + k * W + l] = start + l < n ? y[(start + l) * d + k] : T(0);
}

// Σ_j t_ij (x_i − y_j) of rows [begin, end), each a vector of d, added to `out`; `weights(points, i, column, tile)` gives
// t of R rows from i on and a panel. `room` is for d·R·L numbers.
template <class T, class Weights>
INLINE void differences(const T* x, const T* panels, int64_t count, int64_t d, int64_t begin, int64_t end, double* out,
                        T* room, const Weights& weights) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    for (int64_t i = begin; i < end; i += R) {
        const T* points[R];
        for (int r = 0; r < R; ++r) points[r] = x + (i + r < end ? i + r : end - 1) * d;  // past the end the last again
        for (int64_t first = 0; first < count; first += FLUSH) {
            const int64_t last = first + FLUSH < count ? first + FLUSH : count;
            for (int64_t k = 0; k < d * R * L; ++k) room[k] = 0;  // (d, R, L)
            for (int64_t panel = first; panel < last; ++panel) {
                const T* y = panels + panel * W * d;
                vec<T> tile[R][NV];
                weights(points, i, panel * W, tile);
                for (int64_t k = 0; k < d; ++k) {
                    vec<T> at[NV];
                    for (int c = 0; c < NV; ++c) at[c] = load<T>(y + k * W + c * L);
                    for (int r = 0; r < R; ++r) {
                        vec<T> sum = load<T>(room + (k * R + r) * L);
                        for (int c = 0; c < NV; ++c) sum += tile[r][c] * (points[r][k] - at[c]);
                        store<T>(room + (k * R + r) * L, sum);
                    }
                }
            }
            for (int r = 0; r < R && i + r < end; ++r)
                for (int64_t k = 0; k < d; ++k) out[(i + r) * d + k] += total<T>(load<T>(room + (k * R + r) * L));
        }
    }
}

}  // namespace
