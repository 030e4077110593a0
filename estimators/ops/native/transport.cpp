// Entropic transport for CPUs: the potential g of one sample that maximises the dual, f being exact given g.
//
// An evaluation makes the rows of K_ij = 2^(F_i + G_j − s·c_ij), c = ‖x_i − y_j‖^p and s = log₂e/ε, or reads those that
// are kept; the sum of a row gives its f, with which it is added to the sums of the columns while it is in the cache.
// These are the slope of the dual in g, which is maximised by L-BFGS from a few plain sweeps with falling ε. F and G are
// potentials in units of ε·log 2 that K has absorbed; u and v are what was added since. K is in the points' precision,
// its exponents keep more digits than that: F and G are split so that their high parts add up without rounding, and the
// low parts are added when s·c is taken off.

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "vectors.h"

constexpr int MEMORY = 10;  // pairs of steps and changes of the slope that L-BFGS goes by

// Numbers of each worker that all read; the last two are those of the first, which nobody may write while others still
// read the sums that they decide by.
constexpr int FOUND = 6, CURVED = 4, TOO_SHORT = 5;

// What workers share. Each calls `transport_solve` with its own number; all arrays are the caller's. `stride` is m rounded
// up to whole panels.
struct Transport {
    const void *x, *panels;            // (n, d) in rows, and (stride/W, d, W)
    const double *a, *b;               // weights
    double *f, *g;                     // potentials: g is read and written, f is exact for g
    double *down;                      // (m,): Σ_i of the plan at (f, g)
    double *u, *absorbed, *w;          // (n,), (m,): what g was when K absorbed it; (m,): 2^v
    double *target;                    // (m,): g that is exact for f
    double *at, *slope, *step;         // (m,) each: potentials that are tried, their slope, and the direction
    double *kept, *memory;             // (2, m): slope and target at g; (2, MEMORY, m)
    void *K, *room;                    // (n, stride) or nothing: K is not kept; and (workers, each)
    void *high, *low, *mass;           // (stride,): the parts of G, and b·2^v
    double *columns, *found;           // (workers, stride), (workers, FOUND)
    const double* epsilons;            // that fall to the last, which counts
    int64_t n, m, d, stride, each;
    double rho, order, tolerance, error, value, grain;
    int32_t stages, symmetric, most, done, converged, workers;
    int32_t stage, pairs, evaluated;  // of ε; of L-BFGS; whether the arrays are those of an evaluation at g: 0 at first
    std::atomic<int32_t> arrived, passed, abandoned;
};

namespace {

// As std::fmax and std::fmin, which are calls where numbers may be NaN.
inline double larger(double a, double b) { return a > b ? a : b; }
inline double smaller(double a, double b) { return a < b ? a : b; }

constexpr double LOG2E = 1.4426950408889634;
constexpr double HIGHEST = 100;     // exponent of K: its sums are numbers
constexpr double FAR = 40;          // |u| and |v| at which K has lost digits
constexpr double ROUNDING = 4;      // units of rounding, of ε, that a value of the dual may seem to fall by
constexpr double STEEP = 0.9;       // share of a slope that is left after a step which was too short
constexpr double FURTHER = 4, SHORTEST = 1e-3;
constexpr int32_t SHORTENED = 6;    // times, until a step is shorter than that and then a plain sweep
constexpr int64_t DOWN = 256;       // rows that are added in the points' precision before the sums become double

constexpr int64_t SPINS = 1000;     // turns of waiting, some 0.05 ms, before other threads are let in

INLINE void pause() {
#ifdef __SSE__
    __builtin_ia32_pause();
#endif
}

// All workers wait for the last; false where the call was abandoned.
bool together(Transport& s) {
    const int32_t before = s.passed.load(std::memory_order_acquire);
    if (s.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == s.workers) {
        s.arrived.store(0, std::memory_order_relaxed);
        s.passed.store(before + 1, std::memory_order_release);
        return !s.abandoned;
    }
    for (int64_t turn = 0; s.passed.load(std::memory_order_acquire) == before; ++turn) {
        if (s.abandoned) return false;
        if (turn < SPINS)
            pause();
        else
            std::this_thread::yield();
    }
    return !s.abandoned;
}

// ‖x − y‖^p of squared distances.
template <class T> INLINE void cost(double order, vec<T> (&tile)[R][NV]) {
    if (order == 2) return;
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < NV; ++c) {
            const vec<T> d2 = tile[r][c];
            if (order == 1)
                tile[r][c] = root<T>(d2);
            else
                tile[r][c] = d2 > 0 ? exp2<T>(log2<T>(at_least<T>(d2, Lane<T>::smallest)) * T(order / 2)) : all<T>(0);
        }
}

