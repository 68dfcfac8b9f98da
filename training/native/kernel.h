/* Products of tiles, in plain C and on AMX: sums over the taps and channels of a convolution, and over the pixels for the gradients of weights. */

/* 16 * M pixels x 16 * N channels of a convolution: for each tap, the pixels at its offset times its weights. Tiles of
 * weights are in the order taps, chunks of 32 input channels, N. */
#define SUM(M, N) \
    static void NAME(sum_##M##N)(const half *pixels, ptrdiff_t pixel, const ptrdiff_t *taps, int number, int chunks, \
                                 const half *weights, float *sums, ptrdiff_t stride) { \
        TILES; \
        CLEAR(0); \
        if (M * N > 1) CLEAR(1); \
        if (M * N > 2) CLEAR(2); \
        if (M * N > 2) CLEAR(3); \
        for (int tap = 0; tap < number; tap++) \
            for (int chunk = 0; chunk < chunks; chunk++) { \
                const half *from = pixels + taps[tap] * pixel + 32 * chunk; \
                LOAD(4, from, 2 * pixel); \
                LOAD(6, weights, 64); \
                MULTIPLY(0, 4, 6); \
                if (N == 2) { \
                    LOAD(7, weights + PACKED, 64); \
                    MULTIPLY(1, 4, 7); \
                    if (M == 2) { \
                        LOAD(5, from + 16 * pixel, 2 * pixel); \
                        MULTIPLY(2, 5, 6); \
                        MULTIPLY(3, 5, 7); \
                    } \
                } else { \
                    if (M > 1) { \
                        LOAD(5, from + 16 * pixel, 2 * pixel); \
                        MULTIPLY(1, 5, 6); \
                    } \
                    if (M > 2) { \
                        LOAD(7, from + 32 * pixel, 2 * pixel); \
                        MULTIPLY(2, 7, 6); \
                    } \
                    if (M > 3) { \
                        LOAD(4, from + 48 * pixel, 2 * pixel); \
                        MULTIPLY(3, 4, 6); \
                    } \
                } \
                weights += N * PACKED; \
            } \
        STORE(0, sums, 4 * stride); \
        if (N == 2) { \
            STORE(1, sums + 16, 4 * stride); \
            if (M == 2) { \
                STORE(2, sums + 16 * stride, 4 * stride); \
                STORE(3, sums + 16 * stride + 16, 4 * stride); \
            } \
        } else { \
            if (M > 1) STORE(1, sums + 16 * stride, 4 * stride); \
            if (M > 2) STORE(2, sums + 32 * stride, 4 * stride); \
            if (M > 3) STORE(3, sums + 48 * stride, 4 * stride); \
        } \
    }

SUM(4, 1)
SUM(3, 1)
SUM(2, 1)
SUM(1, 1)
SUM(2, 2)
SUM(1, 2)
#undef SUM

/* Sums of up to 64 x 16 or 32 x 32 results; `tiles_m` tiles of pixels. */
static inline void NAME(sum_block)(int tiles_m, int tiles_n, const half *pixels, ptrdiff_t pixel, const ptrdiff_t *taps,
                                   int number, int in, const half *weights, float *sums, ptrdiff_t stride) {
    int chunks = (in + 31) / 32;
    if (tiles_n == 2)
        (tiles_m == 2 ? NAME(sum_22) : NAME(sum_12))(pixels, pixel, taps, number, chunks, weights, sums, stride);
    else
        (tiles_m == 4   ? NAME(sum_41)
         : tiles_m == 3 ? NAME(sum_31)
         : tiles_m == 2 ? NAME(sum_21)
                        : NAME(sum_11))(pixels, pixel, taps, number, chunks, weights, sums, stride);
}

/* Gradients of the weights of three taps in a row, between one or two tiles of output channels and one of input
 * channels: planes of the output's gradient times pairs of pixels. Accumulates; taps are `tap` floats apart. */
#define CORRELATE(M) \
    static void NAME(correlate_##M)(const half *const *planes, ptrdiff_t plane, const half *const *pairs, \
                                    ptrdiff_t steps, float *const *sums, const ptrdiff_t *stride, const ptrdiff_t *tap) { \
        TILES; \
        LOAD_SUMS(0, sums[0], 4 * stride[0]); \
        LOAD_SUMS(1, sums[0] + tap[0], 4 * stride[0]); \
        LOAD_SUMS(2, sums[0] + 2 * tap[0], 4 * stride[0]); \
        if (M == 2) { \
            LOAD_SUMS(3, sums[1], 4 * stride[1]); \
            LOAD_SUMS(4, sums[1] + tap[1], 4 * stride[1]); \
            LOAD_SUMS(5, sums[1] + 2 * tap[1], 4 * stride[1]); \
        } \
        const half *left = planes[0], *right = planes[M - 1], *a = pairs[0], *b = pairs[1], *c = pairs[2]; \
        for (ptrdiff_t step = 0; step < steps; step++) { \
            LOAD(7, a + step * PACKED, 64); \
            LOAD(6, left + 32 * step, 2 * plane); \
            MULTIPLY(0, 6, 7); \
            if (M == 2) { \
                LOAD(6, right + 32 * step, 2 * plane); \
                MULTIPLY(3, 6, 7); \
                LOAD(7, b + step * PACKED, 64); \
                MULTIPLY(4, 6, 7); \
                LOAD(6, left + 32 * step, 2 * plane); \
                MULTIPLY(1, 6, 7); \
                LOAD(7, c + step * PACKED, 64); \
                MULTIPLY(2, 6, 7); \
                LOAD(6, right + 32 * step, 2 * plane); \
                MULTIPLY(5, 6, 7); \
            } else { \
                LOAD(7, b + step * PACKED, 64); \
                MULTIPLY(1, 6, 7); \
                LOAD(7, c + step * PACKED, 64); \
                MULTIPLY(2, 6, 7); \
            } \
        } \
        STORE(0, sums[0], 4 * stride[0]); \
        STORE(1, sums[0] + tap[0], 4 * stride[0]); \
        STORE(2, sums[0] + 2 * tap[0], 4 * stride[0]); \
        if (M == 2) { \
            STORE(3, sums[1], 4 * stride[1]); \
            STORE(4, sums[1] + tap[1], 4 * stride[1]); \
            STORE(5, sums[1] + 2 * tap[1], 4 * stride[1]); \
        } \
    }

CORRELATE(2)
CORRELATE(1)
#undef CORRELATE
