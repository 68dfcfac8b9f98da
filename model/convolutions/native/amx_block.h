/* RRDBs over bands of rows, in one call. amx.c includes this file twice: for tiles in registers and in memory. */

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

/* Fill a row of the buffer from column `first` to `end`, including padding. Padding that repeats a row is written
 * together with it. */
INLINE void NAMED(fill_row)(const struct band *d, int plane, int row, int first, int end) {
    const struct amx_trunk *t = d->t;
    const ptrdiff_t size = row_size(d), all = d->all_channels;
    const size_t bytes = sizeof(uint16_t) * all * (end - first);
    const int cleared = t->cleared;
    uint16_t *line = t->buffer + plane * d->buffer_plane + row * size, *to = line + first * all;
    const int number = d->top + row; /* in the picture */
    if (d->taken && row < d->kept) {
        memcpy(to, d->dense->halo + (plane * (CONVOLUTIONS + 1) + row) * size + first * all, bytes);
    } else if (number < 0 || number >= d->taken + d->height) {
        if (!t->repeats) memset(to, 0, bytes);
    } else {
        const float *from = d->rows + plane * d->rows_plane + (ptrdiff_t)(number - d->taken) * t->width * t->channels;
        for (int column = first ? first : 1; column < at_most(end, t->width + 1); column++) {
            NAMED(round_pixel)(line + column * all, from + (column - 1) * t->channels, t->channels);
            if (cleared) memset(line + column * all + t->channels, 0, sizeof(uint16_t) * cleared);
        }
        if (t->repeats) repeat_input(d, line, first, end, number == 0, t->ends && number == d->taken + d->height - 1);
        else {
            if (first == 0) memset(line, 0, sizeof(uint16_t) * all);
            if (end == t->width + 2) memset(line + (end - 1) * all, 0, sizeof(uint16_t) * all);
        }
    }
}

/* Run a dense block in pieces of a few rows, which fit into a core's cache; all threads of a team call this
 * together. */
static void NAMED(dense)(const struct band *d, struct team *team) {
    const struct amx_trunk *t = d->t;
    const ptrdiff_t size = row_size(d);
    const int next_top = complete(d->taken + d->height, CONVOLUTIONS, 0) - 1, last = d->taken + d->height;
    const struct division divided = division_of(t->planes, t->width);
    for (int begin = d->taken, end; begin < last; begin = end) {
        end = at_most(begin + t->piece, last);
        const int first_row = begin == d->taken ? 0 : begin - d->top, end_row = end == last ? d->buffer_rows : end - d->top;
#pragma omp for collapse(3) schedule(static) nowait
        for (int plane = 0; plane < t->planes; plane++)
            for (int part = 0; part < divided.parts; part++)
                for (int line = first_row; line < end_row; line++)
                    NAMED(fill_row)(d, plane, line, part_begin(&divided, part), part_end(&divided, part, t->width));
        meet(team);
        for (int number = 0; number < CONVOLUTIONS; number++) {
            const struct amx_convolution c = convolution_of(d, number, begin, end);
            if (c.rows > 0) NAMED(convolve_in_team)(&c, team);
        }
    }
    if (t->ends) return;
#pragma omp for collapse(3) schedule(static) nowait
    for (int plane = 0; plane < t->planes; plane++)
        for (int part = 0; part < divided.parts; part++)
            for (int line = next_top; line < last; line++) {
                const int first = part_begin(&divided, part), end = part_end(&divided, part, t->width);
                memcpy(d->dense->halo + (plane * (CONVOLUTIONS + 1) + line - next_top) * size + first * d->all_channels,
                       t->buffer + plane * d->buffer_plane + (line - d->top) * size + first * d->all_channels,
                       sizeof(uint16_t) * d->all_channels * (end - first));
            }
    keep_rows(t, d->dense->waiting, CONVOLUTIONS, d->rows, d->rows_plane, d->taken, d->height);
    meet(team);
}

/* Run one RRDB; return the number of rows that it completes. */
static struct rows NAMED(block)(const struct amx_trunk *t, int number, struct rows in, struct team *team) {
    enum { ALL = DENSE_BLOCKS * CONVOLUTIONS };
    const struct amx_block *b = t->blocks[number];
    struct band d = {.t = t, .all_channels = t->channels + 4 * t->growth};
    struct rows rows = in;
    int taken = b->taken;
    for (int dense = 0; dense < DENSE_BLOCKS; dense++) {
        const int is_last = dense == DENSE_BLOCKS - 1, before = complete(taken, CONVOLUTIONS, 0);
        const struct rows made = rows_between(t, number, dense, complete(taken + rows.height, CONVOLUTIONS, t->ends) - before);
        d.dense = b->dense + dense;
        d.rows = rows.first, d.rows_plane = rows.plane, d.made = made.first, d.made_plane = made.plane;
        d.taken = taken, d.height = rows.height, d.top = before - 1, d.kept = taken - d.top;
        d.buffer_rows = d.kept + rows.height + t->ends;
        d.buffer_plane = d.buffer_rows * row_size(&d);
        if (is_last) d.outer = skip_of(t, b->waiting, ALL, in.first, in.plane, b->taken);
        if (rows.height) NAMED(dense)(&d, team);
        rows = made;
        taken = before;
    }
    if (!t->ends) keep_rows(t, b->waiting, ALL, in.first, in.plane, b->taken, in.height);
    return rows;
}

static void NAMED(trunk)(const struct amx_trunk *t) {
    struct team team = {0};
#pragma omp parallel
    {
        struct rows rows = {(float *)t->rows, t->rows_plane, t->height};
        for (int number = 0; number < t->count && rows.height; number++) rows = NAMED(block)(t, number, rows, &team);
    }
    for (int number = 0, height = t->height; number < t->count; number++) {
        int *taken = &t->blocks[number]->taken, before = complete(*taken, DENSE_BLOCKS * CONVOLUTIONS, 0);
        *taken += height;
        height = complete(*taken, DENSE_BLOCKS * CONVOLUTIONS, t->ends) - before;
    }
}