// A number in a part that sums of two keep, and the rest.
template <class T> INLINE void split(double value, double grain, T& high, T& low) {
    const double rounded = std::nearbyint(value / grain) * grain;
    high = T(rounded);
    low = T(value - rounded);
}

template <class T> struct Rows {
    const T* points[R];
    T high[R], low[R];
};

// F + G − s·c of row r and a vector of columns.
template <class T>
INLINE vec<T> exponent(const Transport& s, const Rows<T>& rows, int r, int64_t column, vec<T> c, T scale) {
    const vec<T> high = load<T>((const T*)s.high + column), low = load<T>((const T*)s.low + column);
    return (high + rows.high[r] - c * scale) + (low + rows.low[r]);
}

// Costs of R rows and a panel become K, in place.
template <class T>
INLINE void exponentials(const Transport& s, const Rows<T>& rows, int64_t column, T scale, vec<T> (&tile)[R][NV]) {
    for (int c = 0; c < NV; ++c)
        for (int r = 0; r < R; ++r) {
            const vec<T> t = exponent<T>(s, rows, r, column + c * Vector<T>::L, tile[r][c], scale);
            tile[r][c] = exp2<T>(t < T(HIGHEST) ? t : all<T>(T(HIGHEST)));
        }
}

template <class T>
INLINE void entries(const Transport& s, const Rows<T>& rows, int64_t column, T scale, vec<T> (&tile)[R][NV]) {
    distances<T>(rows.points, (const T*)s.panels + column * s.d, s.d, tile);
    cost<T>(s.order, tile);
    exponentials<T>(s, rows, column, scale, tile);
}

template <class T> INLINE Rows<T> rows_at(const Transport& s, const double (&F)[R], int64_t i, int64_t end, double grain) {
    Rows<T> rows;
    for (int r = 0; r < R; ++r) {  // rows past the end repeat the last one
        const int64_t row = i + r < end ? i + r : end - 1;
        rows.points[r] = (const T*)s.x + row * s.d;
        split<T>(F[r], grain, rows.high[r], rows.low[r]);
    }
    return rows;
}

struct Slice {
    int64_t begin, end;
};
Slice slice(int64_t count, int64_t worker, int64_t workers, int64_t whole) {
    const int64_t parts = (count + whole - 1) / whole;
    const int64_t begin = parts * worker / workers * whole, end = parts * (worker + 1) / workers * whole;
    return {begin, end < count ? end : count};
}

// The finest part of a number to which sums of the largest F and G, about as large as costs, are exact in T.
template <class T> double grain_of(const Transport& s, const double* g, double scale) {
    double largest = 0;
    for (int64_t i = 0; i < s.n; ++i) largest = larger(largest, std::fabs(s.f[i]));
    double of_g = 0;
    for (int64_t j = 0; j < s.m; ++j) of_g = larger(of_g, std::fabs(g[j]));
    return std::exp2(std::ceil(std::log2(larger(4 * (largest + of_g) * scale, 1.0))) - Lane<T>::mantissa);
}


struct Scale {
    double epsilon, scale, damp, rho, grain;
    Scale(double e, double r) : epsilon(e), scale(LOG2E / e), damp(1 / (1 + e / r)), rho(r), grain(0) {}
};

// The share of the dual that one point has with potential h and weight w, the exact mass of its row included.
double of_point(double w, double h, const Scale& z, bool row) {
    if (std::isinf(z.rho)) return w * h;
    return -z.rho * w * std::expm1(-h / z.rho) - (row ? z.epsilon * w * std::exp(-h / z.rho) : 0);
}

