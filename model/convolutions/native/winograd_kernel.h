/* The convolution of winograd.c for one width of SIMD registers; winograd.c includes it once for each.
 *
 * LANES: floats of a register.
 * TILES: tiles that `multiply` takes at a time; their sums fill twice as many registers.
 * NAMED: makes a name unique.
 *
 * LARGER: of two registers of floats, lane by lane; where the processor has an instruction for it.
 *
 * And where there are pixels of 16 bits:
 *
 * FROM_HALVES: LANES halves in memory as floats.
 * TO_HALVES: floats into memory as halves.
 * PACKED: two registers of floats as one of integers of 16 bits, four of each by turns.
 * DOT: sums of 32 bits + the products of two registers of integers, of two neighbours together.
 *
 * `halves` is a constant wherever it is passed on: the compiler makes two kernels of one text.
 */

#define vec NAMED(vec)
#define ivec NAMED(ivec)
#define load NAMED(load)
#define store NAMED(store)
#define INLINE static inline __attribute__((always_inline))

/* Words of a register of channels of all tiles: they lie together, and behind them those of the next register. */
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

/* Lane by lane. */
INLINE vec NAMED(larger)(vec one, vec other) {
#ifdef LARGER
    return (vec)LARGER(one, other);
#else
    ivec first = one > other;
    return (vec)(((ivec)one & first) | ((ivec)other & ~first));
#endif
}

/* Six pixels in a line -> six factors; those for 3/2 and -3/2 times 3/2. */
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

/* Six products in a line -> four results. */
INLINE void NAMED(line_out)(const vec *m, vec *results) {
    vec sum = m[1] + m[2], difference = m[1] - m[2], sum2 = m[3] + m[4], difference2 = m[3] - m[4];
    results[0] = m[0] + sum + sum2;
    results[1] = (2 / 3.0f) * difference + (3 / 2.0f) * difference2;
    results[2] = (4 / 9.0f) * sum + (9 / 4.0f) * sum2;
    results[3] = (8 / 27.0f) * difference + (27 / 8.0f) * difference2 + m[5];
}

/* A column of pixels, a register of channels of it -> the factors of the column. */
INLINE void NAMED(transform_column)(const struct convolution *c, const struct patch *p, int x, int channel,
                                    vec *factors, int rows, int halves) {
    ptrdiff_t at = p->at + x * c->window_pixel + channel;
    int inside = p->column + x < c->width + 2;
    vec line[REACH];
#pragma GCC unroll 6
    for (int y = 0; y < REACH; y++, at += c->window_row) {
        line[y] = inside && y < rows ? NAMED(pixels_at)(c->window, at, halves) : (vec){0};
        if (!halves) __builtin_prefetch((const float *)c->window + at + LINE, 0, 2); /* others `measure` has read */
    }
    NAMED(line_in)(line, factors);
}

/* The columns of a tile, of one or two registers of channels -> its 36 factors, a register of each. */
INLINE void NAMED(transform_tile)(vec (*columns)[KEPT][REACH], int tile, float unit, float *factors, size_t plane,
                                  int halves) {
    float fitting = 1 / unit;
    int parts = halves ? 2 : 1;
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

/* Tiles next to each other -> 36 factors for each of their channels, as floats, or as integers of a unit of each tile.
 * Neighbours share columns. */
INLINE void NAMED(transform)(const struct convolution *c, const struct patch *p, const float *units, float *factors,
                             int rows, int halves) {
    int parts = halves ? 2 : 1;
    size_t plane = plane_words(in_words(c));
    vec columns[2][KEPT][REACH];
    for (int channel = 0; channel < c->in_channels; channel += parts * LANES, factors += GROUP)
        for (int tile = 0; tile < p->tiles; tile++) {
#pragma GCC unroll 2
            for (int part = 0; part < parts; part++)
                for (int x = tile ? SIDE * tile + 2 : 0; x < SIDE * tile + REACH; x++)
                    NAMED(transform_column)(c, p, x, channel + part * LANES, columns[part][x % KEPT], rows, halves);
            NAMED(transform_tile)(columns, tile, units[tile], factors + tile * LANES, plane, halves);
        }
}

#include "winograd_multiply.h"

/* 36 products of a tile and a register of channels, in a unit -> the results that are in the picture. */
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
            NAMED(put_pixels)(c->made, made + y * c->made_row + x * c->made_pixel, value, halves);
        }
    }
}

/* Tiles from `first` on, counted row by row through all planes. */
INLINE void NAMED(convolve_in)(const struct convolution *whole, long first, int tiles, float *factors, int halves) {
    const struct convolution here = *whole, *c = &here; /* which no store can change, as the compiler sees it */
    float *products = factors + FACTORS * plane_words(in_words(c)), units[AT_ONCE];
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
#undef DOT
