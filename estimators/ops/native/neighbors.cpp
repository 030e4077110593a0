// The k nearest points of each query: all distances in single precision as a filter, the few that pass in double.
//
// The filter. With c a centre and s a power of two, x̃ = fl32(s(x − c)), and ỹ likewise; u = 2^−24. In the metric's norm
//
//     ‖x̃ − s(x − c)‖ ≤ 2u‖x̃‖ + d·2^−126:    subtraction rounds by 2^−53, fl32 by u, or by 2^−126 below the normal numbers,
//
// so that D = s‖x − y‖ and ‖x̃ − ỹ‖ differ by at most e = 2u(‖x̃‖ + ‖ỹ‖) + d·2^−125. The norm t that is computed from x̃
// and ỹ (its square for ℓ2) is a sum of d terms of one sign, each rounded at most d + 3 times: it exceeds the true one by
// a factor of at most 1 + 2(d + 3)u, as long as (d + 3)u ≤ ½, and by d·2^−126 where terms underflow. Hence D ≤ ρ implies
//
//     t ≤ (ρ + e)^p (1 + 2(d + 8)u) + d·2^−126,    p = 2 for ℓ2 and 1 otherwise,
//
// where 10u are left for rounding the right side. With ρ the k-th distance so far, no point that is nearer is missed, and
// what the answer is, and which of equal distances comes first (the lower index), is decided in double precision alone.

#include <algorithm>
#include <cfloat>
#include <cmath>

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "vectors.h"

namespace {

enum Metric { EUCLIDEAN, CITYBLOCK, CHEBYSHEV };

constexpr int64_t ROWS = 128;         // queries of a call
constexpr int64_t CACHE = 256 << 10;  // bytes of the panels that a call's queries share, in the second cache
constexpr double UNIT = 0x1p-24;

struct Neighbors {
    const void *points, *queries;
    const float *panels, *rows;       // x̃ of the points, in panels, and of the queries
    const double *far, *own;          // the largest ‖ỹ‖ of each panel, and ‖x̃‖ of each query
    void* distance;                   // (queries, k)
    int64_t* index;
    int64_t n, d, k;
    double scale;
    int32_t metric, others;           // others: a query is the point of its own index, which is left out
};

struct Found {
    double gap;  // the distance, squared for ℓ2
    int64_t index;
    bool operator<(const Found& o) const { return gap < o.gap || (gap == o.gap && index < o.index); }
};

// In a heap whose first is the worst.
INLINE void replace_worst(Found* heap, int64_t count, Found by) {
    int64_t hole = 0;
    for (int64_t child; (child = 2 * hole + 1) < count; hole = child) {
        if (child + 1 < count && heap[child] < heap[child + 1]) ++child;
        if (!(by < heap[child])) break;
        heap[hole] = heap[child];
    }
    heap[hole] = by;
}

template <class V> INLINE V absolute(V v) { return v < 0 ? -v : v; }

// One bit a lane, set where the comparison is true.
INLINE uint32_t bits(ivec<float> mask) {
#if BYTES == 64 && defined(__AVX512DQ__)
    return _mm512_movepi32_mask((__m512i)mask);
#elif BYTES == 32 && defined(__AVX2__)
    return uint32_t(_mm256_movemask_ps((__m256)mask));
#elif BYTES == 16 && defined(__SSE2__)
    return uint32_t(_mm_movemask_ps((__m128)mask));
#else
    uint32_t found = 0;
    for (int l = 0; l < Vector<float>::L; ++l) found |= uint32_t(mask[l] != 0) << l;
    return found;
#endif
}

// t of R rows and a panel.
template <int metric>
INLINE void gaps(const float* const (&x)[R], const float* panel, int64_t d, vec<float> (&tile)[R][NV]) {
    if (metric == EUCLIDEAN) return distances<float>(x, panel, d, tile);
    constexpr int L = Vector<float>::L, W = Vector<float>::W;
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < NV; ++c) tile[r][c] = all<float>(0);
    for (int64_t k = 0; k < d; ++k) {
        vec<float> y[NV];
        for (int c = 0; c < NV; ++c) y[c] = load<float>(panel + k * W + c * L);
        for (int r = 0; r < R; ++r) {
            const float value = x[r][k];
            for (int c = 0; c < NV; ++c) {
                const vec<float> gap = absolute(y[c] - value);
                tile[r][c] = metric == CITYBLOCK ? tile[r][c] + gap : gap > tile[r][c] ? gap : tile[r][c];
            }
        }
    }
}

