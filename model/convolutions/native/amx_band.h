/* The rows of an RRDB in bands, for amx_block.h: the rows that each convolution can compute, and their places.
 *
 * A convolution is complete one row behind its input, until the picture ends. So the number of input rows determines
 * all others: convolution k of a dense block has computed all rows but the last k.
 *
 * A dense block works in a buffer that has all of its channels: its input, then the result of each growing convolution.
 * Chunks that begin in the middle of a cache line are slow to read, so a convolution reads whole chunks, if a pixel has
 * enough channels. The weights of channels that are computed later, or at the same time, are zero; in new pixels these
 * channels are zero, because their values must be finite.
 * Row `top` of the picture is the first row in it: the halo rows, the new rows, and a row of padding below the picture.
 */

/* A dense block in one band. */
struct band {
    const struct amx_trunk *t;
    const struct amx_dense *dense;
    const float *rows;
    float *made;
    ptrdiff_t rows_plane, made_plane, buffer_plane;
    struct skip outer;
    int all_channels, taken, height, top, kept, buffer_rows;
};

/* Rows passed from one dense block to the next. */
struct rows {
    float *first;
    ptrdiff_t plane;
    int height;
};

/* Return the buffer for the result of a dense block: neither its own input nor that of the RRDB. */
static struct rows rows_between(const struct amx_trunk *t, int block, int dense, int height) {
    const int own = block % 2 ? 2 : 0; /* the other one has the input of the RRDB */
    if (dense == DENSE_BLOCKS - 1 && block == t->count - 1) return (struct rows){t->made, t->made_plane, height};
    return (struct rows){t->between[dense == 1 ? 1 : own], (ptrdiff_t)height * t->width * t->channels, height};
}

/* Rows that are complete after a convolution that lags `lag` rows behind. */
static inline int complete(int taken, int lag, int ends) { return ends ? taken : taken > lag ? taken - lag : 0; }

static inline ptrdiff_t row_size(const struct band *d) { return (ptrdiff_t)(d->t->width + 2) * d->all_channels; }

static inline int channels_before(const struct amx_trunk *t, int number) { return t->channels + number * t->growth; }

/* Repeat the pixels at the border of a new row of the input outside the picture, for the columns from `first` to `end`. */
static void repeat_input(const struct band *d, uint16_t *row, int first, int end, int is_first, int is_last) {
    const struct amx_trunk *t = d->t;
    const ptrdiff_t all = d->all_channels;
    const size_t bytes = sizeof(uint16_t) * all;
    if (first == 0) memcpy(row, row + all, bytes);
    if (end == t->width + 2) memcpy(row + (end - 1) * all, row + (end - 2) * all, bytes);
    for (uint16_t *here = row + first * all; here < row + end * all; here += all) {
        if (is_first) memcpy(here - row_size(d), here, bytes);
        if (is_last) memcpy(here + row_size(d), here, bytes);
    }
}

/* The columns of a part in the buffer: the padding belongs to the first and the last one. */
static inline int part_begin(const struct division *divided, int part) { return part ? part * divided->pixels + 1 : 0; }
static inline int part_end(const struct division *divided, int part, int width) {
    return part == divided->parts - 1 ? width + 2 : (part + 1) * divided->pixels + 1;
}

static struct skip skip_of(const struct amx_trunk *t, const float *waiting, int lag, const float *rows, ptrdiff_t plane, int taken) {
    const ptrdiff_t row = (ptrdiff_t)t->width * t->channels;
    return (struct skip){waiting, rows, {plane, row, t->channels}, lag * row, at_most(taken, lag), 1, t->scaling};
}

/* Skip the first rows of a residual. */
static void skip_rows(struct skip *s, ptrdiff_t rows) {
    const ptrdiff_t earlier = rows < s->earlier_rows ? rows : s->earlier_rows;
    if (!s->rows) return;
    s->earlier = (const float *)s->earlier + earlier * s->steps.row;
    s->rows = (const float *)s->rows + (rows - earlier) * s->steps.row;
    s->earlier_rows -= (int)earlier;
}

/* A convolution over the rows that input up to `until` allows, without those that input up to `begin` has allowed. */
static struct amx_convolution convolution_of(const struct band *d, int number, int begin, int until) {
    const struct amx_trunk *t = d->t;
    const int is_last = number == CONVOLUTIONS - 1, lag = number + 1;
    const int is_final = until == d->taken + d->height, ends = t->ends && is_final;
    const int first = complete(begin, lag, 0), end = complete(until, lag, ends);
    const ptrdiff_t done = first - complete(d->taken, CONVOLUTIONS, 0); /* rows of this band computed before */
    const struct steps wide = {d->buffer_plane, row_size(d), d->all_channels};
    struct amx_convolution c = {
        .window = t->buffer + (first - 1 - d->top) * wide.row,
        .weights = d->dense->weights[number],
        .bias = d->dense->bias[number],
        .made = is_last ? NULL : t->buffer + (first - d->top) * wide.row + d->all_channels + channels_before(t, number),
        .exact = is_last ? d->made + done * t->width * t->channels : NULL,
        .window_steps = wide,
        .made_steps = wide,
        .exact_steps = {d->made_plane, (ptrdiff_t)t->width * t->channels, t->channels},
        .planes = t->planes,
        .rows = end - first,
        .width = t->width,
        .in_channels = t->reads[number],
        .out_channels = is_last ? t->channels : t->growth,
        .factor = 1,
        .negative_slope = is_last ? 1 : t->negative_slope,
    };
    if (is_last) {
        c.skips[0] = skip_of(t, d->dense->waiting, CONVOLUTIONS, d->rows, d->rows_plane, d->taken);
        c.skips[1] = d->outer;
        for (int skip = 0; skip < 2; skip++) skip_rows(c.skips + skip, done);
    } else if (t->repeats) {
        c.repeats = REPEAT_SIDES | (first == 0 ? REPEAT_ABOVE : 0) | (ends ? REPEAT_BELOW : 0);
    }
    return c;
}

/* Keep the last `lag` of the waiting and new rows for the next band. All threads of a team call this. */
static void keep_rows(const struct amx_trunk *t, float *waiting, int lag, const float *rows, ptrdiff_t plane_size, int taken, int height) {
    const struct division divided = division_of(t->planes, t->width);
    const ptrdiff_t row = (ptrdiff_t)t->width * t->channels;
    const int waited = at_most(taken, lag), kept = at_most(waited + height, lag), old = kept - at_most(height, lag);
#pragma omp for collapse(2) schedule(static) nowait
    for (int plane = 0; plane < t->planes; plane++)
        for (int part = 0; part < divided.parts; part++) {
            const int first = part * divided.pixels, pixels = at_most(divided.pixels, t->width - first);
            float *to = waiting + plane * lag * row + (ptrdiff_t)first * t->channels;
            const float *from = rows + plane * plane_size + (ptrdiff_t)first * t->channels;
            for (int number = 0; number < kept; number++)
                memmove(to + number * row, number < old ? to + (waited - old + number) * row : from + (height - kept + number) * row,
                        sizeof(float) * pixels * t->channels);
        }
}
