/* An RRDB over bands of rows, in one call; amx.c includes it for tiles in registers and in memory.
 *
 * A convolution is complete one row behind its input, until the picture ends. So from the number of rows that came in
 * follows all else: convolution k of a dense block has made all rows but the last k.
 *
 * A dense block works in a buffer that has all of its channels: its input, then the result of each growing convolution.
 * Row `top` of the picture is the first row in it: the halo rows, the new rows, and a row of padding below the picture.
 */

/* A dense block in one band. */
struct NAMED(band) {
    const struct amx_block *b;
    const struct amx_dense *dense;
    const float *rows;
    float *made;
    ptrdiff_t rows_plane, made_plane, buffer_plane;
    struct skip outer;
    int all_channels, taken, height, top, kept, buffer_rows;
};

/* Rows that are complete after a convolution that stays `lag` rows behind. */
static inline int NAMED(complete)(int taken, int lag, int ends) { return ends ? taken : taken > lag ? taken - lag : 0; }

static inline ptrdiff_t NAMED(row_size)(const struct NAMED(band) *d) { return (ptrdiff_t)(d->b->width + 2) * d->all_channels; }

INLINE void NAMED(round_pixel)(uint16_t *to, const float *from, int channels) {
    int channel = 0;
    for (; channel + LANES <= channels; channel += LANES) NAMED(put_bfloat16)(to + channel, (const floats *)(from + channel));
    if (channel < channels) {
        floats values = {0};
        uint16_t rounded[LANES];
        memcpy(&values, from + channel, sizeof(float) * (channels - channel));
        NAMED(put_bfloat16)(rounded, &values);
        memcpy(to + channel, rounded, sizeof(uint16_t) * (channels - channel));
    }
}

/* Repeat the pixels at the border of a new row of the input outside the picture. */
static void NAMED(repeat_input)(const struct NAMED(band) *d, uint16_t *row, int is_first, int is_last) {
    const struct amx_block *b = d->b;
    const size_t bytes = sizeof(uint16_t) * b->channels;
    uint16_t *last = row + b->width * d->all_channels;
    memcpy(row, row + d->all_channels, bytes), memcpy(last + d->all_channels, last, bytes);
    for (uint16_t *here = row; here <= last + d->all_channels; here += d->all_channels) {
        if (is_first) memcpy(here - NAMED(row_size)(d), here, bytes);
        if (is_last) memcpy(here + NAMED(row_size)(d), here, bytes);
    }
}

/* Fill one row of the buffer. Padding that repeats is written together with the row that it repeats. */
INLINE void NAMED(fill_row)(const struct NAMED(band) *d, int plane, int row) {
    const struct amx_block *b = d->b;
    const ptrdiff_t size = NAMED(row_size)(d);
    uint16_t *to = b->buffer + plane * d->buffer_plane + row * size;
    const int number = d->top + row; /* in the picture */
    if (d->taken && row < d->kept) {
        memcpy(to, d->dense->halo + (plane * (CONVOLUTIONS + 1) + row) * size, sizeof(uint16_t) * size);
    } else if (number < 0 || number >= d->taken + d->height) {
        if (!b->repeats) memset(to, 0, sizeof(uint16_t) * size);
    } else {
        const float *from = d->rows + plane * d->rows_plane + (ptrdiff_t)(number - d->taken) * b->width * b->channels;
        for (int pixel = 0; pixel < b->width; pixel++)
            NAMED(round_pixel)(to + (pixel + 1) * d->all_channels, from + pixel * b->channels, b->channels);
        if (b->repeats) NAMED(repeat_input)(d, to, number == 0, b->ends && number == d->taken + d->height - 1);
        else memset(to, 0, sizeof(uint16_t) * d->all_channels), memset(to + size - d->all_channels, 0, sizeof(uint16_t) * d->all_channels);
    }
}

static struct skip NAMED(skip_of)(const struct amx_block *b, const float *waiting, int lag, const float *rows, ptrdiff_t plane, int taken) {
    const ptrdiff_t row = (ptrdiff_t)b->width * b->channels;
    return (struct skip){waiting, rows, {plane, row, b->channels}, lag * row, at_most(taken, lag), 1, b->scaling};
}

