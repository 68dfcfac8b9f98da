/* The tiles of amx_kernel.h in memory, with its instructions in plain C; bit-identical to the matrix unit.
 *
 * Intel's manual (TDPBF16PS): the products of even and of odd elements are summed separately by fused multiply-adds that
 * start at zero; then both sums are added, and the result is added to the tile. Every step rounds to nearest even, and
 * treats inputs and results below 2^-126 as zero.
 */

#define MIN_NORMAL 0x1p-126f

struct tile {
    int rows, row_bytes;
    union {
        float sums[16][16];
        uint16_t halves[16][32];
        unsigned char bytes[16][64];
    };
};

static _Thread_local struct tile tiles[8];

/* Flush subnormal numbers to zero. */
static float flushed(float value) { return fabsf(value) < MIN_NORMAL ? copysignf(0, value) : value; }

static float multiply_add(float one, float other, float sum) {
    one = flushed(one), other = flushed(other), sum = flushed(sum);
    float result = fmaf(one, other, sum);
    if (result == 0 || !(fabsf(result) <= MIN_NORMAL)) return result;
    /* The unit compares before it rounds to subnormal precision: scaled by 2^64, the result is normal. */
    return fabsf(fmaf(one * 0x1p64f, other, sum * 0x1p64f)) < MIN_NORMAL * 0x1p64f ? copysignf(0, result) : result;
}

static void tiles_begin_plain(int pixels, int chunk) {
    for (int tile = 0; tile < 8; tile++) {
        tiles[tile].rows = tile < WEIGHTS_0 ? pixels : chunk / 2;
        tiles[tile].row_bytes = tile == PIXELS ? 2 * chunk : 4 * LANES;
    }
}

static void tile_load(struct tile *tile, const void *from, ptrdiff_t bytes) {
    for (int row = 0; row < tile->rows; row++)
        memcpy(tile->bytes[row], (const char *)from + row * bytes, (size_t)tile->row_bytes);
}

static void tile_store(const struct tile *tile, float *to) {
    for (int row = 0; row < tile->rows; row++) memcpy(to + row * LANES, tile->bytes[row], (size_t)tile->row_bytes);
}

static void tile_add(struct tile *to, const struct tile *pixels, const struct tile *weights) {
    for (int row = 0; row < to->rows; row++)
        for (int lane = 0; lane < LANES; lane++) {
            float even = 0, odd = 0;
            for (int pair = 0; pair < weights->rows; pair++) {
                const uint16_t *one = pixels->halves[row] + 2 * pair, *other = weights->halves[pair] + 2 * lane;
                even = multiply_add(float_of(one[0]), float_of(other[0]), even);
                odd = multiply_add(float_of(one[1]), float_of(other[1]), odd);
            }
            to->sums[row][lane] = flushed(flushed(to->sums[row][lane]) + flushed(even + odd));
        }
}

#define TILES_BEGIN(pixels, chunk) tiles_begin_plain(pixels, chunk)
#define TILES_END() (void)0
#define TILE_ZERO(tile) memset(tiles[tile].bytes, 0, sizeof tiles[tile].bytes)
#define TILE_LOAD(tile, from, bytes) tile_load(tiles + (tile), from, bytes)
#define WEIGHTS_LOAD(tile, from, stream) ((void)(stream), TILE_LOAD(tile, from, 4 * LANES))
#define TILE_STORE(tile, to) tile_store(tiles + (tile), to)
#define TILE_ADD(sums, pixels, weights) tile_add(tiles + (sums), tiles + (pixels), tiles + (weights))

/* Convert like VCVTNEPS2BF16. */
INLINE void put_bfloat16_plain(uint16_t *to, const floats *values) {
    for (int lane = 0; lane < LANES; lane++) {
        float value = flushed((*values)[lane]);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        to[lane] = (uint16_t)(value != value ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
}

INLINE void put_floats_plain(float *to, const floats *values, int lanes) { memcpy(to, values, sizeof(float) * lanes); }

INLINE void from_bfloat16_plain(const uint16_t *from, floats *values) {
    for (int lane = 0; lane < LANES; lane++) (*values)[lane] = float_of(from[lane]);
}

/* *values = factor * *values + others, rounded once. */
INLINE void multiply_and_add_plain(float factor, floats *values, const floats *others) {
    for (int lane = 0; lane < LANES; lane++) (*values)[lane] = fmaf(factor, (*values)[lane], (*others)[lane]);
}

/* Replace values that are not above zero by others. */
INLINE void choose_positive_plain(floats *values, const floats *others) {
    for (int lane = 0; lane < LANES; lane++) (*values)[lane] = (*values)[lane] > 0 ? (*values)[lane] : (*others)[lane];
}