// K of R rows, and its sums with the masses of columns.
template <class T>
void made_rows(const Transport& s, const double (&F)[R], int64_t i, int64_t end, T* const (&k)[R], double (&P)[R],
               const Scale& z) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    const Rows<T> rows = rows_at<T>(s, F, i, end, z.grain);
    vec<T> sum[R] = {};
    for (int64_t column = 0; column < s.stride; column += W) {
        vec<T> tile[R][NV];
        entries<T>(s, rows, column, T(z.scale), tile);
        for (int c = 0; c < NV; ++c) {
            const vec<T> w = load<T>((const T*)s.mass + column + c * L);
            for (int r = 0; r < R; ++r) {
                store<T>(k[r] + column + c * L, tile[r][c]);
                sum[r] += tile[r][c] * w;
            }
        }
    }
    for (int r = 0; r < R; ++r) P[r] = total<T>(sum[r]);
}

// The sums of rows of K that were kept.
template <class T> INLINE void kept_rows(const T* mass, int64_t stride, T* const (&k)[R], double (&P)[R]) {
    constexpr int L = Vector<T>::L;
    vec<T> sum[R] = {};
    for (int64_t j = 0; j < stride; j += L) {
        const vec<T> w = load<T>(mass + j);
        for (int r = 0; r < R; ++r) sum[r] += load<T>(k[r] + j) * w;
    }
    for (int r = 0; r < R; ++r) P[r] = total<T>(sum[r]);
}

bool far(const double (&P)[R]) {
    static const double highest = std::exp2(FAR);
    bool found = false;
    for (int r = 0; r < R; ++r) found = found || !(P[r] <= highest && P[r] * highest >= 1);
    return found;
}

// A function of vectors for each of R numbers, and in place for more: the logarithms of small problems are half their time.
template <class Of> INLINE void each(double (&values)[R], const Of& of) {
    constexpr int L = Vector<double>::L;
    double padded[R + L];
    for (int k = 0; k < R + L; ++k) padded[k] = k < R ? values[k] : 1;
    for (int k = 0; k < R; k += L) store<double>(padded + k, of(load<double>(padded + k)));
    for (int r = 0; r < R; ++r) values[r] = padded[r];
}
template <class Of> INLINE void each(double* values, int64_t count, const Of& of) {
    constexpr int L = Vector<double>::L;
    int64_t k = 0;
    for (; k + L <= count; k += L) store<double>(values + k, of(load<double>(values + k)));
    for (; k < count; ++k) values[k] = of(all<double>(values[k]))[0];
}
INLINE vec<double> logarithm(vec<double> v) { return log2<double>(v); }
INLINE vec<double> power(vec<double> v) { return exp2<double>(v); }

// Take from F what makes the largest exponent of each row 0, over columns that have a mass.
template <class T>
void peaks(const Transport& s, double (&F)[R], int64_t i, int64_t end, const Scale& z) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    const Rows<T> rows = rows_at<T>(s, F, i, end, z.grain);
    vec<T> peak[R];
    for (int r = 0; r < R; ++r) peak[r] = all<T>(-std::numeric_limits<T>::max());
    for (int64_t column = 0; column < s.stride; column += W) {
        vec<T> tile[R][NV];
        distances<T>(rows.points, (const T*)s.panels + column * s.d, s.d, tile);
        cost<T>(s.order, tile);
        for (int c = 0; c < NV; ++c) {
            const vec<T> w = load<T>((const T*)s.mass + column + c * L);
            for (int r = 0; r < R; ++r) {
                const vec<T> t = exponent<T>(s, rows, r, column + c * L, tile[r][c], T(z.scale));
                peak[r] = w > 0 && t > peak[r] ? t : peak[r];
            }
        }
    }
    for (int r = 0; r < R; ++r) {
        T highest = peak[r][0];
        for (int l = 1; l < L; ++l) highest = peak[r][l] > highest ? peak[r][l] : highest;
        F[r] -= highest;
    }
}