template <int metric> INLINE double joined(double sum, double gap) {
    return metric == EUCLIDEAN   ? sum + gap * gap
           : metric == CITYBLOCK ? sum + std::fabs(gap)
                                 : std::max(sum, std::fabs(gap));
}

// The distance in double precision, squared for ℓ2: the same for both orders of x and y, and 0 for copies.
template <int metric, class T> INLINE double exactly(const T* x, const T* y, int64_t d) {
    constexpr int P = 4;  // sums that do not wait for each other
    double part[P] = {};
    int64_t k = 0;
    for (; k + P <= d; k += P)
        for (int p = 0; p < P; ++p) part[p] = joined<metric>(part[p], double(x[k + p]) - double(y[k + p]));
    for (; k < d; ++k) part[0] = joined<metric>(part[0], double(x[k]) - double(y[k]));
    if (metric == CHEBYSHEV) return std::max(std::max(part[0], part[1]), std::max(part[2], part[3]));
    return (part[0] + part[1]) + (part[2] + part[3]);
}

// The largest t of a point that may be nearer than the worst that a query has, of points with ‖ỹ‖ ≤ far.
template <int metric> float limit(const Neighbors& s, const Found* best, int64_t count, double own, double far) {
    if (count < s.k) return INFINITY;
    if (best[0].gap == 0) return -1;  // none is nearer, and copies that come later have a higher index
    const double rho = s.scale * (metric == EUCLIDEAN ? std::sqrt(best[0].gap) : best[0].gap);
    const double reach = rho + 2 * UNIT * (own + far) + double(s.d) * 0x1p-125;
    const double most = metric == EUCLIDEAN ? reach * reach : reach;
    return float(most * (1 + 2 * double(s.d + 8) * UNIT) + double(s.d) * 0x1p-126);
}

// Queries [begin, end), ROWS at most; `room` is for ROWS·k.
template <class T, int metric> void nearest(const Neighbors& s, int64_t begin, int64_t end, Found* room) {
    constexpr int L = Vector<float>::L, W = Vector<float>::W;
    const T *points = (const T*)s.points, *queries = (const T*)s.queries;
    const int64_t panels = (s.n + W - 1) / W, block = std::max<int64_t>(1, CACHE / (W * s.d * int64_t(sizeof(float))));
    int64_t count[ROWS] = {};
    for (int64_t first = 0; first < panels; first += block) {
        const int64_t last = std::min(first + block, panels);
        const double far = *std::max_element(s.far + first, s.far + last);
        for (int64_t i = begin; i < end; i += R) {
            const float* x[R];
            float most[R];
            for (int r = 0; r < R; ++r) {  // past the end the last one again, for which nothing passes
                const int64_t q = std::min(i + r, end - 1);
                x[r] = s.rows + q * s.d;
                most[r] = i + r < end ? limit<metric>(s, room + (q - begin) * s.k, count[q - begin], s.own[q], far) : -1;
            }
            for (int64_t panel = first; panel < last; ++panel) {
                vec<float> tile[R][NV];
                gaps<metric>(x, s.panels + panel * W * s.d, s.d, tile);
                ivec<float> any{};
                for (int r = 0; r < R; ++r) {
                    vec<float> least = tile[r][0];
                    for (int c = 1; c < NV; ++c) least = tile[r][c] < least ? tile[r][c] : least;
                    any |= least <= most[r];
                }
                if (__builtin_expect(!bits(any), 1)) continue;
                for (int r = 0; r < R && i + r < end; ++r) {
                    const int64_t q = i + r;
                    Found* best = room + (q - begin) * s.k;
                    int64_t& held = count[q - begin];
                    bool changed = false;
                    for (int c = 0; c < NV; ++c) {
                        for (uint32_t passed = bits(tile[r][c] <= most[r]); passed; passed &= passed - 1) {
                            const int64_t j = panel * W + c * L + __builtin_ctz(passed);
                            if (j >= s.n || (s.others && j == q)) continue;
                            const double gap = exactly<metric>(queries + q * s.d, points + j * s.d, s.d);
                            if (held < s.k) {
                                best[held++] = {gap, j};
                                std::push_heap(best, best + held);
                            } else if (gap < best[0].gap) {
                                replace_worst(best, held, {gap, j});
                            } else {
                                continue;
                            }
                            changed = true;
                        }
                    }
                    if (changed) most[r] = limit<metric>(s, best, held, s.own[q], far);
                }
            }
        }
    }
    for (int64_t q = begin; q < end; ++q) {
        Found* best = room + (q - begin) * s.k;
        std::sort_heap(best, best + s.k);
        for (int64_t l = 0; l < s.k; ++l) {
            ((T*)s.distance)[q * s.k + l] = T(metric == EUCLIDEAN ? std::sqrt(best[l].gap) : best[l].gap);
            s.index[q * s.k + l] = best[l].index;
        }
    }
}

