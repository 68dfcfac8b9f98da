/* The tail of a generator over bands of rows, in one call: convolutions, some of them after a nearest-neighbour
 * enlargement. It works in pieces of a few rows, which fit into the caches. amx.c includes this file twice: for tiles
 * in registers and in memory.
 */

/* Round a row of the input, and store it in the first window, enlarged. */
static void NAMED(enter_row)(const struct amx_tail *t, int plane, int row, int to, int is_last) {
    const struct amx_step *step = t->steps;
    const int width = step->factor * t->width;
    const ptrdiff_t size = window_row(t, width);
    const float *from = t->rows + plane * t->rows_plane + (ptrdiff_t)row * t->width * t->channels;
    uint16_t *line = window_at(t, step, width, plane, to), *pixel = line + t->channels, *border = pixel + width * t->channels;
    for (int column = 0; column < t->width; column++, from += t->channels)
        for (int copy = 0; copy < step->factor; copy++, pixel += t->channels) NAMED(round_pixel)(pixel, from, t->channels);
    if (t->repeats) {
        memcpy(line, line + t->channels, sizeof(uint16_t) * t->channels);
        memcpy(border, border - t->channels, sizeof(uint16_t) * t->channels);
    }
    for (int copy = 1; copy < step->factor; copy++) memcpy(line + copy * size, line, sizeof(uint16_t) * size);
    if (t->repeats && step->taken + row == 0) memcpy(line - size, line, sizeof(uint16_t) * size);
    if (t->repeats && is_last) memcpy(line + step->factor * size, line, sizeof(uint16_t) * size);
}

static void NAMED(tail)(struct amx_tail *t) {
    int taken[MAX_STEPS];
    struct team team = {0};
#pragma omp parallel private(taken)
    {
        int made = 0;
        for (int number = 0, width = t->width; number < t->count; number++) {
            taken[number] = t->steps[number].taken;
            width *= t->steps[number].factor;
#pragma omp for nowait
            for (int plane = 0; plane < t->planes; plane++) open_window(t, t->steps + number, width, plane);
        }
        meet(&team);
        for (int first = 0; first < t->height; first += t->piece) {
            const int rows = at_most(t->piece, t->height - first), ends = t->ends && first + rows == t->height;
            int came = t->steps->factor * rows, width = t->width;
            const int top = complete(taken[0], 1, 0) - 1;
#pragma omp for collapse(2) schedule(static) nowait
            for (int plane = 0; plane < t->planes; plane++)
                for (int row = 0; row < rows; row++)
                    NAMED(enter_row)(t, plane, first + row, taken[0] + t->steps->factor * row - top, ends && row == rows - 1);
            meet(&team);
            for (int number = 0; number < t->count; number++) {
                const struct amx_step *step = t->steps + number;
                const struct piece p = piece_of(taken[number], came, ends);
                const int next_top = number < t->count - 1 ? complete(taken[number + 1], 1, 0) - 1 : 0;
                width *= step->factor;
                if (ends && !t->repeats) {
                    const ptrdiff_t size = window_row(t, width);
#pragma omp for nowait
                    for (int plane = 0; plane < t->planes; plane++)
                        memset(window_at(t, step, width, plane, p.taken + p.came - p.top), 0, sizeof(uint16_t) * size);
                    meet(&team);
                }
                const struct amx_convolution c = step_of(t, number, &p, width, next_top, ends);
                if (c.rows > 0) NAMED(convolve_in_team)(&c, &team);
                if (c.exact) add_halves(t, c.rows, width, made, &team), made += c.rows;
                if (!ends) keep_halo(t, step, &p, width);
                taken[number] += came;
                came = number < t->count - 1 ? step[1].factor * c.rows : 0;
            }
        }
        meet(&team);
        for (int number = 0, width = t->width; number < t->count; number++) {
            width *= t->steps[number].factor;
            if (t->ends) break;
#pragma omp for nowait
            for (int plane = 0; plane < t->planes; plane++) close_window(t, t->steps + number, width, plane);
        }
#pragma omp single nowait
        for (int number = 0; number < t->count; number++) t->steps[number].taken = taken[number];
    }
}
