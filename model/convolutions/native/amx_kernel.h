/* The convolution of amx.c, on tiles in registers or in memory; amx.c includes this file once for each.
 *
 * A task computes its results in blocks of up to 4 rows x 16 pixels x 16 channels, with a tile of sums for each row. For
 * each chunk of channels and each column of the 3 x 3, the three tiles of weights are loaded once. Each of the six rows of
 * pixels under the block is loaded from the window once, and multiplied by the weights of the results that it is part of:
 * 9 loads for 12 products.
 */

/* Add the products of a chunk and a column: a row of pixels is the bottom row of one result, the middle row of the next and
 * the top row of the one after. The order of the sums of a row is the same for any number of rows. */
INLINE void NAMED(add_column)(const uint16_t *pixels, ptrdiff_t row, ptrdiff_t bytes, const uint16_t *weights, int chunk, int rows, int stream) {
    WEIGHTS_LOAD(WEIGHTS_0, weights, stream);
    TILE_LOAD(PIXELS, pixels, bytes);
    TILE_ADD(0, PIXELS, WEIGHTS_0);
    WEIGHTS_LOAD(WEIGHTS_1, weights + chunk * LANES, stream);
    TILE_LOAD(PIXELS, pixels + row, bytes);
    if (rows > 1) TILE_ADD(1, PIXELS, WEIGHTS_0);
    TILE_ADD(0, PIXELS, WEIGHTS_1);
    WEIGHTS_LOAD(WEIGHTS_2, weights + 2 * chunk * LANES, stream);
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

/* Add the first `lanes` channels of a pixel of a skip. */
INLINE void NAMED(add_skip)(const struct skip_row *skip, int pixel, floats *value, int lanes) {
    floats added = {0};
    uint16_t rounded[LANES] = {0};
    if (skip->exact) memcpy(&added, skip->exact + pixel * skip->pixel, sizeof(float) * lanes);
    else if (skip->rounded) {
        memcpy(rounded, skip->rounded + pixel * skip->pixel, sizeof(uint16_t) * lanes);
        NAMED(from_bfloat16)(rounded, &added);
    } else return;
    NAMED(multiply_and_add)(skip->scaling, value, &added);
}

/* Return the start of a row of a block in `made`. */
INLINE uint16_t *NAMED(made_at)(const struct amx_convolution *c, const struct block *b, int row) {
    const struct place place = {b->first.plane, c->factor * (b->first.row + row), c->factor * b->first.column};
    return c->made + at(&c->made_steps, &place) + b->channel;
}

/* Copy the pixels of one row of a block at the border of the result into the padding. */
static void NAMED(repeat_border)(const struct amx_convolution *c, const struct block *b, int row, int lanes) {
    const struct steps *steps = &c->made_steps;
    const int begins = b->first.column == 0, ends = b->first.column + b->pixels == c->width, pixels = c->factor * b->pixels;
    const size_t bytes = sizeof(uint16_t) * lanes;
    uint16_t *first = NAMED(made_at)(c, b, row), *last = first + (c->factor - 1) * steps->row;
    for (uint16_t *line = first; line <= last; line += steps->row) {
        if (begins) memcpy(line - steps->pixel, line, bytes);
        if (ends) memcpy(line + pixels * steps->pixel, line + (pixels - 1) * steps->pixel, bytes);
    }
    for (int pixel = -begins; pixel < pixels + ends; pixel++) {
        uint16_t *above = first + pixel * steps->pixel, *below = last + pixel * steps->pixel;
        if (c->repeats & REPEAT_ABOVE && b->first.row + row == 0) memcpy(above - steps->row, above, bytes);
        if (c->repeats & REPEAT_BELOW && b->first.row + row == c->rows - 1) memcpy(below + steps->row, below, bytes);
    }
}

/* Store one pixel factor x factor times. */
INLINE void NAMED(store_pixel)(const struct amx_convolution *c, uint16_t *made, const uint16_t *rounded, int lanes) {
    for (int row = 0; row < c->factor; row++)
        for (int pixel = 0; pixel < c->factor; pixel++)
            memcpy(made + row * c->made_steps.row + pixel * c->made_steps.pixel, rounded, sizeof(uint16_t) * lanes);
}

/* Apply bias, LeakyReLU, skips and rounding to one row of a block, for the first `lanes` channels.
 *
 * `results` is a constant in every call, so the compiler removes the other cases. */
INLINE void NAMED(finish_row)(const struct amx_convolution *c, const struct block *b, int row, int lanes, int results) {
    const struct place place = {b->first.plane, b->first.row + row, b->first.column};
    const floats bias = *(const floats *)(c->bias + b->channel), *sums = (const floats *)b->sums + row * LANES + b->made_twice;
    const int has_skips = results & SKIPS && c->skips[0].rows, pixels = b->pixels, factor = results & ENLARGED ? c->factor : 1;
    struct skip_row first = {0}, second = {0};
    uint16_t *made = results & ROUNDED && c->made ? NAMED(made_at)(c, b, row) : NULL, rounded[LANES];
    float *exact = results & EXACT && c->exact ? c->exact + at(&c->exact_steps, &place) + b->channel : NULL;
    const ptrdiff_t made_step = factor * c->made_steps.pixel, exact_step = c->exact_steps.pixel;
    const float slope = c->negative_slope;
    if (has_skips) first = skip_row_of(c->skips, place, b->channel), second = skip_row_of(c->skips + 1, place, b->channel);
    for (int pixel = 0; pixel < pixels; pixel++) {
        floats value = sums[pixel] + bias, scaled = slope * value;
        NAMED(choose_positive)(&value, &scaled);
        if (has_skips) {
            NAMED(add_skip)(&first, pixel, &value, lanes);
            NAMED(add_skip)(&second, pixel, &value, lanes);
        }
        if (exact) NAMED(put_floats)(exact + pixel * exact_step, &value, lanes);
        if (!made) continue;
        NAMED(put_bfloat16)(rounded, &value);
        if (results & ENLARGED) NAMED(store_pixel)(c, made + pixel * made_step, rounded, lanes);
        else memcpy(made + pixel * made_step, rounded, sizeof(uint16_t) * lanes);
    }
    if (c->repeats && is_at_border(c, b)) NAMED(repeat_border)(c, b, row, lanes);
}

static void NAMED(finish_rounded)(const struct amx_convolution *c, const struct block *b, int row) {
    NAMED(finish_row)(c, b, row, LANES, ROUNDED);
}

static void NAMED(finish_enlarged)(const struct amx_convolution *c, const struct block *b, int row) {
    NAMED(finish_row)(c, b, row, LANES, ROUNDED | ENLARGED);
}

static void NAMED(finish_exact)(const struct amx_convolution *c, const struct block *b, int row) {
    NAMED(finish_row)(c, b, row, LANES, EXACT | SKIPS);
}

static void NAMED(finish_any)(const struct amx_convolution *c, const struct block *b, int row) {
    NAMED(finish_row)(c, b, row, at_most(c->out_channels - b->channel, LANES), ANY);
}

static void NAMED(finish_next)(const struct amx_convolution *c, struct block *b) {
    const int row = b->finished++, is_full = b->channel + LANES <= c->out_channels;
    const int is_rounded = c->made && !c->exact && !c->skips[0].rows;
    if (is_full && is_rounded && c->factor == 1) NAMED(finish_rounded)(c, b, row);
    else if (is_full && is_rounded) NAMED(finish_enlarged)(c, b, row);
    else if (is_full && c->exact && !c->made) NAMED(finish_exact)(c, b, row);
    else NAMED(finish_any)(c, b, row);
}

/* Sum the products of a block, and meanwhile finish the rows of the previous block: the unit works in parallel. The
 * rows are spread evenly, because storing a tile is much slower after 2,000 cycles without a store. */
INLINE void NAMED(add_up)(const struct amx_convolution *c, const struct block *b, struct block *before, int rows, int stream) {
    const int chunk = chunk_of(c), steps = 3 * chunks_of(c);
    const struct place seen = {b->first.plane, b->first.row, b->first.column - b->made_twice};
    const uint16_t *pixels = c->window + at(&c->window_steps, &seen);
    const uint16_t *weights = c->weights + b->channel / LANES * tile_weights(c);
    int due = steps - 1; /* the first row is due at once */
    TILE_ZERO(0);
    if (rows > 1) TILE_ZERO(1);
    if (rows > 2) TILE_ZERO(2);
    if (rows > 3) TILE_ZERO(3);
    for (int first = 0; first < c->in_channels; first += chunk) {
        const uint16_t *channels = pixels + at_most(first, c->in_channels - chunk);
        for (int column = 0; column < 3; column++) {
            const uint16_t *shifted = channels + column * c->window_steps.pixel;
            NAMED(add_column)(shifted, c->window_steps.row, 2 * c->window_steps.pixel, weights, chunk, rows, stream);
            weights += 3 * chunk * LANES;
            for (due += before->rows; due >= steps; due -= steps) NAMED(finish_next)(c, before);
        }
    }
    TILE_STORE(0, b->sums);
    if (rows > 1) TILE_STORE(1, b->sums + 16 * LANES);
    if (rows > 2) TILE_STORE(2, b->sums + 32 * LANES);
    if (rows > 3) TILE_STORE(3, b->sums + 48 * LANES);
}

/* Compute an area with a constant number of rows. All channels of a block come before the next block, so its pixels are
 * still in the L1 cache. With `stream` the weights are not kept there. */
INLINE void NAMED(make)(const struct amx_convolution *c, const struct area *area, int rows, int stream) {
    float sums[2][MAX_ROWS * LANES * LANES] __attribute__((aligned(64)));
    struct block before = {.rows = 0, .sums = sums[1]};
    for (int column = area->first.column; column < area->end; column += LANES)
        for (int channel = 0; channel < c->out_channels; channel += LANES) {
            struct block block = {area->first, channel, rows, at_most(area->end - column, LANES), 0, 0, sums[before.sums == sums[0]]};
            block.first.column = column;
            if (c->width >= LANES && column > c->width - LANES) block.made_twice = column - (c->width - LANES);
            NAMED(add_up)(c, &block, &before, rows, stream);
            before = block;
        }
    while (before.finished < rows) NAMED(finish_next)(c, &before);
}

/* Compute all results; every thread of a team calls this, and returns when all are done. */
static void NAMED(convolve_in_team)(const struct amx_convolution *c, struct team *team) {
    const struct division divided = division_of(c->planes, c->width);
    const long tasks = (long)c->planes * divided.parts * groups_of(c);
    const int stream = exceeds_l1(c);
    TILES_BEGIN(at_most(c->width, LANES), chunk_of(c));
#pragma omp for schedule(static) nowait
    for (long task = 0; task < tasks; task++) {
        struct area area = area_of(c, task, &divided);
        if (area.rows == 4 && stream) NAMED(make)(c, &area, 4, 1);
        else if (area.rows == 4) NAMED(make)(c, &area, 4, 0);
        else if (area.rows == 3) NAMED(make)(c, &area, 3, 0);
        else if (area.rows == 2) NAMED(make)(c, &area, 2, 0);
        else NAMED(make)(c, &area, 1, 0);
    }
    TILES_END();
    meet(team);
}

static void NAMED(convolve)(const struct amx_convolution *c) {
    struct team team = {0};
#pragma omp parallel
    NAMED(convolve_in_team)(c, &team);
}