// f of own rows, exact given the masses of columns, and the sums of columns; returns the rows' share of the dual.
template <class T> double over_rows(Transport& s, int64_t worker, const Slice& own, bool make, const Scale& z) {
    constexpr int L = Vector<T>::L;
    T* const room = (T*)s.room + worker * s.each;
    T* const below = room + R * s.stride;
    double* const columns = s.columns + worker * s.stride;
    const T* const mass = (const T*)s.mass;
    for (int64_t j = 0; j < s.stride; ++j) below[j] = 0, columns[j] = 0;
    double share = 0;
    for (int64_t i = own.begin; i < own.end; i += R) {
        T* k[R];
        double F[R], u[R];
        for (int r = 0; r < R; ++r) {
            const int64_t row = i + r < own.end ? i + r : own.end - 1;
            k[r] = s.K && i + r < own.end ? (T*)s.K + row * s.stride : room + r * s.stride;
            u[r] = make ? 0 : s.u[row];
            F[r] = s.f[row] * z.scale - u[r];
        }
        double P[R];
        if (make)
            made_rows<T>(s, F, i, own.end, k, P, z);
        else
            kept_rows<T>(mass, s.stride, k, P);
        if (far(P)) {  // K has lost its digits: by another F its largest entry is 1
            peaks<T>(s, F, i, own.end, z);
            made_rows<T>(s, F, i, own.end, k, P, z);
        }
        for (int r = 0; r < R; ++r) P[r] = larger(P[r], Lane<T>::smallest);
        each(P, logarithm);
        double shares[R];
        for (int r = 0; r < R; ++r) {
            u[r] = z.damp * (F[r] - P[r]) - F[r];
            shares[r] = smaller(u[r], HIGHEST);
        }
        each(shares, power);
        T weights[R];
        for (int r = 0; r < R; ++r) {
            weights[r] = 0;
            if (i + r >= own.end) continue;
            s.u[i + r] = u[r];
            s.f[i + r] = (F[r] + u[r]) / z.scale;
            share += of_point(s.a[i + r], s.f[i + r], z, true);
            weights[r] = T(s.a[i + r] * shares[r]);
        }
        for (int64_t j = 0; j < s.stride; j += L) {
            vec<T> down = load<T>(below + j);
            for (int r = 0; r < R; ++r) down += load<T>(k[r] + j) * weights[r];
            store<T>(below + j, down);
        }
        if ((i + R - own.begin) % DOWN == 0 || i + R >= own.end)
            for (int64_t j = 0; j < s.stride; ++j) columns[j] += below[j], below[j] = 0;
    }
    return share;
}

// Masses b·2^v of own columns at the potentials that are tried; a v beyond FAR is found. With `make` K is to absorb them.
template <class T> double weighed(Transport& s, const Slice& own, bool make, const Scale& z) {
    double furthest = 0;
    for (int64_t j = own.begin; j < own.end; ++j) {
        const bool real = j < s.m;
        if (make && real) s.absorbed[j] = s.at[j];
        if (make) split<T>(real ? s.at[j] * z.scale : 0, z.grain, ((T*)s.high)[j], ((T*)s.low)[j]);
        const double v = real ? (s.at[j] - s.absorbed[j]) * z.scale : 0;
        furthest = larger(furthest, std::fabs(v));
        if (real) s.w[j] = smaller(v, FAR);
    }
    const int64_t end = own.end < s.m ? own.end : s.m;
    if (own.begin < end) each(s.w + own.begin, end - own.begin, power);
    for (int64_t j = own.begin; j < own.end; ++j) ((T*)s.mass)[j] = j < s.m ? T(s.b[j] * s.w[j]) : T(0);
    return furthest;
}

struct Evaluated {
    double value, error;  // of the dual, up to a constant; L1, of the columns
    bool whole;
};

