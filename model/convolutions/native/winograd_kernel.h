/* The convolution of winograd.c for one width of SIMD registers; winograd.c includes this file once per width.
 *
 * LANES: number of floats in a register.
 * TILES: tiles that `multiply` takes at a time; their sums fill twice as many registers.
 * NAMED: adds a suffix to a name.
 *
 * LARGER: the maximum of two registers of floats, lane by lane; only if the processor has an instruction for it.
 *
 * And for pixels of 16 bits:
 *
 * FROM_HALVES: load LANES halves as floats.
 * TO_HALVES: store floats as halves.
 * PACKED: round two registers of floats to one of 16-bit integers, in alternating groups of four.
 * PUT_HALF: round a register of floats to half a register of 16-bit integers, and store it; only if 16 channels can be one
 *     register.
 * DOT: multiply two registers of 16-bit integers, and add the products of adjacent pairs to 32-bit sums.
 *
 * `halves` is a constant in every call, so the compiler creates two kernels from one source.
 */

#define vec NAMED(vec)
#define ivec NAMED(ivec)
#define load NAMED(load)
#define store NAMED(store)
#define INLINE static inline __attribute__((always_inline))

/* Words of one register of channels of all tiles, which are contiguous. */
#define GROUP (AT_ONCE * LANES)

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec values) { *(vec *)to = values; }

INLINE vec NAMED(pixels_at)(const void *pixels, ptrdiff_t at, int halves) {
#ifdef DOT
    if (halves) return FROM_HALVES((const short *)pixels + at);
#endif
    (void)halves;
    return load((const float *)pixels + at);
}

INLINE void NAMED(put_pixels)(void *pixels, ptrdiff_t at, vec values, int halves) {
#ifdef DOT
    if (halves) {
        TO_HALVES((short *)pixels + at, values);
        return;
    }
#endif
    (void)halves;
    store((float *)pixels + at, values);
}

/* Store the first `channels` of a register. */
INLINE void NAMED(put_some)(void *pixels, ptrdiff_t at, vec values, int channels, int halves) {
    size_t each = halves ? sizeof(short) : sizeof(float);
    float kept[LANES];
    NAMED(put_pixels)(kept, 0, values, halves);
    memcpy((char *)pixels + at * each, kept, channels * each);
}

/* Maximum, lane by lane. */
INLINE vec NAMED(larger)(vec one, vec other) {
#ifdef LARGER
    return (vec)LARGER(one, other);
#else
    ivec first = one > other;
    return (vec)(((ivec)one & first) | ((ivec)other & ~first));
#endif
}

/* Six pixels d of a line -> six factors, the product B^T d. With s = 4/9 + 9/4:
 *
 *     f0 = d0 - s d2 + d4                                       f5 = d1 - s d3 + d5
 *     f1, f2 = (d4 - 9/4 d2) +- 2/3 (d3 - 9/4 d1)               for 2/3 and -2/3
 *     f3, f4 = 3/2 (d4 - 4/9 d2) +- 9/4 (d3 - 4/9 d1)           for 3/2 and -3/2, times 3/2
 */
INLINE void NAMED(line_in)(const vec *d, vec *factors) {
    const float squares = 4 / 9.0f + 9 / 4.0f;
    vec even = d[4] - (9 / 4.0f) * d[2], odd = d[3] - (9 / 4.0f) * d[1];
    vec even2 = (3 / 2.0f) * d[4] - (2 / 3.0f) * d[2], odd2 = (9 / 4.0f) * d[3] - d[1];
    factors[0] = d[0] + d[4] - squares * d[2];
    factors[1] = even + (2 / 3.0f) * odd;
    factors[2] = even - (2 / 3.0f) * odd;
    factors[3] = even2 + odd2;
    factors[4] = even2 - odd2;
    factors[5] = d[1] + d[5] - squares * d[3];
}

/* Six products m of a line -> four results, the product A^T m: result k is the sum of m[j] point[j]^k; the last one
 * also includes m[5]. */
