/* The convolution of winograd.c for one width of SIMD registers; winograd.c includes it once for each.
 *
 * LANES: floats of a register.
 * TILES: tiles that `multiply` takes at a time; their sums fill twice as many registers.
 * NAMED: makes a name unique.
 */

#define vec NAMED(vec)
#define load NAMED(load)
#define store NAMED(store)
#define INLINE static inline __attribute__((always_inline))

/* Floats of a register of channels of all tiles: they lie together, and behind them those of the next register. */
#define GROUP (AT_ONCE * LANES)

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec values) { *(vec *)to = values; }

/* Six pixels in a line -> six factors. */
INLINE void NAMED(line_in)(const vec *d, vec *factors) {
    vec even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1], even2 = d[4] - d[2], odd2 = d[3] - d[1];
    factors[0] = 4 * d[0] - 5 * d[2] + d[4];
    factors[1] = even + odd;
    factors[2] = even - odd;
    factors[3] = even2 + 2 * odd2;
    factors[4] = even2 - 2 * odd2;
    factors[5] = 4 * d[1] - 5 * d[3] + d[5];
}

/* Six products in a line -> four results. */
INLINE void NAMED(line_out)(const vec *m, vec *results) {
    vec sum = m[1] + m[2], difference = m[1] - m[2], sum2 = m[3] + m[4], difference2 = m[3] - m[4];
    results[0] = m[0] + sum + sum2;
    results[1] = difference + 2 * difference2;
    results[2] = sum + 4 * sum2;
    results[3] = difference + 8 * difference2 + m[5];
}

/* Tiles next to each other in a row -> 36 factors for each of their channels: first the columns of pixels, then the rows
 * of what these became. Pixels beside the window, and those below its `rows`, are zero. */
static void NAMED(transform)(const struct convolution *c, const float *pixels, int rows, int column, int tiles,
                             float *factors) {
    size_t plane = plane_floats(c->in_channels);
    vec columns[SIDE * AT_ONCE + 2][REACH];
    for (int channel = 0; channel < c->in_channels; channel += LANES, factors += GROUP) {
        for (int x = 0; x < SIDE * tiles + 2; x++) {
            int inside = column + x >= 0 && column + x < c->width;
            const float *pixel = pixels + (column + x) * c->window_pixel + channel;
            vec line[REACH];
#pragma GCC unroll 6
            for (int y = 0; y < REACH; y++) {
                line[y] = inside && y < rows ? load(pixel + y * c->window_row) : (vec){0};
                __builtin_prefetch(pixel + y * c->window_row + LINE, 0, 2);
            }
            NAMED(line_in)(line, columns[x]);
        }
        for (int tile = 0; tile < tiles; tile++)
#pragma GCC unroll 6
            for (int y = 0; y < REACH; y++) {
                vec line[REACH], made[REACH];
#pragma GCC unroll 6
                for (int x = 0; x < REACH; x++) line[x] = columns[SIDE * tile + x][y];
                NAMED(line_in)(line, made);
#pragma GCC unroll 6
                for (int x = 0; x < REACH; x++) store(factors + (REACH * y + x) * plane + tile * LANES, made[x]);
            }
    }
}

/* Some tiles times some registers of out_channels, over all in_channels. */
INLINE void NAMED(multiply)(const float *factors, const float *weights, int in_channels, float *products,
                            int registers) {
    vec sums[TILES][2];
#pragma GCC unroll 12
    for (int tile = 0; tile < TILES; tile++) sums[tile][0] = sums[tile][1] = (vec){0};
    for (int channel = 0; channel < in_channels; channel += LANES, factors += GROUP)
        for (int lane = 0; lane < LANES; lane++, weights += LANES) {
            vec one = load(weights), other = registers > 1 ? load(weights + in_channels * LANES) : one;
#pragma GCC unroll 12
            for (int tile = 0; tile < TILES; tile++) {
                float factor = factors[tile * LANES + lane];
                sums[tile][0] += factor * one;
                if (registers > 1) sums[tile][1] += factor * other;
            }
        }
#pragma GCC unroll 12
    for (int tile = 0; tile < TILES; tile++) {
        store(products + tile * LANES, sums[tile][0]);
        if (registers > 1) store(products + tile * LANES + GROUP, sums[tile][1]);
    }
}

static void NAMED(multiply_all)(const struct convolution *c, const float *factors, int tiles, float *products) {
    size_t from = plane_floats(c->in_channels), to = plane_floats(c->out_channels);
    const float *weights = c->weights;
    for (int plane = 0; plane < FACTORS; plane++, factors += from, products += to)
        for (int channel = 0; channel < c->out_channels;) {
            int registers = channel + LANES < c->out_channels ? 2 : 1;
            for (int tile = 0; tile < tiles; tile += TILES) {
                const float *left = factors + tile * LANES;
                float *into = products + channel * AT_ONCE + tile * LANES;
                if (registers == 2)
                    NAMED(multiply)(left, weights, c->in_channels, into, 2);
                else
                    NAMED(multiply)(left, weights, c->in_channels, into, 1);
            }
            channel += registers * LANES;
            weights += (size_t)registers * LANES * c->in_channels;
        }
}

/* 36 products of a tile and a register of channels -> the results that are in the picture. */
INLINE void NAMED(restore)(const struct convolution *c, const float *products, const struct place *place, int channel) {
    float *made = made_at(c, place) + channel;
    const float *added = added_at(c, place) + channel;
    size_t plane = plane_floats(c->out_channels);
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
            vec value = results[x] + bias, small = c->negative_slope * value;
            if (x >= place->columns) break;
            for (int i = 0; i < LANES; i++) value[i] = value[i] > small[i] ? value[i] : small[i];
            if (c->residual_scaling)
                value = load(added + y * c->window_row + x * c->window_pixel) + c->residual_scaling * value;
            store(made + y * c->made_row + x * c->made_pixel, value);
        }
    }
}

/* Tiles from `first` on, counted row by row through all planes. */
static void NAMED(convolve_some)(const struct convolution *c, long first, int tiles, float *factors) {
    float *products = factors + FACTORS * plane_floats(c->in_channels);
    for (int tile = 0, run; tile < tiles; tile += run) {
        struct place place = place_of(c, first + tile);
        int left = tiles_across(c) - place.column / SIDE;
        run = tiles - tile < left ? tiles - tile : left;
        NAMED(transform)(c, c->window + place.plane * c->window_plane + place.row * c->window_row,
                         c->rows + 2 - place.row, place.column - 1, run, factors + tile * LANES);
    }
    NAMED(multiply_all)(c, factors, tiles, products);
    for (int channel = 0; channel < c->out_channels; channel += LINE)
        for (int tile = 0; tile < tiles; tile++) {
            struct place place = place_of(c, first + tile);
            for (int part = channel; part < channel + LINE && part < c->out_channels; part += LANES)
                NAMED(restore)(c, products + part * AT_ONCE + tile * LANES, &place, part);
        }
}

#undef vec
#undef load
#undef store
#undef INLINE
#undef GROUP
#undef LANES
#undef TILES
#undef NAMED