// The dual at the potentials that are tried: f, the sums down, the slope and the exact g.
template <class T>
Evaluated evaluate(Transport& s, int64_t worker, const Slice& rows, const Slice& columns, bool make, Scale& z) {
    constexpr Evaluated gone = {0, 0, false};
    double* const own = s.found + FOUND * worker;
    if (!make) {
        own[0] = weighed<T>(s, columns, false, z);
        if (!together(s)) return gone;
        double furthest = 0;
        for (int32_t w = 0; w < s.workers; ++w) furthest = larger(furthest, s.found[FOUND * w]);
        make = furthest > FAR;
    }
    if (make) {
        z.grain = grain_of<T>(s, s.at, z.scale);
        if (!together(s)) return gone;  // all have read f
        weighed<T>(s, columns, true, z);
    }
    if (!together(s)) return gone;
    const double share = over_rows<T>(s, worker, rows, make || !s.K, z);
    if (!together(s)) return gone;
    own[1] = share, own[2] = own[3] = 0;
    for (int64_t j = columns.begin; j < columns.end && j < s.m; ++j) {
        double sum = 0;
        for (int64_t w = 0; w < s.workers; ++w) sum += s.columns[w * s.stride + j];
        const double h = s.at[j], ratio = s.w[j] * sum;
        s.down[j] = s.b[j] * ratio;
        s.slope[j] = (std::isinf(z.rho) ? s.b[j] : s.b[j] * std::exp(-h / z.rho)) - s.down[j];
        s.target[j] = larger(ratio, double(Lane<T>::smallest));
        own[2] += std::fabs(s.slope[j]);
        own[3] += of_point(s.b[j], h, z, false);
    }
    const int64_t end = columns.end < s.m ? columns.end : s.m;
    if (columns.begin < end) each(s.target + columns.begin, end - columns.begin, logarithm);
    for (int64_t j = columns.begin; j < end; ++j) s.target[j] = z.damp * (s.at[j] - s.target[j] / z.scale);
    if (!together(s)) return gone;
    Evaluated found = {0, 0, true};
    for (int32_t w = 0; w < s.workers; ++w) {
        found.value += s.found[FOUND * w + 1] + s.found[FOUND * w + 3];
        found.error += s.found[FOUND * w + 2];
    }
    return found;
}

double dot(const double* p, const double* q, int64_t m) {
    double sum = 0;
    for (int64_t j = 0; j < m; ++j) sum += p[j] * q[j];
    return sum;
}

// The direction of L-BFGS from the slope at g, with ε·damp/b, scaled to the last change, as the first guess of the
// inverse curvature; `next` is the number of pairs so far. Without pairs it is the plain sweep.
// References: Nocedal and Wright 2006, algorithm 7.4.
void direction(Transport& s, int64_t next, const Scale& z) {
    const int64_t m = s.m, pairs = next < MEMORY ? next : MEMORY;
    double* const q = s.step;
    for (int64_t j = 0; j < m; ++j) q[j] = pairs ? s.kept[j] : s.kept[m + j] - s.g[j];
    if (!pairs) return;
    double along[MEMORY], curvature[MEMORY], scaled = 0;
    const auto pair = [&](int64_t k) { return s.memory + ((next - 1 - k) % MEMORY) * m; };
    for (int64_t k = 0; k < pairs; ++k) {  // the last first
        const double *step = pair(k), *change = step + MEMORY * m;
        curvature[k] = dot(step, change, m);
        along[k] = dot(step, q, m) / curvature[k];
        for (int64_t j = 0; j < m; ++j) q[j] -= along[k] * change[j];
    }
    const double* const last = pair(0) + MEMORY * m;
    for (int64_t j = 0; j < m; ++j)
        if (s.b[j] > 0) scaled += last[j] * last[j] / s.b[j];
    const double unit = curvature[0] / scaled;
    for (int64_t j = 0; j < m; ++j) q[j] = s.b[j] > 0 ? q[j] * unit / s.b[j] : 0;
    for (int64_t k = pairs - 1; k >= 0; --k) {
        const double *step = pair(k), *change = step + MEMORY * m;
        const double rest = along[k] - dot(change, q, m) / curvature[k];
        for (int64_t j = 0; j < m; ++j) q[j] += rest * step[j];
    }
}

