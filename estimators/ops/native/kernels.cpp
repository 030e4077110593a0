// Sums over pairs of points for CPUs: one source, compiled once for each instruction set, called by ctypes.
//
// A tile holds R rows of x and one panel of W columns of y in registers: first squared distances, then kernel values,
// then what they are summed into. Distances are sums of squared differences: as fast here as by ‖x‖² + ‖y‖² − 2xy, and
// no offset or far cluster costs them digits. Nothing here allocates, throws, starts threads or keeps state; a caller
// gives each thread its own rows and its own outputs. Points must be finite.

#include <cmath>

#include "vectors.h"

// One term a·f of a kernel as a function of d2 = ‖x − y‖². The forms, and what p and q are in them:
enum Form : int32_t {
    GAUSSIAN,      // 2^(p·d2)
    SQUARED,       // the q-times squared value of the term before it: a Gaussian, whose own exponent is p·d2
    LAPLACE,       // 2^(p·d)
    INVERSE,       // p/(p + d2)
    RATIONAL,      // (1 + p·d2)^q
    DISTANCE,      // d
    POWER,         // d2^q
};
struct Term {
    double a, p, q;
    int32_t form;
};

namespace {

// One term of a kernel, or its derivative in d2, at NV vectors at once; `last` is the Gaussian that SQUARED goes on from.
template <class T, bool SLOPE>
INLINE void add(const Term& term, const vec<T> (&d2)[NV], vec<T> (&last)[NV], vec<T> (&sum)[NV]) {
    constexpr T ln2 = 0.69314718055994530942;
    const T a = T(term.a), p = T(term.p), q = T(term.q);
    const T gaussian = SLOPE ? a * p * ln2 : a;
    const vec<T> none = all<T>(0);
    switch (term.form) {
        case GAUSSIAN:
            for (int c = 0; c < NV; ++c) last[c] = exp2<T>(d2[c] * p);
            for (int c = 0; c < NV; ++c) sum[c] += last[c] * gaussian;
            break;
        case SQUARED:
            for (int k = 0; k < int(term.q); ++k)
                for (int c = 0; c < NV; ++c) last[c] *= last[c];
            for (int c = 0; c < NV; ++c) sum[c] += last[c] * gaussian;
            break;
        case LAPLACE:
            for (int c = 0; c < NV; ++c) {
                vec<T> d = root<T>(d2[c]), k = exp2<T>(d * p) * a;
                sum[c] += SLOPE ? (d2[c] > 0 ? k * (p * ln2 / 2) / d : none) : k;
            }
            break;
        case INVERSE:
            for (int c = 0; c < NV; ++c) {
                vec<T> r = p / (d2[c] + p);
                sum[c] += SLOPE ? r * r * (-a / p) : r * a;
            }
            break;
        case RATIONAL:
            for (int c = 0; c < NV; ++c) {
                vec<T> base = d2[c] * p + T(1), k = exp2<T>(log2<T>(base) * q) * a;  // q < 0 <= log2
                sum[c] += SLOPE ? k * (p * q) / base : k;
            }
            break;
        case DISTANCE:
            for (int c = 0; c < NV; ++c) {
                vec<T> d = root<T>(d2[c]);
                sum[c] += SLOPE ? (d2[c] > 0 ? a / (d * T(2)) : none) : d * a;
            }
            break;
        case POWER:
            for (int c = 0; c < NV; ++c) {
                vec<T> t = log2<T>(at_least<T>(d2[c], Lane<T>::smallest)) * (SLOPE ? q - 1 : q);
                vec<T> k = exp2<T>(t > 0 ? -t : t);
                k = (t > 0 ? T(1) / k : k) * (SLOPE ? a * q : a);
                sum[c] += d2[c] > 0 ? k : none;
            }
            break;
    }
}

constexpr int RUNGS = 16;

// 2^(p·d2) for p <= 0 as exp2 gives it, with a comparison and a multiplication less. Beyond the limit the exponent is that
// of numbers below the normal ones, which `Flushed` makes 0.
template <class T> INLINE vec<T> bell(vec<T> d2, T p, T limit) {
    const vec<T> kept = d2 < limit ? d2 : all<T>(limit);
    const vec<T> shifted = kept * p + Lane<T>::magic;
    const vec<T> f = kept * p - (shifted - Lane<T>::magic);
    vec<T> value = all<T>(Lane<T>::exp2[0]);
    for (int k = 1; k < Lane<T>::terms; ++k) value = value * f + Lane<T>::exp2[k];
    return (vec<T>)((ivec<T>)value + ((ivec<T>)shifted << Lane<T>::mantissa));
}

// Whether all terms are Gaussians.
INLINE bool bells(const Term* terms, int count) {
    bool is = count <= RUNGS;
    for (int k = 0; k < count; ++k) is = is && terms[k].form == GAUSSIAN;
    return is;
}

// Whether all terms are one Gaussian and its fourth powers, as bandwidths that halve give them.
template <class T> INLINE bool ladder(const Term* terms, int count) {
    bool is = count <= RUNGS && terms[0].form == GAUSSIAN;
    for (int k = 1; k < count; ++k) is = is && terms[k].form == SQUARED && terms[k].q == 2;
    return is;
}

// In place: squared distances become values of the kernel, or of its derivative in d2.
template <class T, bool SLOPE> INLINE void apply(const Term* terms, int count, vec<T> (&tile)[R][NV]) {
    if (ladder<T>(terms, count)) {  // by far the most common
        T a[RUNGS];
        for (int k = 0; k < count; ++k) a[k] = T(SLOPE ? terms[k].a * terms[k].p * 0.69314718055994530942 : terms[k].a);
        const T p = T(terms[0].p);
        for (int r = 0; r < R; ++r) {
            vec<T> last[NV], sum[NV];
            for (int c = 0; c < NV; ++c) last[c] = exp2<T>(tile[r][c] * p);
            for (int c = 0; c < NV; ++c) sum[c] = last[c] * a[0];
            for (int k = 1; k < count; ++k)
                for (int c = 0; c < NV; ++c) {
                    last[c] *= last[c];
                    last[c] *= last[c];
                    sum[c] += last[c] * a[k];
                }
            for (int c = 0; c < NV; ++c) tile[r][c] = sum[c];
        }
        return;
    }
    if (bells(terms, count)) {
        T a[RUNGS], p[RUNGS], limit[RUNGS];
        for (int k = 0; k < count; ++k) {
            p[k] = T(terms[k].p), limit[k] = (T(0.9) - Lane<T>::lowest) / std::fabs(p[k]);
            a[k] = T(SLOPE ? terms[k].a * terms[k].p * 0.69314718055994530942 : terms[k].a);
        }
        for (int r = 0; r < R; ++r) {
            vec<T> sum[NV] = {};
            for (int k = 0; k < count; ++k)
                for (int c = 0; c < NV; ++c) sum[c] += bell<T>(tile[r][c], p[k], limit[k]) * a[k];
            for (int c = 0; c < NV; ++c) tile[r][c] = sum[c];
        }
        return;
    }
    for (int r = 0; r < R; ++r) {
        vec<T> sum[NV] = {}, last[NV] = {};
        for (int k = 0; k < count; ++k) add<T, SLOPE>(terms[k], tile[r], last, sum);
        for (int c = 0; c < NV; ++c) tile[r][c] = sum[c];
    }
}

// Which columns of a panel a row is summed over.
enum Pairs : int32_t { EVERY, OTHERS, ABOVE };  // all j, j != i, j > i

template <class T> INLINE ivec<T> counted(int32_t pairs, int64_t i, int64_t column) {
    ivec<T> j;
    for (int l = 0; l < Vector<T>::L; ++l) j[l] = typename Lane<T>::I(column + l - i);
    return pairs == OTHERS ? (ivec<T>)(j != 0) : (ivec<T>)(j > 0);
}

// One of a batch of problems, whose arrays follow each other.
struct Problem {
    const void *x, *panels;  // (n, d) in rows, and (⌈m/W⌉, d, W)
    const void *v, *w;       // weights of columns, padded by zeros to ⌈m/W⌉·W, and of rows, (n,) or none: those of columns
    const void *ox, *oy;     // for moments: what rows and columns (padded as v) add to the kernel by themselves
    int64_t n, m, d, step;   // step: from the terms of a problem to those of the next
    const Term* terms;
    int32_t count, pairs;
};

template <class T> Problem of_batch(const Problem& s, int64_t b) {
    const int64_t stride = (s.m + Vector<T>::W - 1) / Vector<T>::W * Vector<T>::W;
    const auto at = [&](const void* array, int64_t each) { return array ? (const T*)array + b * each : nullptr; };
    const void *const v = at(s.v, stride), *const w = s.w ? at(s.w, s.n) : v;
    return {at(s.x, s.n * s.d), at(s.panels, stride * s.d), v,   w, at(s.ox, s.n), at(s.oy, stride), s.n, s.m, s.d, s.step,
            s.terms + b * s.step,        s.count, s.pairs};
}

// Rows begin to end of all problems, one problem after another: `run(problem, its number, own rows)`.
template <class T, class Run> void each_problem(const Problem& s, int64_t begin, int64_t end, const Run& run) {
    const Flushed flushed;
    for (int64_t b = begin / s.n; b * s.n < end; ++b) {
        const int64_t first = b * s.n, last = first + s.n;
        run(of_batch<T>(s, b), b, (begin > first ? begin : first) - first, (end < last ? end : last) - first);
    }
}

// Where sums go. To each row i of [begin, end) Σ_j v_j k_ij is added; to each column, where there are any, Σ_i w_i k_ij of
// these rows. Moments are these with k_ij + ox_i + oy_j for k_ij, the same with v² and w², and w_i² Σ_j v_j² k_ij².
struct Sums {
    double *rows, *columns, *rows_2, *columns_2, *squares;

