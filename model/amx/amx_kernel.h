/* The convolution of amx.c, on tiles in registers or in memory; amx.c includes it once for each.
 *
 * A task's results are made in blocks of up to 4 rows x 16 pixels x 16 channels: a tile of sums for each row. For each
 * chunk of channels and each column of the 3 x 3, the three tiles of weights are loaded once, and each row of pixels
 * under the block, straight out of the window, is multiplied by those of them that see it: 9 loads for 12 products.
 */

/* Add the products of a chunk and a column: a row of pixels is the lowest of one result, the middle of the next and the
 * highest of the one after. The order in which a row's sums are added up is the same for every number of rows. */
INLINE void NAMED(add_column)(const uint16_t *pixels, ptrdiff_t row, ptrdiff_t bytes, const uint16_t *weights, int chunk, int rows) {
    TILE_LOAD(WEIGHTS_0, weights, 4 * LANES);
    TILE_LOAD(PIXELS, pixels, bytes);
    TILE_ADD(0, PIXELS, WEIGHTS_0);
    TILE_LOAD(WEIGHTS_1, weights + chunk * LANES, 4 * LANES);
    TILE_LOAD(PIXELS, pixels + row, bytes);
    if (rows > 1) TILE_ADD(1, PIXELS, WEIGHTS_0);
    TILE_ADD(0, PIXELS, WEIGHTS_1);
    TILE_LOAD(WEIGHTS_2, weights + 2 * chunk * LANES, 4 * LANES);
    TILE_LOAD(PIXELS, pixels + 2 * row, bytes);
    if (rows > 2) TILE_ADD(2, PIXELS, WEIGHTS_0);
    if (rows > 1) TILE_ADD(1, PIXELS, WEIGHTS_1);
    TILE_ADD(0, PIXELS, WEIGHTS_2);
    if (rows < 2) return;
    TILE_LOAD(PIXELS, pixels + 3 * row, bytes);
    if (rows > 3) TILE_ADD(3, PIXELS, WEIGHTS_0);
    if (rows > 2) TILE_ADD(2, PIXELS, WEIGHTS_1);
    TILE_ADD(1, PIXELS, WEIGHTS_2);
    if (rows < 3) return;
    TILE_LOAD(PIXELS, pixels + 4 * row, bytes);
    if (rows > 3) TILE_ADD(3, PIXELS, WEIGHTS_1);
    TILE_ADD(2, PIXELS, WEIGHTS_2);
    if (rows < 4) return;
    TILE_LOAD(PIXELS, pixels + 5 * row, bytes);
    TILE_ADD(3, PIXELS, WEIGHTS_2);
}

/* Sums of `rows` rows of pixels, in float32, row by row. */
INLINE void NAMED(add_up)(const struct amx_convolution *c, const uint16_t *pixels, const uint16_t *weights, int rows, float *sums) {
    const int chunk = chunk_of(c);
    TILE_ZERO(0);
    if (rows > 1) TILE_ZERO(1);
    if (rows > 2) TILE_ZERO(2);
    if (rows > 3) TILE_ZERO(3);
    for (int first = 0; first < c->in_channels; first += chunk) {
        int channel = at_most(first, c->in_channels - chunk);
        for (int column = 0; column < 3; column++) {
            const uint16_t *first_row = pixels + channel + column * c->window_steps.pixel;
            NAMED(add_column)(first_row, c->window_steps.row, 2 * c->window_steps.pixel, weights, chunk, rows);
            weights += 3 * chunk * LANES;
        }
    }
    TILE_STORE(0, sums);
    if (rows > 1) TILE_STORE(1, sums + 16 * LANES);
    if (rows > 2) TILE_STORE(2, sums + 32 * LANES);
    if (rows > 3) TILE_STORE(3, sums + 48 * LANES);
}

