// Projections of packed points on directions.

#include "vectors.h"

namespace {

// Σ_k θ_lk y_jk for all j and R directions at once, from panels; `out` is (R, whole panels).
template <class T> void project(const T* panels, int64_t count, int64_t d, const T* theta, T* out) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    for (int64_t panel = 0; panel < count; ++panel) {
        vec<T> sum[R][NV] = {};
        for (int64_t k = 0; k < d; ++k) {
            vec<T> y[NV];
            for (int c = 0; c < NV; ++c) y[c] = load<T>(panels + (panel * d + k) * W + c * L);
            for (int r = 0; r < R; ++r)
                for (int c = 0; c < NV; ++c) sum[r][c] += y[c] * theta[r * d + k];
        }
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < NV; ++c) store<T>(out + (r * count + panel) * W + c * L, sum[r][c]);
    }
}

}  // namespace

extern "C" {

#define EXPORT(T, suffix)                                                                                \
    void project_##suffix(const T* panels, int64_t count, int64_t d, const T* theta, T* out) {           \
        project<T>(panels, count, d, theta, out);                                                        \
    }
EXPORT(float, f32)
EXPORT(double, f64)
}