// Potentials at the last ε until the columns are right to the tolerance in L1, or `most` evaluations are done and those
// by which the last step is shortened. f is then exact for g, and `target` for f. Symmetric problems take averaged steps,
// g + (f − g)/2, which halve the error. A further call goes on where this one ended.
template <class T> void solve(Transport& s, int64_t worker) {
    const Slice rows = slice(s.n, worker, s.workers, R), columns = slice(s.stride, worker, s.workers, Vector<T>::W);
    const int64_t m = s.m;
    int32_t done = 0;
    const auto move = [&](const double* to, double share) {  // own part of what is tried next
        for (int64_t j = columns.begin; j < columns.end && j < m; ++j) s.at[j] = s.g[j] + share * (to[j] - s.g[j]);
    };
    move(s.g, 0);
    int32_t stage = s.stage;
    for (; stage + 1 < s.stages && done < s.most; ++stage, ++done) {
        Scale z(s.epsilons[stage], s.rho);
        if (!evaluate<T>(s, worker, rows, columns, true, z).whole) return;
        for (int64_t j = columns.begin; j < columns.end && j < m; ++j)
            s.at[j] = s.symmetric ? (s.at[j] + s.f[j]) / 2 : s.target[j];
        if (!together(s)) return;
    }
    for (int64_t j = columns.begin; j < columns.end && j < m; ++j) s.g[j] = s.at[j];
    if (done >= s.most) {
        if (!together(s)) return;  // all have read where this call began
        if (worker == 0) s.stage = stage, s.done = done, s.converged = 0;
        return;
    }
    Scale z(s.epsilons[s.stages - 1], s.rho);
    z.grain = s.grain;
    Evaluated best = {}, now = {s.value, s.error, true};
    if (!s.evaluated) now = evaluate<T>(s, worker, rows, columns, true, z), ++done;
    if (!now.whole) return;
    int64_t next = s.pairs;
    double length = 1;
    for (bool first = true, turn = true;; first = false) {
        const double noise = ROUNDING * std::ldexp(1.0, -Lane<T>::mantissa) * z.epsilon;
        const bool better = first || s.symmetric || now.value >= best.value - noise;
        if (better) {
            if (worker == 0) {
                double* const step = s.memory + (next % MEMORY) * m;
                double* const change = step + MEMORY * m;
                s.found[CURVED] = s.found[TOO_SHORT] = 0;
                if (!first && !s.symmetric) {
                    for (int64_t j = 0; j < m; ++j) step[j] = s.at[j] - s.g[j], change[j] = s.kept[j] - s.slope[j];
                    const double along = dot(step, change, m);
                    s.found[CURVED] = along > 1e-8 * std::sqrt(dot(step, step, m) * dot(change, change, m));
                    s.found[TOO_SHORT] = dot(step, s.slope, m) > STEEP * dot(step, s.kept, m);
                }
                for (int64_t j = 0; j < m; ++j) s.g[j] = s.at[j], s.kept[j] = s.slope[j], s.kept[m + j] = s.target[j];
            }
            best = now;
        }
        if (!together(s)) return;
        if (better) {
            if (!first) next = s.found[CURVED] > 0 ? next + 1 : 0;
            turn = !(s.found[TOO_SHORT] > 0);  // where the slope is nearly what it was: on, and further
            length = turn ? 1 : length * FURTHER;
        } else if ((length /= FURTHER) < SHORTEST) {
            next = 0, length = 1, turn = true;  // to the plain sweep, by which no value falls
        } else {
            turn = false;
        }
        const bool over = done >= s.most + (better ? 0 : SHORTENED);
        if (better && (over || best.error <= s.tolerance)) break;
        if (over) {  // back to g
            move(s.g, 0);
        } else if (s.symmetric) {
            move(s.f, 0.5);
        } else {
            if (worker == 0 && turn) direction(s, next, z);
            if (!together(s)) return;
            for (int64_t j = columns.begin; j < columns.end && j < m; ++j) s.at[j] = s.g[j] + length * s.step[j];
        }
        if (!together(s)) return;
        now = evaluate<T>(s, worker, rows, columns, false, z), ++done;
        if (!now.whole) return;
        if (over) now.value = best.value;
    }
    if (worker == 0) {
        s.error = best.error, s.value = best.value, s.grain = z.grain, s.evaluated = 1;
        s.stage = stage, s.done = done, s.converged = best.error <= s.tolerance;
        s.pairs = next < MEMORY ? next : MEMORY + next % MEMORY;
    }
}

// What of own columns the functions below read.
template <class T> void prepare(Transport& s, int64_t worker) {
    Scale z(s.epsilons[s.stages - 1], s.rho);
    z.grain = grain_of<T>(s, s.g, z.scale);
    const Slice own = slice(s.stride, worker, s.workers, Vector<T>::W);
    for (int64_t j = own.begin; j < own.end; ++j)
        split<T>(j < s.m ? s.g[j] * z.scale : 0, z.grain, ((T*)s.high)[j], ((T*)s.low)[j]);
}

