// Quadratic forms of labels: Σ_{i<j} K_ij v_i v_j, v = ±1, of a symmetric matrix in whole steps of 16 bits, exactly.
//
// Two rows by a column are multiplied and added to 32 bits by one instruction, so that a sum of a chunk cannot overflow.
// Columns lie in panels of QW, each with the rows i <= j alone: (rows/2, QW, 2), zeros on and below the diagonal.

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "vectors.h"

namespace {

typedef int16_t shorts __attribute__((vector_size(BYTES)));
typedef int32_t ints __attribute__((vector_size(BYTES)));
constexpr int QL = BYTES / 4, QV = BYTES == 64 ? 4 : 2, QW = QV * QL;
constexpr int QR = 5;             // labellings of a tile: with QR·QV sums they fit into the registers
constexpr int64_t CHUNK = 256;    // rows of a panel at once, which stay in the first cache: 2^15·CHUNK·QV < 2^31

template <class V> INLINE V loaded(const void* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

// a_{2l} b_{2l} + a_{2l+1} b_{2l+1}
INLINE ints products(shorts a, shorts b) {
#if BYTES == 64 && defined(__AVX512BW__)
    return (ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif BYTES == 32 && defined(__AVX2__)
    return (ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif BYTES == 16 && defined(__SSE2__)
    return (ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    const ints first = (ints)a, second = (ints)b;
    return ((first << 16) >> 16) * ((second << 16) >> 16) + (first >> 16) * (second >> 16);
#endif
}

INLINE int64_t before(int64_t panel) { return int64_t(QW) * QW * (panel * (panel + 1) / 2); }

// The panels [first, last) of (K + Kᵀ)/2 − shift in units of a step, and what rounding left of them: Σ_{i<j} e_ij² is
// returned, Σ_j e_ij over j != i is added to `errors` (n,), and the same sums before rounding to `rows` (n,).
template <class T>
double quantise(const T* K, int64_t n, int64_t stride, double step, double shift, int64_t first, int64_t last,
                int16_t* panels, double* errors, double* rows) {
    const T half = T(0.5 / step), twice = T(2 * shift), magic = Lane<T>::magic;
    double squares = 0;
    for (int64_t panel = first; panel < last; ++panel) {
        const int64_t J = panel * QW, columns = J + QW < n ? QW : n - J;
        for (int64_t I = 0; I <= J; I += QW) {
            const int64_t height = I + QW < n ? QW : n - I;
            T below[QW][QW];  // K_ji, turned
            for (int64_t c = 0; c < columns; ++c)
                for (int64_t r = 0; r < height; ++r) below[r][c] = K[(J + c) * stride + I + r];
            T down[QW] = {}, down_e[QW] = {};
            for (int64_t r = 0; r < QW; ++r) {
                const int64_t from = r >= height ? columns : I < J ? 0 : r + 1;  // the first column that counts
                int16_t* into = panels + before(panel) + (I + r) / 2 * (2 * QW) + r % 2;
                for (int64_t c = 0; c < (from < columns ? from : QW); ++c) into[2 * c] = 0;
                for (int64_t c = columns; c < QW; ++c) into[2 * c] = 0;
                if (from >= columns) continue;
                T value[QW], e[QW], square = 0, across = 0, across_e = 0;
                for (int64_t c = from; c < columns; ++c) {
                    value[c] = (K[(I + r) * stride + J + c] + below[r][c] - twice) * half;
                    const T whole = (value[c] + magic) - magic;
                    e[c] = value[c] - whole;
                    into[2 * c] = int16_t(whole);
                }
                for (int64_t c = from; c < columns; ++c) {
                    square += e[c] * e[c];
                    across += value[c];
                    across_e += e[c];
                    down[c] += value[c];
                    down_e[c] += e[c];
                }
                squares += square;
                rows[I + r] += across;
                errors[I + r] += across_e;
            }
            for (int64_t c = 0; c < columns; ++c) {
                rows[J + c] += down[c];
                errors[J + c] += down_e[c];
            }
        }
    }
    return squares;
}

// Rows of booleans as ±1, padded by zeros to a multiple of QW.
void signs(const uint8_t* labels, int64_t n, int64_t begin, int64_t end, int16_t* v) {
    const int64_t width = (n + QW - 1) / QW * QW;
    for (int64_t l = begin; l < end; ++l) {
        for (int64_t i = 0; i < n; ++i) v[l * width + i] = int16_t(2 * labels[l * n + i] - 1);
        for (int64_t i = n; i < width; ++i) v[l * width + i] = 0;
    }
}

// For the labellings [begin, end).
void quadratic(const int16_t* panels, int64_t n, const int16_t* v, int64_t begin, int64_t end, int64_t* out) {
    const int64_t count = (n + QW - 1) / QW, width = count * QW;
    for (int64_t panel = 0; panel < count; ++panel) {
        const int64_t height = (panel + 1) * QW;
        for (int64_t start = 0; start < height; start += CHUNK) {
            const int64_t stop = start + CHUNK < height ? start + CHUNK : height;
            for (int64_t l = begin; l < end; l += QR) {
                const int16_t* labels[QR];  // past the end the last one again, whose sums nobody takes
                for (int r = 0; r < QR; ++r) labels[r] = v + (l + r < end ? l + r : end - 1) * width;
                const int16_t* from = panels + before(panel) + start * QW;
                ints sum[QR][QV] = {};
                for (int64_t i = start; i < stop; i += 2, from += 2 * QW) {
                    shorts k[QV];
                    for (int c = 0; c < QV; ++c) k[c] = loaded<shorts>(from + 2 * QL * c);
                    for (int r = 0; r < QR; ++r) {
                        const shorts two = (shorts)(ints{} + loaded<int32_t>(labels[r] + i));
                        for (int c = 0; c < QV; ++c) sum[r][c] += products(k[c], two);
                    }
                }
                for (int r = 0; r < QR && l + r < end; ++r) {
                    ints all{};
                    for (int c = 0; c < QV; ++c) {
                        typedef int16_t half __attribute__((vector_size(BYTES / 2)));
                        const half own = loaded<half>(labels[r] + panel * QW + c * QL);
                        all += sum[r][c] * __builtin_convertvector(own, ints);
                    }
                    int64_t total = 0;
                    for (int c = 0; c < QL; ++c) total += all[c];
                    out[l + r] += total;
                }
            }
        }
    }
}

}  // namespace

extern "C" {

int64_t label_width() { return QW; }
double quantise_f32(const float* K, int64_t n, int64_t stride, double step, double shift, int64_t first, int64_t last,
                    int16_t* panels, double* errors, double* rows) {
    return quantise<float>(K, n, stride, step, shift, first, last, panels, errors, rows);
}
double quantise_f64(const double* K, int64_t n, int64_t stride, double step, double shift, int64_t first, int64_t last,
                    int16_t* panels, double* errors, double* rows) {
    return quantise<double>(K, n, stride, step, shift, first, last, panels, errors, rows);
}
void label_signs(const uint8_t* labels, int64_t n, int64_t begin, int64_t end, int16_t* v) {
    signs(labels, n, begin, end, v);
}
void label_forms(const int16_t* panels, int64_t n, const int16_t* v, int64_t begin, int64_t end, int64_t* out) {
    quadratic(panels, n, v, begin, end, out);
}
}
