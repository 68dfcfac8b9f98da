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

/* Repeat the pixels at the border of a new row of the input outside the picture, for the columns from `first` to `end`. */
static void NAMED(repeat_input)(const struct NAMED(band) *d, uint16_t *row, int first, int end, int is_first, int is_last) {
    const struct amx_block *b = d->b;
    const size_t bytes = sizeof(uint16_t) * b->channels;
    const ptrdiff_t all = d->all_channels;
    if (first == 0) memcpy(row, row + all, bytes);
    if (end == b->width + 2) memcpy(row + (end - 1) * all, row + (end - 2) * all, bytes);
    for (uint16_t *here = row + first * all; here < row + end * all; here += all) {
        if (is_first) memcpy(here - NAMED(row_size)(d), here, bytes);
        if (is_last) memcpy(here + NAMED(row_size)(d), here, bytes);
    }
}

/* Fill a row of the buffer from the column `first` to `end`, padding included. Padding that repeats is written together with
 * the row that it repeats. */
INLINE void NAMED(fill_row)(const struct NAMED(band) *d, int plane, int row, int first, int end) {
    const struct amx_block *b = d->b;
    const ptrdiff_t size = NAMED(row_size)(d), all = d->all_channels;
    const size_t bytes = sizeof(uint16_t) * all * (end - first);
    uint16_t *line = b->buffer + plane * d->buffer_plane + row * size, *to = line + first * all;
    const int number = d->top + row; /* in the picture */
    if (d->taken && row < d->kept) {
        memcpy(to, d->dense->halo + (plane * (CONVOLUTIONS + 1) + row) * size + first * all, bytes);
    } else if (number < 0 || number >= d->taken + d->height) {
        if (!b->repeats) memset(to, 0, bytes);
    } else {
        const float *from = d->rows + plane * d->rows_plane + (ptrdiff_t)(number - d->taken) * b->width * b->channels;
        for (int column = first ? first : 1; column < at_most(end, b->width + 1); column++)
            NAMED(round_pixel)(line + column * all, from + (column - 1) * b->channels, b->channels);
        if (b->repeats) NAMED(repeat_input)(d, line, first, end, number == 0, b->ends && number == d->taken + d->height - 1);
        else {
            if (first == 0) memset(line, 0, sizeof(uint16_t) * all);
            if (end == b->width + 2) memset(line + (end - 1) * all, 0, sizeof(uint16_t) * all);
        }
    }
}

/* The columns of a part in the buffer: the padding belongs to the first and the last one. */
static inline int NAMED(part_begin)(const struct division *divided, int part) { return part ? part * divided->pixels + 1 : 0; }
static inline int NAMED(part_end)(const struct division *divided, int part, int width) {
    return part == divided->parts - 1 ? width + 2 : (part + 1) * divided->pixels + 1;
}

static struct skip NAMED(skip_of)(const struct amx_block *b, const float *waiting, int lag, const float *rows, ptrdiff_t plane, int taken) {
    const ptrdiff_t row = (ptrdiff_t)b->width * b->channels;
    return (struct skip){waiting, rows, {plane, row, b->channels}, lag * row, at_most(taken, lag), 1, b->scaling};
}

/* Leave out the first rows of a skip. */
static void NAMED(skip_rows)(struct skip *s, ptrdiff_t rows) {
    const ptrdiff_t earlier = rows < s->earlier_rows ? rows : s->earlier_rows;
    if (!s->rows) return;
    s->earlier = (const float *)s->earlier + earlier * s->steps.row;
    s->rows = (const float *)s->rows + (rows - earlier) * s->steps.row;
    s->earlier_rows -= (int)earlier;
}

/* A convolution of the rows that it can make of those until `end`, without those that it made of the ones until `begin`. */
static struct amx_convolution NAMED(convolution_of)(const struct NAMED(band) *d, int number, int begin, int until) {
    const struct amx_block *b = d->b;
    const int in_channels = b->channels + number * b->growth, is_last = number == CONVOLUTIONS - 1, lag = number + 1;
    const int is_final = until == d->taken + d->height, ends = b->ends && is_final;
    const int first = NAMED(complete)(begin, lag, 0), end = NAMED(complete)(until, lag, ends);
    const ptrdiff_t done = first - NAMED(complete)(d->taken, CONVOLUTIONS, 0); /* rows of this band that were made before */
    const struct steps wide = {d->buffer_plane, NAMED(row_size)(d), d->all_channels};
    struct amx_convolution c = {
        .window = b->buffer + (first - 1 - d->top) * wide.row,
        .weights = d->dense->weights[number],
        .bias = d->dense->bias[number],
        .made = is_last ? NULL : b->buffer + (first - d->top) * wide.row + d->all_channels + in_channels,
        .exact = is_last ? d->made + done * b->width * b->channels : NULL,
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
        for (int skip = 0; skip < 2; skip++) NAMED(skip_rows)(c.skips + skip, done);
    } else if (b->repeats) {
        c.repeats = REPEAT_SIDES | (first == 0 ? REPEAT_ABOVE : 0) | (ends ? REPEAT_BELOW : 0);
    }
    return c;
}

/* Keep the last `lag` rows of a plane for the next band: of those that waited, and the new ones. */
static void NAMED(keep_rows)(float *waiting, int waited, const float *rows, int height, ptrdiff_t row, int lag) {
    const int kept = at_most(waited + height, lag), new_rows = at_most(height, lag), old = kept - new_rows;
    memmove(waiting, waiting + (waited - old) * row, sizeof(float) * old * row);
    memcpy(waiting + old * row, rows + (height - new_rows) * row, sizeof(float) * new_rows * row);
}

/* Run a dense block, in pieces of few rows, which a core's cache holds; all threads of a team call this together. */
static void NAMED(dense)(const struct NAMED(band) *d) {
    const struct amx_block *b = d->b;
    const ptrdiff_t size = NAMED(row_size)(d), row = (ptrdiff_t)b->width * b->channels;
    const int next_top = NAMED(complete)(d->taken + d->height, CONVOLUTIONS, 0) - 1, last = d->taken + d->height;
    const struct division divided = division_of(b->planes, b->width);
    for (int begin = d->taken, end; begin < last; begin = end) {
        end = at_most(begin + b->piece, last);
        const int first_row = begin == d->taken ? 0 : begin - d->top, end_row = end == last ? d->buffer_rows : end - d->top;
#pragma omp for collapse(3) schedule(static)
        for (int plane = 0; plane < b->planes; plane++)
            for (int part = 0; part < divided.parts; part++)
                for (int line = first_row; line < end_row; line++)
                    NAMED(fill_row)(d, plane, line, NAMED(part_begin)(&divided, part), NAMED(part_end)(&divided, part, b->width));
        for (int number = 0; number < CONVOLUTIONS; number++) {
            const struct amx_convolution c = NAMED(convolution_of)(d, number, begin, end);
            if (c.rows > 0) NAMED(convolve_in_team)(&c);
        }
    }
    if (b->ends) return;
#pragma omp for collapse(3) schedule(static)
    for (int plane = 0; plane < b->planes; plane++)
        for (int part = 0; part < divided.parts; part++)
            for (int line = next_top; line < last; line++) {
                const int first = NAMED(part_begin)(&divided, part), end = NAMED(part_end)(&divided, part, b->width);
                memcpy(d->dense->halo + (plane * (CONVOLUTIONS + 1) + line - next_top) * size + first * d->all_channels,
                       b->buffer + plane * d->buffer_plane + (line - d->top) * size + first * d->all_channels,
                       sizeof(uint16_t) * d->all_channels * (end - first));
            }
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