INLINE void NAMED(line_out)(const vec *m, vec *results) {
    vec sum = m[1] + m[2], difference = m[1] - m[2], sum2 = m[3] + m[4], difference2 = m[3] - m[4];
    results[0] = m[0] + sum + sum2;
    results[1] = (2 / 3.0f) * difference + (3 / 2.0f) * difference2;
    results[2] = (4 / 9.0f) * sum + (9 / 4.0f) * sum2;
    results[3] = (8 / 27.0f) * difference + (27 / 8.0f) * difference2 + m[5];
}

/* Transform a column of six pixels, for one register of channels. */
INLINE void NAMED(transform_column)(const struct convolution *c, const struct patch *p, int x, int channel,
                                    vec *factors, int rows, int halves) {
    ptrdiff_t at = p->at + x * c->window_pixel + channel;
    int inside = p->column + x < c->width + 2;
    vec line[REACH];
#pragma GCC unroll 6
    for (int y = 0; y < REACH; y++, at += c->window_row) {
        line[y] = inside && y < rows ? NAMED(pixels_at)(c->window, at, halves) : (vec){0};
        if (!halves) __builtin_prefetch((const float *)c->window + at + LINE, 0, 2); /* `measure` has read the others */
    }
    NAMED(line_in)(line, factors);
}

/* Transform the rows of a tile with transformed columns: one or two registers of channels (`parts`) -> a register, or
 * half of one, for each of the 36 factors. */
INLINE void NAMED(transform_tile)(vec (*columns)[KEPT][REACH], int tile, float unit, float *factors, size_t plane,
                                  int parts, int halves) {
    float fitting = 1 / unit;
#pragma GCC unroll 6
    for (int y = 0; y < REACH; y++) {
        vec line[REACH], made[2][REACH];
#pragma GCC unroll 2
        for (int part = 0; part < parts; part++) {
#pragma GCC unroll 6
            for (int x = 0; x < REACH; x++) line[x] = columns[part][(SIDE * tile + x) % KEPT][y];
            NAMED(line_in)(line, made[part]);
        }
#pragma GCC unroll 6
        for (int x = 0; x < REACH; x++, factors += plane) {
#ifdef PUT_HALF
            if (halves && parts == 1) {
                PUT_HALF(factors, fitting * made[0][x]);
                continue;
            }
#endif
#ifdef DOT
            if (halves) {
                store(factors, PACKED(fitting * made[0][x], fitting * made[1][x]));
                continue;
            }
#endif
            (void)fitting;
            store(factors, made[0][x]);
        }
    }
}

/* Transform adjacent tiles, for one or two registers of channels. Adjacent tiles share two columns. */
INLINE void NAMED(transform_channels)(const struct convolution *c, const struct patch *p, const float *units,
                                      float *factors, int channel, int rows, int parts, int halves) {
    size_t plane = plane_words(in_places(c));
    vec columns[2][KEPT][REACH];
    for (int tile = 0; tile < p->tiles; tile++) {
#pragma GCC unroll 2
        for (int part = 0; part < parts; part++)
            for (int x = tile ? SIDE * tile + 2 : 0; x < SIDE * tile + REACH; x++)
                NAMED(transform_column)(c, p, x, channel + part * LANES, columns[part][x % KEPT], rows, halves);
        NAMED(transform_tile)(columns, tile, units[tile], factors + tile * LANES, plane, parts, halves);
    }
}

/* Transform adjacent tiles: 36 factors for each channel, as floats, or as integers with a unit for each tile. */
INLINE void NAMED(transform)(const struct convolution *c, const struct patch *p, const float *units, float *factors,
                             int rows, int halves) {
    int channel = 0, parts = halves ? 2 : 1;
    for (; channel + parts * LANES <= c->in_channels; channel += parts * LANES, factors += GROUP)
        NAMED(transform_channels)(c, p, units, factors, channel, rows, parts, halves);
#ifdef PUT_HALF
    if (channel < c->in_channels) NAMED(transform_channels)(c, p, units, factors, channel, rows, 1, halves);
#endif
}