template <class T> void nearest(const Neighbors& s, int64_t begin, int64_t end, Found* room) {
    if (s.metric == EUCLIDEAN) return nearest<T, EUCLIDEAN>(s, begin, end, room);
    if (s.metric == CITYBLOCK) return nearest<T, CITYBLOCK>(s, begin, end, room);
    nearest<T, CHEBYSHEV>(s, begin, end, room);
}

template <int metric> double norm(const float* x, int64_t d, int64_t stride) {
    double sum = 0;
    for (int64_t k = 0; k < d; ++k) sum = joined<metric>(sum, x[k * stride]);
    return metric == EUCLIDEAN ? std::sqrt(sum) : sum;
}

// x̃ of (n, d) in panels of `width` columns, of which those past the end are 0, and the largest ‖x̃‖ of each panel.
template <class T>
void narrow(const T* x, int64_t n, int64_t d, const double* centre, double scale, int32_t metric, int64_t width,
            float* panels, double* largest) {
    for (int64_t start = 0; start < n; start += width) {
        float* panel = panels + start * d;
        largest[start / width] = 0;
        for (int64_t l = 0; l < width; ++l) {
            const T* point = start + l < n ? x + (start + l) * d : nullptr;
            for (int64_t k = 0; k < d; ++k)
                panel[k * width + l] = point ? float((double(point[k]) - centre[k]) * scale) : 0;
            const double size = metric == EUCLIDEAN   ? norm<EUCLIDEAN>(panel + l, d, width)
                                : metric == CITYBLOCK ? norm<CITYBLOCK>(panel + l, d, width)
                                                      : norm<CHEBYSHEV>(panel + l, d, width);
            largest[start / width] = std::max(largest[start / width], size);
        }
    }
}

}  // namespace

extern "C" {

int64_t neighbor_rows() { return ROWS; }

#define EXPORT(T, suffix)                                                                                         \
    void narrow_##suffix(const T* x, int64_t n, int64_t d, const double* centre, double scale, int32_t metric,    \
                         int64_t width, float* panels, double* largest) {                                         \
        narrow<T>(x, n, d, centre, scale, metric, width, panels, largest);                                        \
    }                                                                                                             \
    void nearest_##suffix(const Neighbors* s, int64_t begin, int64_t end, void* room) {                           \
        nearest<T>(*s, begin, end, (Found*)room);                                                                 \
    }
EXPORT(float, f32)
EXPORT(double, f64)
}
