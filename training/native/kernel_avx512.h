/* The sums of kernel.h in the registers of AVX512-BF16: 16 or 24 at a time, each of 16 channels. */

static inline __m512bh NAME(twice)(const void *pair) {
    int bits;
    memcpy(&bits, pair, sizeof bits);
    return (__m512bh)_mm512_set1_epi32(bits);
}

/* 16 / N pixels x 16 * N channels of a convolution. */
static inline __attribute__((always_inline)) void NAME(sum_pixels)(const int N, const half *pixels, ptrdiff_t pixel,
                                                                   const ptrdiff_t *taps, int number, int in,
                                                                   const half *weights, float *to, ptrdiff_t stride) {
    __m512 sums[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) sums[i] = _mm512_setzero_ps();
    for (int tap = 0; tap < number; tap++)
        for (int first = 0; first < in; first += 32, weights += N * PACKED) {
            const half *quarters[4], *from = pixels + taps[tap] * pixel + first;
            for (int i = 0; i < 4; i++) quarters[i] = from + 4 * i * pixel;
            for (int k = 0; k < 32 && first + k < in; k += 2) {
                __m512bh left = (__m512bh)_mm512_loadu_si512(weights + 16 * k);
                __m512bh right = (__m512bh)_mm512_loadu_si512(weights + 16 * k + (N - 1) * PACKED);
#pragma GCC unroll 16
                for (int i = 0; i < 16; i += N) {
                    __m512bh pair = NAME(twice)(quarters[i / N / 4] + i / N % 4 * pixel + k);
                    sums[i] = _mm512_dpbf16_ps(sums[i], pair, left);
                    if (N == 2) sums[i + 1] = _mm512_dpbf16_ps(sums[i + 1], pair, right);
                }
            }
        }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) _mm512_storeu_ps(to + i / N * stride + i % N * 16, sums[i]);
}

static __attribute__((noinline)) void NAME(sum_1)(const half *pixels, ptrdiff_t pixel, const ptrdiff_t *taps, int number,
                                                  int in, const half *weights, float *sums, ptrdiff_t stride) {
    NAME(sum_pixels)(1, pixels, pixel, taps, number, in, weights, sums, stride);
}

static __attribute__((noinline)) void NAME(sum_2)(const half *pixels, ptrdiff_t pixel, const ptrdiff_t *taps, int number,
                                                  int in, const half *weights, float *sums, ptrdiff_t stride) {
    NAME(sum_pixels)(2, pixels, pixel, taps, number, in, weights, sums, stride);
}

static inline void NAME(sum_block)(int tiles_m, int tiles_n, const half *pixels, ptrdiff_t pixel, const ptrdiff_t *taps,
                                   int number, int in, const half *weights, float *sums, ptrdiff_t stride) {
    int most = 16 / tiles_n;
    for (int p = 0; p < 16 * tiles_m; p += most)
        (tiles_n == 2 ? NAME(sum_2) : NAME(sum_1))(pixels + p * pixel, pixel, taps, number, in, weights,
                                                   sums + p * stride, stride);
}

/* Gradients of weights for three taps: 8 output channels, of `planes`, and 16 input channels. */
static __attribute__((noinline)) void NAME(correlate)(const half *planes, ptrdiff_t plane, const half *const *pairs,
                                                      ptrdiff_t steps, float *to, ptrdiff_t stride, ptrdiff_t tap) {
    __m512 sums[24];
    const half *halves[2] = {planes, planes + 4 * plane};
#pragma GCC unroll 24
    for (int i = 0; i < 24; i++) sums[i] = _mm512_loadu_ps(to + i / 3 * stride + i % 3 * tap);
    for (ptrdiff_t k = 0; k < 16 * steps; k++) {
        __m512bh of[3];
        for (int i = 0; i < 3; i++) of[i] = (__m512bh)_mm512_loadu_si512(pairs[i] + 32 * k);
#pragma GCC unroll 24
        for (int i = 0; i < 24; i++)
            sums[i] = _mm512_dpbf16_ps(sums[i], NAME(twice)(halves[i / 12] + i / 3 % 4 * plane + 2 * k), of[i % 3]);
    }
#pragma GCC unroll 24
    for (int i = 0; i < 24; i++) _mm512_storeu_ps(to + i / 3 * stride + i % 3 * tap, sums[i]);
}

static void NAME(correlate_1)(const half *const *planes, ptrdiff_t plane, const half *const *pairs, ptrdiff_t steps,
                              float *const *sums, const ptrdiff_t *stride, const ptrdiff_t *tap) {
    for (int o = 0; o < 16; o += 8)
        NAME(correlate)(planes[0] + o * plane, plane, pairs, steps, sums[0] + o * stride[0], stride[0], tap[0]);
}

static void NAME(correlate_2)(const half *const *planes, ptrdiff_t plane, const half *const *pairs, ptrdiff_t steps,
                              float *const *sums, const ptrdiff_t *stride, const ptrdiff_t *tap) {
    NAME(correlate_1)(planes, plane, pairs, steps, sums, stride, tap);
    NAME(correlate_1)(planes + 1, plane, pairs, steps, sums + 1, stride + 1, tap + 1);
}
