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

/* The pixels under a tile -> 36 factors for each channel, in planes. */
static void NAMED(transform)(const float *pixels, ptrdiff_t row, ptrdiff_t pixel, int channels, float *factors) {
    size_t plane = plane_floats(channels);
    for (int c = 0; c < channels; c += LANES, pixels += LANES, factors += LANES) {
        vec columns[REACH][REACH];
        if (c % LINE == 0) prefetch_next_tile(pixels, row, pixel);
#pragma GCC unroll 6
        for (int x = 0; x < REACH; x++) {
            vec column[REACH], made[REACH];
#pragma GCC unroll 6
            for (int y = 0; y < REACH; y++) column[y] = load(pixels + y * row + x * pixel);
            NAMED(line_in)(column, made);
#pragma GCC unroll 6
            for (int y = 0; y < REACH; y++) columns[y][x] = made[y];
        }
#pragma GCC unroll 6
        for (int y = 0; y < REACH; y++) {
            vec made[REACH];
            NAMED(line_in)(columns[y], made);
#pragma GCC unroll 6
            for (int x = 0; x < REACH; x++) store(factors + (REACH * y + x) * plane, made[x]);
        }
    }
}

/* Some tiles times some registers of out_channels, over all in_channels. */
INLINE void NAMED(multiply)(const float *factors, const float *weights, int in_channels, float *products,
                            int out_channels, int registers) {
    vec sums[TILES][2];
#pragma GCC unroll 12
    for (int tile = 0; tile < TILES; tile++) sums[tile][0] = sums[tile][1] = (vec){0};
    for (int c = 0; c < in_channels; c++, weights += LANES) {
        vec one = load(weights), other = registers > 1 ? load(weights + in_channels * LANES) : one;
#pragma GCC unroll 12
        for (int tile = 0; tile < TILES; tile++) {
            float factor = factors[tile * in_channels + c];
            sums[tile][0] += factor * one;
            if (registers > 1) sums[tile][1] += factor * other;
        }
    }
#pragma GCC unroll 12
    for (int tile = 0; tile < TILES; tile++) {
        store(products + tile * out_channels, sums[tile][0]);
        if (registers > 1) store(products + tile * out_channels + LANES, sums[tile][1]);
    }
}

static void NAMED(multiply_all)(const struct convolution *c, const float *factors, int tiles, float *products) {
    size_t from = plane_floats(c->in_channels), to = plane_floats(c->out_channels);
    const float *weights = c->weights;
    for (int plane = 0; plane < FACTORS; plane++, factors += from, products += to)
        for (int channel = 0; channel < c->out_channels;) {
            int registers = channel + LANES < c->out_channels ? 2 : 1;
            for (int tile = 0; tile < tiles; tile += TILES) {
                const float *left = factors + tile * c->in_channels;
                float *into = products + tile * c->out_channels + channel;
                if (registers == 2)
                    NAMED(multiply)(left, weights, c->in_channels, into, c->out_channels, 2);
                else
                    NAMED(multiply)(left, weights, c->in_channels, into, c->out_channels, 1);
            }
            channel += registers * LANES;
            weights += (size_t)registers * LANES * c->in_channels;
        }
}

/* 36 products in planes -> the results of a tile, of which some rows and columns are in the picture. */
static void NAMED(restore)(const struct convolution *c, const float *products, float *made, int rows, int columns) {
    size_t plane = plane_floats(c->out_channels);
    for (int channel = 0; channel < c->out_channels; channel += LANES) {
        vec lines[SIDE][REACH], bias = load(c->bias + channel);
        for (int x = 0; x < REACH; x++) {
            vec column[REACH], results[SIDE];
            for (int y = 0; y < REACH; y++) column[y] = load(products + (REACH * y + x) * plane + channel);
            NAMED(line_out)(column, results);
            for (int y = 0; y < SIDE; y++) lines[y][x] = results[y];
        }
        for (int y = 0; y < SIDE && y < rows; y++) {
            vec results[SIDE];
            NAMED(line_out)(lines[y], results);
            for (int x = 0; x < SIDE && x < columns; x++) {
                vec value = results[x] + bias, small = c->negative_slope * value;
                for (int i = 0; i < LANES; i++) value[i] = value[i] > small[i] ? value[i] : small[i];
                store(made + y * c->made_row + x * c->made_pixel + channel, value);
            }
        }
    }
}

/* Tiles from `first` on, counted row by row through all planes. */
static void NAMED(convolve_some)(const struct convolution *c, long first, int tiles, float *work) {
    float *factors = work + FACTORS * c->in_channels;
    float *products = factors + FACTORS * plane_floats(c->in_channels);
    int across = tiles_across(c);
    long in_plane = (long)across * tiles_down(c);
    for (int tile = 0; tile < tiles; tile++) {
        long plane = (first + tile) / in_plane, place = (first + tile) % in_plane;
        int row = SIDE * (place / across), column = SIDE * (place % across) - 1;
        const float *pixels = c->window + plane * c->window_plane + row * c->window_row;
        float *into = factors + (size_t)tile * c->in_channels;
        if (column >= 0 && column + REACH <= c->width && row + SIDE <= c->rows)
            NAMED(transform)(pixels + column * c->window_pixel, c->window_row, c->window_pixel, c->in_channels, into);
        else
            NAMED(transform)(padded_pixels(c, pixels, c->rows + 2 - row, column, work), REACH * c->in_channels,
                             c->in_channels, c->in_channels, into);
    }
    NAMED(multiply_all)(c, factors, tiles, products);
    for (int tile = 0; tile < tiles; tile++) {
        long plane = (first + tile) / in_plane, place = (first + tile) % in_plane;
        int row = SIDE * (place / across), column = SIDE * (place % across);
        float *made = c->made + plane * c->made_plane + row * c->made_row + column * c->made_pixel;
        NAMED(restore)(c, products + (size_t)tile * c->out_channels, made, c->rows - row, c->width - column);
    }
}

#undef vec
#undef load
#undef store
#undef INLINE
#undef LANES
#undef TILES
#undef NAMED