/* Only as many channels are read, and written, as there are. */
INLINE void NAMED(get_skip)(const struct amx_convolution *c, ptrdiff_t from, floats *values, int lanes) {
    if (c->skip_is_exact) {
        memcpy(values, (const float *)c->skip + from, sizeof(float) * lanes);
        return;
    }
    uint16_t rounded[LANES] = {0};
    memcpy(rounded, (const uint16_t *)c->skip + from, sizeof(uint16_t) * lanes);
    NAMED(from_bfloat16)(rounded, values);
}

INLINE void NAMED(put)(const struct amx_convolution *c, const struct place *p, int channel, const floats *value, int lanes) {
    if (c->exact) memcpy(c->exact + at(&c->exact_steps, p) + channel, value, sizeof(float) * lanes);
    if (!c->made) return;
    uint16_t rounded[LANES];
    NAMED(put_bfloat16)(rounded, value);
    memcpy(c->made + at(&c->made_steps, p) + channel, rounded, sizeof(uint16_t) * lanes);
}

/* Bias, LeakyReLU, skip and rounding of some pixels in a row. */
INLINE void NAMED(finish)(const struct amx_convolution *c, struct place p, int channel, const float *sums, int pixels, int lanes) {
    const floats bias = *(const floats *)(c->bias + channel);
    for (int pixel = 0; pixel < pixels; pixel++, p.column++) {
        floats value = *(const floats *)(sums + pixel * LANES) + bias, scaled = c->negative_slope * value;
        ints positive = value > 0;
        value = (floats)(((ints)value & positive) | ((ints)scaled & ~positive));
        if (c->skip) {
            floats skip = {0};
            NAMED(get_skip)(c, at(&c->skip_steps, &p) + channel, &skip, lanes);
            NAMED(multiply_and_add)(c->scaling, &value, &skip);
        }
        NAMED(put)(c, &p, channel, &value, lanes);
    }
}

/* Make the results of an area whose number of rows is a constant. */
INLINE void NAMED(make)(const struct amx_convolution *c, const struct area *area, int rows) {
    float sums[MOST_ROWS * LANES * LANES] __attribute__((aligned(64)));
    const ptrdiff_t weights = tile_weights(c);
    for (int column = area->first.column; column < area->end; column += LANES) {
        /* The last block of a row is moved to the left so that it is full; what it makes twice is stored once. */
        struct place p = area->first;
        p.column = c->width < LANES ? 0 : at_most(column, c->width - LANES);
        const uint16_t *pixels = c->window + at(&c->window_steps, &p);
        int made_twice = column - p.column, count = at_most(area->end - column, LANES);
        p.column = column;
        for (int channel = 0; channel < c->out_channels; channel += LANES) {
            int lanes = at_most(c->out_channels - channel, LANES);
            NAMED(add_up)(c, pixels, c->weights + channel / LANES * weights, rows, sums);
            for (int row = 0; row < rows; row++) {
                struct place first = {p.plane, p.row + row, column};
                const float *from = sums + (row * LANES + made_twice) * LANES;
                if (lanes == LANES) NAMED(finish)(c, first, channel, from, count, LANES);
                else NAMED(finish)(c, first, channel, from, count, lanes);
            }
        }
    }
}

static void NAMED(convolve)(const struct amx_convolution *c) {
    const long tasks = (long)c->planes * groups_of(c) * parts_of(c);
#pragma omp parallel
    {
        TILES_BEGIN(at_most(c->width, LANES), chunk_of(c));
#pragma omp for schedule(dynamic, 1) nowait
        for (long task = 0; task < tasks; task++) {
            struct area area = area_of(c, task);
            if (area.rows == 4) NAMED(make)(c, &area, 4);
            else if (area.rows == 3) NAMED(make)(c, &area, 3);
            else if (area.rows == 2) NAMED(make)(c, &area, 2);
            else NAMED(make)(c, &area, 1);
        }
        TILES_END();
    }
}

#undef TILES_BEGIN
#undef TILES_END
#undef TILE_ZERO
#undef TILE_LOAD
#undef TILE_STORE
#undef TILE_ADD
