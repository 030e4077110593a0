// Projections of packed points on directions.

#include "vectors.h"

namespace {

// Σ_k θ_k y_jk for all j, from panels; `out` has room for whole panels.
template <class T> void project(const T* panels, int64_t count, int64_t d, const T* theta, T* out) {
    constexpr int L = Vector<T>::L, W = Vector<T>::W;
    for (int64_t panel = 0; panel < count; ++panel) {
        vec<T> sum[NV] = {};
        for (int64_t k = 0; k < d; ++k)
            for (int c = 0; c < NV; ++c) sum[c] += load<T>(panels + (panel * d + k) * W + c * L) * theta[k];
        for (int c = 0; c < NV; ++c) store<T>(out + panel * W + c * L, sum[c]);
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