// Rows of the plan at (f, g) with masses w: `entry(rows, column, tile)` fills tiles, whose sums weighed by w go to `out`.
template <class T, class Entry> void summed(Transport& s, int64_t worker, double* out, const Entry& entry) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    Scale z(s.epsilons[s.stages - 1], s.rho);
    z.grain = grain_of<T>(s, s.g, z.scale);
    const Slice own = slice(s.n, worker, s.workers, R);
    for (int64_t i = own.begin; i < own.end; i += R) {
        double F[R];
        for (int r = 0; r < R; ++r) F[r] = s.f[i + r < own.end ? i + r : own.end - 1] * z.scale;
        const Rows<T> rows = rows_at<T>(s, F, i, own.end, z.grain);
        vec<T> sum[R] = {};
        for (int64_t column = 0; column < s.stride; column += W) {
            vec<T> tile[R][NV];
            entry(rows, column, T(z.scale), tile);
            for (int c = 0; c < NV; ++c)
                for (int r = 0; r < R; ++r) sum[r] += tile[r][c] * load<T>((const T*)s.mass + column + c * L);
        }
        for (int r = 0; r < R && i + r < own.end; ++r) out[i + r] = total<T>(sum[r]);
    }
}

// Σ_j w_j exp((f_i + g_j − c_ij)/ε), and Σ_j w_j c_ij.
template <class T> void row_sums(Transport& s, int64_t worker, double* out) {
    summed<T>(s, worker, out, [&](const Rows<T>& rows, int64_t column, T scale, vec<T>(&tile)[R][NV]) ALWAYS {
        entries<T>(s, rows, column, scale, tile);
    });
}
template <class T> void row_costs(Transport& s, int64_t worker, double* out) {
    summed<T>(s, worker, out, [&](const Rows<T>& rows, int64_t column, T, vec<T>(&tile)[R][NV]) ALWAYS {
        distances<T>(rows.points, (const T*)s.panels + column * s.d, s.d, tile);
        cost<T>(s.order, tile);
    });
}

// min_j c_ij − w_j of own rows: the c-transform of potentials in `mass`.
template <class T> void row_lowest(Transport& s, int64_t worker, double* out) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    const Slice own = slice(s.n, worker, s.workers, R);
    for (int64_t i = own.begin; i < own.end; i += R) {
        const Rows<T> rows = rows_at<T>(s, {}, i, own.end, 1);
        vec<T> lowest[R];
        for (int r = 0; r < R; ++r) lowest[r] = all<T>(std::numeric_limits<T>::max());
        for (int64_t column = 0; column < s.stride; column += W) {
            vec<T> tile[R][NV];
            distances<T>(rows.points, (const T*)s.panels + column * s.d, s.d, tile);
            cost<T>(s.order, tile);
            for (int c = 0; c < NV; ++c) {
                const vec<T> w = load<T>((const T*)s.mass + column + c * L);
                for (int r = 0; r < R; ++r) {
                    const vec<T> reduced = tile[r][c] - w;
                    lowest[r] = reduced < lowest[r] ? reduced : lowest[r];
                }
            }
        }
        for (int r = 0; r < R && i + r < own.end; ++r) {
            T found = lowest[r][0];
            for (int l = 1; l < L; ++l) found = lowest[r][l] < found ? lowest[r][l] : found;
            out[i + r] = found;
        }
    }
}

