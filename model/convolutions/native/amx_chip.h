/* The tiles of amx_kernel.h in registers of the matrix unit. */

/* Palette 1: eight tiles of up to 16 rows of up to 64 bytes. */
struct shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static inline void tiles_begin_chip(int pixels, int chunk) {
    struct shapes shapes = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        shapes.rows[tile] = (uint8_t)(tile < WEIGHTS_0 ? pixels : chunk / 2);
        shapes.row_bytes[tile] = (uint16_t)(tile == PIXELS ? 2 * chunk : 4 * LANES);
    }
    /* GCC 12 assumes that _tile_loadconfig reads only 8 bytes, and may drop stores to the other 56. */
    __asm__ volatile("ldtilecfg %0" ::"m"(shapes));
}

#define TILES_BEGIN(pixels, chunk) tiles_begin_chip(pixels, chunk)
#define TILES_END() _tile_release()
#define TILE_ZERO(tile) _tile_zero(tile)
#define TILE_LOAD(tile, from, bytes) _tile_loadd(tile, from, bytes)
#define WEIGHTS_LOAD(tile, from, stream) \
    do { if (stream) _tile_stream_loadd(tile, from, 4 * LANES); else _tile_loadd(tile, from, 4 * LANES); } while (0)
#define TILE_STORE(tile, to) _tile_stored(tile, to, 4 * LANES)
#define TILE_ADD(sums, pixels, weights) _tile_dpbf16ps(sums, pixels, weights)

INLINE void put_bfloat16_chip(uint16_t *to, const floats *values) {
    _mm256_storeu_si256((__m256i_u *)to, (__m256i)_mm512_cvtneps_pbh((__m512)*values));
}

INLINE void put_floats_chip(float *to, const floats *values, int lanes) {
    _mm512_mask_storeu_ps(to, (__mmask16)((1 << lanes) - 1), (__m512)*values);
}

INLINE void from_bfloat16_chip(const uint16_t *from, floats *values) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i_u *)from));
    *values = (floats)_mm512_slli_epi32(wide, 16);
}

INLINE void multiply_and_add_chip(float factor, floats *values, const floats *others) {
    *values = (floats)_mm512_fmadd_ps(_mm512_set1_ps(factor), (__m512)*values, (__m512)*others);
}

/* Replace values that are not above zero by others: the values times 0 to 1. */
INLINE void choose_positive_chip(floats *values, const floats *others) {
    *values = (floats)_mm512_max_ps((__m512)*values, (__m512)*others);
}