    Sums of_batch(const Problem& s, int64_t b) const {
        const auto at = [&](double* array, int64_t each) { return array ? array + b * each : nullptr; };
        return {at(rows, s.n), at(columns, s.m), at(rows_2, s.n), at(columns_2, s.m), at(squares, s.n)};
    }
};

template <class T, bool MOMENTS> void sums(const Problem& s, int64_t begin, int64_t end, const Sums& out) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    const T *x = (const T*)s.x, *panels = (const T*)s.panels;
    const T *v = (const T*)s.v, *w = (const T*)s.w, *ox = (const T*)s.ox, *oy = (const T*)s.oy;
    double* const columns = out.columns;
    const int64_t count = (s.m + W - 1) / W;
    for (int64_t first = 0; first < count; first += FLUSH) {
        const int64_t last = first + FLUSH < count ? first + FLUSH : count;
        // Sums over rows, in the points' precision until they have taken FLUSH·W of them.
        T below[FLUSH * W], below_2[MOMENTS ? FLUSH * W : 1];
        for (int64_t start = begin; start < end; start += FLUSH * W) {
            const int64_t stop = start + FLUSH * W < end ? start + FLUSH * W : end;
            if (s.pairs == ABOVE && last * W <= start) continue;
            for (int64_t j = 0; columns && j < FLUSH * W; ++j) below[j] = 0;
            for (int64_t j = 0; MOMENTS && j < FLUSH * W; ++j) below_2[j] = 0;
            for (int64_t i = start; i < stop; i += R) {
                const T* points[R];
                T weights[R];
                for (int r = 0; r < R; ++r) {  // rows past the end repeat the last one, with no weight
                    const int64_t row = i + r < stop ? i + r : stop - 1;
                    points[r] = x + row * s.d;
                    weights[r] = columns && i + r < stop ? w[row] : T(0);
                }
                vec<T> sum[R] = {}, sum_2[R] = {}, squares[R] = {};
                for (int64_t panel = first; panel < last; ++panel) {
                    const int64_t column = panel * W;
                    if (s.pairs == ABOVE && column + W <= i + 1) continue;
                    vec<T> tile[R][NV];
                    distances<T>(points, panels + panel * W * s.d, s.d, tile);
                    apply<T, false>(s.terms, s.count, tile);
                    if constexpr (MOMENTS)
                        for (int r = 0; r < R; ++r)
                            for (int c = 0; c < NV; ++c)
                                tile[r][c] += load<T>(oy + column + c * L) + ox[i + r < stop ? i + r : stop - 1];
                    const bool diagonal = s.pairs == OTHERS ? column < i + R && i < column + W
                                                            : s.pairs == ABOVE && column <= i + R - 1;
                    if (diagonal)
                        for (int r = 0; r < R; ++r)
                            for (int c = 0; c < NV; ++c)
                                tile[r][c] = counted<T>(s.pairs, i + r, column + c * L) ? tile[r][c] : all<T>(0);
                    for (int c = 0; c < NV; ++c) {
                        const vec<T> u = load<T>(v + column + c * L);
                        for (int r = 0; r < R; ++r) {
                            sum[r] += tile[r][c] * u;
                            if constexpr (MOMENTS) {
                                const vec<T> k_2 = tile[r][c] * (u * u);
                                sum_2[r] += k_2;
                                squares[r] += k_2 * tile[r][c];
                            }
                        }
                    }
                    if (columns) {
                        T* into = below + (column - first * W);
                        for (int c = 0; c < NV; ++c) {
                            vec<T> down = load<T>(into + c * L);
                            for (int r = 0; r < R; ++r) down += tile[r][c] * weights[r];
                            store<T>(into + c * L, down);
                            if constexpr (MOMENTS) {
                                T* const into_2 = below_2 + (column - first * W) + c * L;
                                vec<T> down_2 = load<T>(into_2);
                                for (int r = 0; r < R; ++r) down_2 += tile[r][c] * (weights[r] * weights[r]);
                                store<T>(into_2, down_2);
                            }
                        }
                    }
                }
                for (int r = 0; r < R && i + r < stop; ++r) {
                    out.rows[i + r] += total<T>(sum[r]);
                    if constexpr (MOMENTS) {
                        out.rows_2[i + r] += total<T>(sum_2[r]);
                        out.squares[i + r] += total<T>(squares[r]) * double(weights[r]) * double(weights[r]);
                    }
                }
            }
            for (int64_t j = 0; columns && j < (last - first) * W && first * W + j < s.m; ++j) {
                columns[first * W + j] += below[j];
                if constexpr (MOMENTS) out.columns_2[first * W + j] += below_2[j];
            }
        }
    }
}

