/* PNG filters over rows of samples, as in filters.py, but in one call and without the GIL.
 * PNG specification (third edition), section 9.
 *
 * Plain loops over bytes, with arithmetic that fits into bytes, so that compilers vectorise them. There is one variant
 * per kind of processor; the dynamic linker chooses the best.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

enum { NONE, SUB, UP, AVERAGE, PAETH, FILTERS };

static inline uint8_t smaller(uint8_t a, uint8_t b) { return a < b ? a : b; }
static inline uint8_t larger(uint8_t a, uint8_t b) { return a > b ? a : b; }

static inline uint8_t average(uint8_t left, uint8_t up) { return (uint8_t)((left & up) + ((left ^ up) >> 1)); }

/* Paeth predictor: returns left, up or up_left, the nearest to left + up - up_left. That sum is as far from the larger
 * of left and up as up_left is from the smaller, on the same side. So the smaller is nearest if up_left is beyond the
 * larger, or between the two and at least twice as near to the larger; and vice versa. Otherwise up_left is nearest. */
static inline uint8_t paeth(uint8_t left, uint8_t up, uint8_t up_left) {
    uint8_t low = smaller(left, up), high = larger(left, up);
    uint8_t between = smaller(larger(up_left, low), high);
    uint8_t to_low = (uint8_t)(between - low), to_high = (uint8_t)(high - between);
    uint8_t nearest = to_high > to_low >> 1 ? between : low;
    return to_low <= to_high >> 1 ? high : nearest;
}

/* Predicts a row with a filter; `here` and `above` have zeros to their left. */
FOR_EVERY_PROCESSOR
static void predict(int filter, const uint8_t *here, const uint8_t *above, size_t bytes, size_t pixel,
                    uint8_t *restrict predicted) {
    const uint8_t *left = here - pixel, *up_left = above - pixel;
    switch (filter) {
    case NONE:
        memset(predicted, 0, bytes);
        break;
    case SUB:
        memcpy(predicted, left, bytes);
        break;
    case UP:
        memcpy(predicted, above, bytes);
        break;
    case AVERAGE:
        for (size_t i = 0; i < bytes; i++) predicted[i] = average(left[i], above[i]);
        break;
    case PAETH:
        for (size_t i = 0; i < bytes; i++) predicted[i] = paeth(left[i], above[i], up_left[i]);
        break;
    }
}

/* Returns the sum of absolute differences of the bytes of two rows. */
FOR_EVERY_PROCESSOR
static uint64_t distance(const uint8_t *one, const uint8_t *other, size_t bytes) {
    uint64_t sum = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t part = 0; /* 32 bits, for the SIMD instruction that sums differences */
        size_t end = bytes - at < 65536 ? bytes : at + 65536;
        for (; at < end; at++) part += (uint32_t)abs(one[at] - other[at]);
        sum += part;
    }
    return sum;
}

FOR_EVERY_PROCESSOR
static void subtract(const uint8_t *here, const uint8_t *predicted, size_t bytes, uint8_t *restrict residual) {
    for (size_t i = 0; i < bytes; i++) residual[i] = (uint8_t)(here[i] - predicted[i]);
}

/* Writes samples in the byte order of the file, big-endian. */
FOR_EVERY_PROCESSOR
static void in_file_order(const void *samples, size_t bytes, int sample_bytes, uint8_t *restrict row) {
    const uint16_t *words = samples;
    if (sample_bytes == 1) {
        memcpy(row, samples, bytes);
        return;
    }
    for (size_t i = 0; i < bytes / 2; i++) {
        row[2 * i] = (uint8_t)(words[i] >> 8);
        row[2 * i + 1] = (uint8_t)words[i];
    }
}

/* Filters each row with the filter that gives the smallest sum of absolute differences.
 *
 * samples: `height` rows of `bytes` bytes, `stride` bytes apart, with `sample_bytes` per sample (1, or 2 in this machine's
 *     byte order) and `pixel` bytes per pixel.
 * above: the row before the first one, or NULL at the top of the picture.
 * filtered: `height` rows of 1 + `bytes` bytes, the number of the filter first.
 * Returns 0, or -1 if memory for four rows cannot be allocated.
 */
int filter_rows(const uint8_t *samples, ptrdiff_t stride, const uint8_t *above, size_t height, size_t bytes,
                size_t pixel, int sample_bytes, uint8_t *filtered) {
    size_t padded = pixel + bytes;
    uint8_t *rows = calloc(4, padded);
    if (rows == NULL) return -1;
    uint8_t *here = rows + pixel, *before = here + padded, *best = before + padded, *tried = best + padded;
    if (above != NULL) in_file_order(above, bytes, sample_bytes, before);
    for (size_t y = 0; y < height; y++) {
        in_file_order(samples + (ptrdiff_t)y * stride, bytes, sample_bytes, here);
        uint64_t least = UINT64_MAX;
        for (int filter = NONE; filter < FILTERS; filter++) {
            predict(filter, here, before, bytes, pixel, tried);
            uint64_t error = distance(here, tried, bytes);
            if (error >= least) continue;
            least = error, *filtered = (uint8_t)filter;
            uint8_t *swapped = best;
            best = tried, tried = swapped;
        }
        subtract(here, best, bytes, filtered + 1);
        filtered += 1 + bytes;
        uint8_t *swapped = before;
        before = here, here = swapped;
    }
    free(rows);
    return 0;
}
