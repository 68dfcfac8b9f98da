/* An RRDB over bands of rows, in one call; amx.c includes it for tiles in registers and in memory. */

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

/* Fill a row of the buffer from the column `first` to `end`, padding included. Padding that repeats is written together with
 * the row that it repeats. */
INLINE void NAMED(fill_row)(const struct band *d, int plane, int row, int first, int end) {
    const struct amx_block *b = d->b;
    const ptrdiff_t size = row_size(d), all = d->all_channels;
    const size_t bytes = sizeof(uint16_t) * all * (end - first);
    const int cleared = b->cleared;
    uint16_t *line = b->buffer + plane * d->buffer_plane + row * size, *to = line + first * all;
    const int number = d->top + row; /* in the picture */
    if (d->taken && row < d->kept) {
        memcpy(to, d->dense->halo + (plane * (CONVOLUTIONS + 1) + row) * size + first * all, bytes);
    } else if (number < 0 || number >= d->taken + d->height) {
        if (!b->repeats) memset(to, 0, bytes);
    } else {
        const float *from = d->rows + plane * d->rows_plane + (ptrdiff_t)(number - d->taken) * b->width * b->channels;
        for (int column = first ? first : 1; column < at_most(end, b->width + 1); column++) {
            NAMED(round_pixel)(line + column * all, from + (column - 1) * b->channels, b->channels);
            if (cleared) memset(line + column * all + b->channels, 0, sizeof(uint16_t) * cleared);
        }
        if (b->repeats) repeat_input(d, line, first, end, number == 0, b->ends && number == d->taken + d->height - 1);
        else {
            if (first == 0) memset(line, 0, sizeof(uint16_t) * all);
            if (end == b->width + 2) memset(line + (end - 1) * all, 0, sizeof(uint16_t) * all);
        }
    }
}

/* Run a dense block, in pieces of few rows, which a core's cache holds; all threads of a team call this together. */
static void NAMED(dense)(const struct band *d) {
    const struct amx_block *b = d->b;
    const ptrdiff_t size = row_size(d);
    const int next_top = complete(d->taken + d->height, CONVOLUTIONS, 0) - 1, last = d->taken + d->height;
    const struct division divided = division_of(b->planes, b->width);
    for (int begin = d->taken, end; begin < last; begin = end) {
        end = at_most(begin + b->piece, last);
        const int first_row = begin == d->taken ? 0 : begin - d->top, end_row = end == last ? d->buffer_rows : end - d->top;
#pragma omp for collapse(3) schedule(static)
        for (int plane = 0; plane < b->planes; plane++)
            for (int part = 0; part < divided.parts; part++)
                for (int line = first_row; line < end_row; line++)
                    NAMED(fill_row)(d, plane, line, part_begin(&divided, part), part_end(&divided, part, b->width));
        for (int number = 0; number < CONVOLUTIONS; number++) {
            const struct amx_convolution c = convolution_of(d, number, begin, end);
            if (c.rows > 0) NAMED(convolve_in_team)(&c);
        }
    }
    if (b->ends) return;
#pragma omp for collapse(3) schedule(static) nowait
    for (int plane = 0; plane < b->planes; plane++)
        for (int part = 0; part < divided.parts; part++)
            for (int line = next_top; line < last; line++) {
                const int first = part_begin(&divided, part), end = part_end(&divided, part, b->width);
                memcpy(d->dense->halo + (plane * (CONVOLUTIONS + 1) + line - next_top) * size + first * d->all_channels,
                       b->buffer + plane * d->buffer_plane + (line - d->top) * size + first * d->all_channels,
                       sizeof(uint16_t) * d->all_channels * (end - first));
            }
    keep_rows(b, d->dense->waiting, CONVOLUTIONS, d->rows, d->rows_plane, d->taken, d->height);
}

static void NAMED(block)(const struct amx_block *b) {
    enum { ALL = DENSE_BLOCKS * CONVOLUTIONS };
    const ptrdiff_t row = (ptrdiff_t)b->width * b->channels;
#pragma omp parallel
    {
        struct band d = {.b = b, .rows = b->rows, .rows_plane = b->rows_plane, .all_channels = b->channels + 4 * b->growth};
        int taken = b->taken, height = b->height;
        for (int number = 0; number < DENSE_BLOCKS; number++) {
            const int is_last = number == DENSE_BLOCKS - 1;
            const int before = complete(taken, CONVOLUTIONS, 0);
            const int made = complete(taken + height, CONVOLUTIONS, b->ends) - before;
            d.dense = b->dense + number;
            d.taken = taken, d.height = height, d.top = before - 1, d.kept = taken - d.top;
            d.buffer_rows = d.kept + height + b->ends;
            d.buffer_plane = d.buffer_rows * row_size(&d);
            d.made = is_last ? b->made : b->between[number];
            d.made_plane = is_last ? b->made_plane : made * row;
            if (is_last) d.outer = skip_of(b, b->waiting, ALL, b->rows, b->rows_plane, b->taken);
            if (height) NAMED(dense)(&d);
            d.rows = d.made, d.rows_plane = d.made_plane;
            taken = before, height = made;
        }
        if (!b->ends) keep_rows(b, b->waiting, ALL, b->rows, b->rows_plane, b->taken, b->height);
    }
}