// The pairs of own rows with c_ij − f_i − w_j < limit, as i·m + j, w being in `mass`; how many there are, of which `room`
// at the most are written.
template <class T>
int64_t arcs_below(const Transport& s, int64_t worker, double limit, int64_t* out, int64_t room) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    const Slice own = slice(s.n, worker, s.workers, R);
    int64_t found = 0;
    for (int64_t i = own.begin; i < own.end; i += R) {
        const Rows<T> rows = rows_at<T>(s, {}, i, own.end, 1);
        for (int64_t column = 0; column < s.stride; column += W) {
            vec<T> tile[R][NV];
            distances<T>(rows.points, (const T*)s.panels + column * s.d, s.d, tile);
            cost<T>(s.order, tile);
            for (int r = 0; r < R && i + r < own.end; ++r) {
                const T level = T(limit + s.f[i + r]);
                for (int c = 0; c < NV; ++c) {
                    const ivec<T> below = tile[r][c] - load<T>((const T*)s.mass + column + c * L) < level;
                    typename Lane<T>::I some = 0;
                    for (int l = 0; l < L; ++l) some |= below[l];
                    for (int l = 0; some && l < L; ++l)
                        if (below[l] && column + c * L + l < s.m) {
                            if (found < room) out[found] = (i + r) * s.m + column + c * L + l;
                            ++found;
                        }
                }
            }
        }
    }
    return found;
}

// Σ_j w_j exp((f_i + g_j − c_ij)/ε) ∂c_ij/∂x_i, each a vector of d, added to `out`.
template <class T> void row_slopes(Transport& s, int64_t worker, double* out) {
    constexpr int L = Vector<T>::L;
    Scale z(s.epsilons[s.stages - 1], s.rho);
    z.grain = grain_of<T>(s, s.g, z.scale);
    const Slice own = slice(s.n, worker, s.workers, R);
    const auto weights = [&](const T* const(&)[R], int64_t i, int64_t column, vec<T>(&tile)[R][NV]) ALWAYS {
        double F[R];
        for (int r = 0; r < R; ++r) F[r] = s.f[i + r < own.end ? i + r : own.end - 1] * z.scale;
        const Rows<T> rows = rows_at<T>(s, F, i, own.end, z.grain);
        distances<T>(rows.points, (const T*)s.panels + column * s.d, s.d, tile);
        vec<T> slope[R][NV];
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < NV; ++c) slope[r][c] = tile[r][c];
        cost<T>(s.order, tile);
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < NV; ++c) {  // ∂d^p/∂x = p d^(p − 2) (x − y)
                const vec<T> d2 = slope[r][c];
                slope[r][c] = s.order == 2 ? all<T>(2) : d2 > 0 ? tile[r][c] * T(s.order) / d2 : all<T>(0);
            }
        exponentials<T>(s, rows, column, T(z.scale), tile);
        for (int c = 0; c < NV; ++c) {
            const vec<T> w = load<T>((const T*)s.mass + column + c * L);
            for (int r = 0; r < R; ++r) tile[r][c] *= slope[r][c] * w;
        }
    };
    T* const room = (T*)s.room + worker * s.each;
    differences<T>((const T*)s.x, (const T*)s.panels, s.stride / Vector<T>::W, s.d, own.begin, own.end, out, room, weights);
}

}  // namespace

extern "C" {

#define EXPORT(T, suffix)                                                                                     \
    void transport_solve_##suffix(Transport* s, int64_t worker) {                                             \
        const Flushed flushed;                                                                                \
        solve<T>(*s, worker);                                                                                 \
    }                                                                                                         \
    void transport_prepare_##suffix(Transport* s, int64_t worker) { prepare<T>(*s, worker); }                 \
    void transport_sums_##suffix(Transport* s, int64_t worker, double* out) {                                 \
        const Flushed flushed;                                                                                \
        row_sums<T>(*s, worker, out);                                                                         \
    }                                                                                                         \
    void transport_costs_##suffix(Transport* s, int64_t worker, double* out) {                                \
        const Flushed flushed;                                                                                \
        row_costs<T>(*s, worker, out);                                                                        \
    }                                                                                                         \
    void transport_slopes_##suffix(Transport* s, int64_t worker, double* out) {                               \
        const Flushed flushed;                                                                                \
        row_slopes<T>(*s, worker, out);                                                                       \
    }                                                                                                         \
    void transport_lowest_##suffix(Transport* s, int64_t worker, double* out) { row_lowest<T>(*s, worker, out); } \
    void transport_arcs_##suffix(Transport* s, int64_t worker, double limit, int64_t* out, int64_t room,      \
                                 int64_t* found) {                                                            \
        found[worker] = arcs_below<T>(*s, worker, limit, out + worker * room, room);                          \
    }
EXPORT(float, f32)
EXPORT(double, f64)
}