#include "winograd_multiply.h"

/* Compute the results of a tile in the picture from its 36 products, for one register of channels. */
INLINE void NAMED(restore)(const struct convolution *c, const float *products, const struct place *place, int channel,
                           float unit, int halves) {
    ptrdiff_t made = made_at(c, place) + channel, added = added_at(c, place) + channel;
    size_t plane = plane_words(c->out_channels);
    vec lines[SIDE][REACH], bias = load(c->bias + channel);
#pragma GCC unroll 6
    for (int x = 0; x < REACH; x++) {
        vec column[REACH], results[SIDE];
#pragma GCC unroll 6
        for (int y = 0; y < REACH; y++) column[y] = load(products + (REACH * y + x) * plane);
        NAMED(line_out)(column, results);
#pragma GCC unroll 4
        for (int y = 0; y < SIDE; y++) lines[y][x] = results[y];
    }
#pragma GCC unroll 4
    for (int y = 0; y < SIDE; y++) {
        vec results[SIDE];
        if (y >= place->rows) break;
        NAMED(line_out)(lines[y], results);
#pragma GCC unroll 4
        for (int x = 0; x < SIDE; x++) {
            vec value = unit * results[x] + bias, small = c->negative_slope * value;
            if (x >= place->columns) break;
            value = NAMED(larger)(value, small);
            if (c->residual_scaling) {
                ptrdiff_t at = added + y * c->window_row + x * c->window_pixel;
                value = NAMED(pixels_at)(c->window, at, halves) + c->residual_scaling * value;
            }
            ptrdiff_t to = made + y * c->made_row + x * c->made_pixel;
            if (channel + LANES <= c->made_channels)
                NAMED(put_pixels)(c->made, to, value, halves);
            else
                NAMED(put_some)(c->made, to, value, c->made_channels - channel, halves);
        }
    }
}

/* Convolve the tiles from number `first` on, counted row by row through all planes. */
INLINE void NAMED(convolve_in)(const struct convolution *whole, long first, int tiles, float *factors, int halves) {
    const struct convolution here = *whole, *c = &here; /* a copy: the compiler knows that no store changes it */
    float *products = factors + FACTORS * plane_words(in_places(c)), units[AT_ONCE];
    for (int tile = 0; tile < tiles; tile++) units[tile] = 1;
    for (int tile = 0; tile < tiles;) {
        struct patch patch = patch_of(c, first + tile, tiles - tile);
#ifdef DOT
        if (halves) measure(c, &patch, units + tile);
#endif
        if (patch.rows == REACH)
            NAMED(transform)(c, &patch, units + tile, factors + tile * LANES, REACH, halves);
        else
            NAMED(transform)(c, &patch, units + tile, factors + tile * LANES, patch.rows, halves);
        tile += patch.tiles;
    }
    NAMED(multiply)(c, factors, tiles, products);
    for (int channel = 0; channel < c->out_channels; channel += LINE)
        for (int tile = 0; tile < tiles; tile++) {
            struct place place = place_of(c, first + tile);
            for (int part = channel; part < channel + LINE && part < c->out_channels; part += LANES)
                NAMED(restore)(c, products + part * AT_ONCE + tile * LANES, &place, part, units[tile], halves);
        }
}

static void NAMED(convolve_some)(const struct convolution *c, long first, int tiles, float *factors) {
#ifdef DOT
    if (c->units) {
        NAMED(convolve_in)(c, first, tiles, factors, 1);
        return;
    }
#endif
    NAMED(convolve_in)(c, first, tiles, factors, 0);
}

#undef vec
#undef ivec
#undef load
#undef store
#undef INLINE
#undef GROUP
#undef LANES
#undef TILES
#undef NAMED
#undef LARGER
#undef FROM_HALVES
#undef TO_HALVES
#undef PACKED
#undef PUT_HALF
#undef DOT