static struct amx_convolution NAMED(convolution_of)(const struct NAMED(band) *d, int number) {
    const struct amx_block *b = d->b;
    const int in_channels = b->channels + number * b->growth, is_last = number == CONVOLUTIONS - 1, lag = number + 1;
    const int first = NAMED(complete)(d->taken, lag, 0), end = NAMED(complete)(d->taken + d->height, lag, b->ends);
    const struct steps wide = {d->buffer_plane, NAMED(row_size)(d), d->all_channels};
    struct amx_convolution c = {
        .window = b->buffer + (first - 1 - d->top) * wide.row,
        .weights = d->dense->weights[number],
        .bias = d->dense->bias[number],
        .made = is_last ? NULL : b->buffer + (first - d->top) * wide.row + d->all_channels + in_channels,
        .exact = is_last ? d->made : NULL,
        .window_steps = wide,
        .made_steps = wide,
        .exact_steps = {d->made_plane, (ptrdiff_t)b->width * b->channels, b->channels},
        .planes = b->planes,
        .rows = end - first,
        .width = b->width,
        .in_channels = in_channels,
        .out_channels = is_last ? b->channels : b->growth,
        .factor = 1,
        .negative_slope = is_last ? 1 : b->negative_slope,
    };
    if (is_last) {
        c.skips[0] = NAMED(skip_of)(b, d->dense->waiting, CONVOLUTIONS, d->rows, d->rows_plane, d->taken);
        c.skips[1] = d->outer;
    } else if (b->repeats) {
        c.repeats = REPEAT_SIDES | (first == 0 ? REPEAT_ABOVE : 0) | (b->ends ? REPEAT_BELOW : 0);
    }
    return c;
}

/* Keep the last `lag` rows of a plane for the next band: of those that waited, and the new ones. */
static void NAMED(keep_rows)(float *waiting, int waited, const float *rows, int height, ptrdiff_t row, int lag) {
    const int kept = at_most(waited + height, lag), new_rows = at_most(height, lag), old = kept - new_rows;
    memmove(waiting, waiting + (waited - old) * row, sizeof(float) * old * row);
    memcpy(waiting + old * row, rows + (height - new_rows) * row, sizeof(float) * new_rows * row);
}

/* Run a dense block; all threads of a team call this together. */
static void NAMED(dense)(const struct NAMED(band) *d) {
    const struct amx_block *b = d->b;
    const ptrdiff_t size = NAMED(row_size)(d), row = (ptrdiff_t)b->width * b->channels;
    const int next_top = NAMED(complete)(d->taken + d->height, CONVOLUTIONS, 0) - 1;
#pragma omp for collapse(2) schedule(static)
    for (int plane = 0; plane < b->planes; plane++)
        for (int line = 0; line < d->buffer_rows; line++) NAMED(fill_row)(d, plane, line);
    for (int number = 0; number < CONVOLUTIONS; number++) {
        const struct amx_convolution c = NAMED(convolution_of)(d, number);
        if (c.rows > 0) NAMED(convolve_in_team)(&c);
    }
    if (b->ends) return;
#pragma omp for schedule(static)
    for (int line = next_top; line < d->taken + d->height; line++)
        for (int plane = 0; plane < b->planes; plane++)
            memcpy(d->dense->halo + (plane * (CONVOLUTIONS + 1) + line - next_top) * size,
                   b->buffer + plane * d->buffer_plane + (line - d->top) * size, sizeof(uint16_t) * size);
#pragma omp for schedule(static)
    for (int plane = 0; plane < b->planes; plane++)
        NAMED(keep_rows)(d->dense->waiting + plane * CONVOLUTIONS * row, at_most(d->taken, CONVOLUTIONS),
                         d->rows + plane * d->rows_plane, d->height, row, CONVOLUTIONS);
}

static void NAMED(block)(const struct amx_block *b) {
    enum { ALL = DENSE_BLOCKS * CONVOLUTIONS };
    const ptrdiff_t row = (ptrdiff_t)b->width * b->channels;
#pragma omp parallel
    {
        struct NAMED(band) d = {.b = b, .rows = b->rows, .rows_plane = b->rows_plane, .all_channels = b->channels + 4 * b->growth};
        int taken = b->taken, height = b->height;
        for (int number = 0; number < DENSE_BLOCKS; number++) {
            const int is_last = number == DENSE_BLOCKS - 1;
            const int before = NAMED(complete)(taken, CONVOLUTIONS, 0);
            const int made = NAMED(complete)(taken + height, CONVOLUTIONS, b->ends) - before;
            d.dense = b->dense + number;
            d.taken = taken, d.height = height, d.top = before - 1, d.kept = taken - d.top;
            d.buffer_rows = d.kept + height + b->ends;
            d.buffer_plane = d.buffer_rows * NAMED(row_size)(&d);
            d.made = is_last ? b->made : b->between[number];
            d.made_plane = is_last ? b->made_plane : made * row;
            if (is_last) d.outer = NAMED(skip_of)(b, b->waiting, ALL, b->rows, b->rows_plane, b->taken);
            if (height) NAMED(dense)(&d);
            d.rows = d.made, d.rows_plane = d.made_plane;
            taken = before, height = made;
        }
        if (!b->ends) {
#pragma omp for schedule(static)
            for (int plane = 0; plane < b->planes; plane++)
                NAMED(keep_rows)(b->waiting + plane * ALL * row, at_most(b->taken, ALL), b->rows + plane * b->rows_plane, b->height, row, ALL);
        }
    }
}
