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

/* Bias, LeakyReLU, skip and rounding of one row of a block. Of the channels only `lanes` are read, and written. */
INLINE void NAMED(finish_row)(const struct amx_convolution *c, const struct block *b, int row, int lanes) {
    struct place place = {b->first.plane, b->first.row + row, b->first.column};
    const floats bias = *(const floats *)(c->bias + b->channel), *sums = (const floats *)b->sums + row * LANES + b->made_twice;
    const ptrdiff_t skip_at = at(&c->skip_steps, &place) + b->channel, skip_step = c->skip_steps.pixel;
    const float *exact_skip = c->skip && c->skip_is_exact ? (const float *)c->skip + skip_at : NULL;
    const uint16_t *skip = c->skip && !c->skip_is_exact ? (const uint16_t *)c->skip + skip_at : NULL;
    uint16_t *made = c->made ? c->made + at(&c->made_steps, &place) + b->channel : NULL, rounded[LANES] = {0};
    float *exact = c->exact ? c->exact + at(&c->exact_steps, &place) + b->channel : NULL;
    const float slope = c->negative_slope, scaling = c->scaling;
    for (int pixel = 0; pixel < b->pixels; pixel++) {
        floats value = sums[pixel] + bias, scaled = slope * value, added = {0};
        NAMED(choose_positive)(&value, &scaled);
        if (exact_skip) {
            memcpy(&added, exact_skip + pixel * skip_step, sizeof(float) * lanes);
            NAMED(multiply_and_add)(scaling, &value, &added);
        } else if (skip) {
            memcpy(rounded, skip + pixel * skip_step, sizeof(uint16_t) * lanes);
            NAMED(from_bfloat16)(rounded, &added);
            NAMED(multiply_and_add)(scaling, &value, &added);
        }
        if (exact) memcpy(exact + pixel * c->exact_steps.pixel, &value, sizeof(float) * lanes);
        if (made) {
            NAMED(put_bfloat16)(rounded, &value);
            memcpy(made + pixel * c->made_steps.pixel, rounded, sizeof(uint16_t) * lanes);
        }
    }
}

static void NAMED(finish_next)(const struct amx_convolution *c, struct block *b) {
    int lanes = at_most(c->out_channels - b->channel, LANES);
    if (lanes == LANES) NAMED(finish_row)(c, b, b->finished, LANES);
    else NAMED(finish_row)(c, b, b->finished, lanes);
    b->finished++;
}

/* Add up the products of a block, while the rows of the block before it are finished: the unit multiplies on its own. */
INLINE void NAMED(add_up)(const struct amx_convolution *c, const struct block *b, struct block *before, int rows) {
    const int chunk = chunk_of(c);
    const struct place seen = {b->first.plane, b->first.row, b->first.column - b->made_twice};
    const uint16_t *pixels = c->window + at(&c->window_steps, &seen);
    const uint16_t *weights = c->weights + b->channel / LANES * tile_weights(c);
    volatile int stored;
    TILE_ZERO(0);
    if (rows > 1) TILE_ZERO(1);
    if (rows > 2) TILE_ZERO(2);
    if (rows > 3) TILE_ZERO(3);
    for (int first = 0; first < c->in_channels; first += chunk) {
        const uint16_t *channels = pixels + at_most(first, c->in_channels - chunk);
        for (int column = 0; column < 3; column++) {
            const uint16_t *shifted = channels + column * c->window_steps.pixel;
            NAMED(add_column)(shifted, c->window_steps.row, 2 * c->window_steps.pixel, weights, chunk, rows);
            weights += 3 * chunk * LANES;
            if (before->finished < before->rows) NAMED(finish_next)(c, before);
            /* After about 2,000 cycles without any store the tiles' take 700 more, measured on a Sapphire Rapids. */
            stored = column, (void)stored;
        }
    }
    TILE_STORE(0, b->sums);
    if (rows > 1) TILE_STORE(1, b->sums + 16 * LANES);
    if (rows > 2) TILE_STORE(2, b->sums + 32 * LANES);
    if (rows > 3) TILE_STORE(3, b->sums + 48 * LANES);
    while (before->finished < before->rows) NAMED(finish_next)(c, before);
}

/* Make the results of an area whose number of rows is a constant. Blocks with the same weights follow each other. */
INLINE void NAMED(make)(const struct amx_convolution *c, const struct area *area, int rows) {
    float sums[2][MOST_ROWS * LANES * LANES] __attribute__((aligned(64)));
    struct block before = {.rows = 0, .sums = sums[1]};
    for (int channel = 0; channel < c->out_channels; channel += LANES)
        for (int column = area->first.column; column < area->end; column += LANES) {
            struct block block = {area->first, channel, rows, at_most(area->end - column, LANES), 0, 0, sums[before.sums == sums[0]]};
            block.first.column = column;
            if (c->width >= LANES && column > c->width - LANES) block.made_twice = column - (c->width - LANES);
            NAMED(add_up)(c, &block, &before, rows);
            before = block;
        }
    while (before.finished < rows) NAMED(finish_next)(c, &before);
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