// Σ_j v_j φ'(‖x_i − y_j‖²)(x_i − y_j), of each row a vector of d.
template <class T> void slopes(const Problem& s, int64_t begin, int64_t end, double* out, T* room) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    const T *panels = (const T*)s.panels, *v = (const T*)s.v;
    const auto weights = [&](const T* const(&points)[R], int64_t i, int64_t column, vec<T>(&tile)[R][NV]) ALWAYS {
        distances<T>(points, panels + column * s.d, s.d, tile);
        apply<T, true>(s.terms, s.count, tile);
        const bool diagonal = s.pairs == OTHERS && column < i + R && i < column + W;
        for (int c = 0; c < NV; ++c) {
            const vec<T> u = load<T>(v + column + c * L);
            for (int r = 0; r < R; ++r) {
                tile[r][c] *= u;
                if (diagonal) tile[r][c] = counted<T>(OTHERS, i + r, column + c * L) ? tile[r][c] : all<T>(0);
            }
        }
    };
    differences<T>((const T*)s.x, panels, (s.m + W - 1) / W, s.d, begin, end, out, room, weights);
}

}  // namespace

extern "C" {

#define EXPORT(T, suffix)                                                                                      \
    int64_t width_##suffix() { return Vector<T>::W; }                                                          \
    int64_t room_##suffix() { return R * Vector<T>::L; }                                                       \
    void pack_##suffix(const T* y, int64_t B, int64_t n, int64_t d, T* panels) {                               \
        const int64_t width = Vector<T>::W, step = (n + width - 1) / width * width * d;                        \
        for (int64_t b = 0; b < B; ++b) pack<T>(y + b * n * d, n, d, panels + b * step);                       \
    }                                                                                                          \
    void sums_##suffix(const Problem* s, int64_t begin, int64_t end, const Sums* out) {                        \
        each_problem<T>(*s, begin, end, [&](const Problem& own, int64_t b, int64_t first, int64_t last) {      \
            sums<T, false>(own, first, last, out->of_batch(own, b));                                           \
        });                                                                                                    \
    }                                                                                                          \
    void moments_##suffix(const Problem* s, int64_t begin, int64_t end, const Sums* out) {                     \
        each_problem<T>(*s, begin, end, [&](const Problem& own, int64_t b, int64_t first, int64_t last) {      \
            sums<T, true>(own, first, last, out->of_batch(own, b));                                            \
        });                                                                                                    \
    }                                                                                                          \
    void slopes_##suffix(const Problem* s, int64_t begin, int64_t end, double* out, T* room) {                 \
        each_problem<T>(*s, begin, end, [&](const Problem& own, int64_t b, int64_t first, int64_t last) {      \
            slopes<T>(own, first, last, out + b * own.n * own.d, room);                                        \
        });                                                                                                    \
    }
EXPORT(float, f32)
EXPORT(double, f64)
}
