/* The end of a generator over bands of rows, in one call: convolutions, some of them after an enlargement by nearest
 * neighbour. amx.c includes it for tiles in registers and in memory.
 *
 * It works in pieces of few rows, so that the caches hold them. Each convolution has a window, in which two halo rows are
 * followed by the new ones; the convolution before it stores its result there, enlarged. The weights of the last one are the
 * sum of two in bfloat16: it makes 2 x colours channels, and both halves are added.
 */

/* A convolution in one piece. Row `top` of its picture is the first in its window. */
struct NAMED(piece) {
    int taken, came, done, next_done, top;
};

static struct NAMED(piece) NAMED(piece_of)(int taken, int came, int ends) {
    struct NAMED(piece) p = {taken, came, NAMED(complete)(taken, 1, 0), NAMED(complete)(taken + came, 1, ends), 0};
    p.top = p.done - 1;
    return p;
}

static inline ptrdiff_t NAMED(window_row)(const struct amx_tail *t, int width) { return (ptrdiff_t)(width + 2) * t->channels; }

/* Return a row of a window of a plane. */
static inline uint16_t *NAMED(window_at)(const struct amx_tail *t, const struct amx_step *step, int width, int plane, int row) {
    return step->window + ((ptrdiff_t)plane * step->window_rows + row) * NAMED(window_row)(t, width);
}

/* Begin a window with its halo rows, or with padding above the picture; padding of zeros is on all sides. */
static void NAMED(open)(const struct amx_tail *t, const struct amx_step *step, int width, int plane) {
    const ptrdiff_t size = NAMED(window_row)(t, width), channels = t->channels;
    uint16_t *first = NAMED(window_at)(t, step, width, plane, 0);
    if (!t->repeats)
        for (uint16_t *row = first, *end = first + step->window_rows * size; row < end; row += size)
            memset(row, 0, sizeof(uint16_t) * channels), memset(row + size - channels, 0, sizeof(uint16_t) * channels);
    if (step->taken) memcpy(first, step->halo + 2 * plane * size, sizeof(uint16_t) * 2 * size);
    else if (!t->repeats) memset(first, 0, sizeof(uint16_t) * size);
}

static void NAMED(close)(const struct amx_tail *t, const struct amx_step *step, int width, int plane) {
    const ptrdiff_t size = NAMED(window_row)(t, width);
    memcpy(step->halo + 2 * plane * size, NAMED(window_at)(t, step, width, plane, 0), sizeof(uint16_t) * 2 * size);
}

/* Round a row of the input, and store it in the first window as often as the enlargement says. */
static void NAMED(enter_row)(const struct amx_tail *t, int plane, int row, int to, int is_last) {
    const struct amx_step *step = t->steps;
    const int width = step->factor * t->width;
    const ptrdiff_t size = NAMED(window_row)(t, width);
    const float *from = t->rows + plane * t->rows_plane + (ptrdiff_t)row * t->width * t->channels;
    uint16_t *line = NAMED(window_at)(t, step, width, plane, to), *pixel = line + t->channels, *border = pixel + width * t->channels;
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

static struct amx_convolution NAMED(step_of)(const struct amx_tail *t, int number, const struct NAMED(piece) *p, int width, int next_top, int ends) {
    const struct amx_step *step = t->steps + number, *next = step + 1;
    const int is_last = number == t->count - 1, factor = is_last ? 1 : next->factor;
    const ptrdiff_t row = NAMED(window_row)(t, width), next_row = NAMED(window_row)(t, factor * width);
    const struct steps window = {step->window_rows * row, row, t->channels};
    const struct steps made = {next->window_rows * next_row, next_row, t->channels};
    const struct steps exact = {t->sums_plane, (ptrdiff_t)width * 2 * t->colours, 2 * t->colours};
    return (struct amx_convolution){
        .window = step->window,
        .weights = step->weights,
        .bias = step->bias,
        .made = is_last ? NULL : next->window + (factor * p->done - next_top) * next_row + t->channels,
        .exact = is_last ? t->sums : NULL,
        .window_steps = window,
        .made_steps = made,
        .exact_steps = exact,
        .planes = t->planes,
        .rows = p->next_done - p->done,
        .width = width,
        .in_channels = t->channels,
        .out_channels = is_last ? 2 * t->colours : t->channels,
        .factor = factor,
        .repeats = t->repeats && !is_last ? REPEAT_SIDES | (p->done == 0 ? REPEAT_ABOVE : 0) | (ends ? REPEAT_BELOW : 0) : 0,
        .negative_slope = is_last ? 1 : t->negative_slope,
    };
}

/* Add both halves of the last result. */
static void NAMED(leave)(const struct amx_tail *t, int rows, int width, int to) {
    const ptrdiff_t size = (ptrdiff_t)width * t->colours;
#pragma omp for collapse(2) schedule(static)
    for (int plane = 0; plane < t->planes; plane++)
        for (int row = 0; row < rows; row++) {
            const float *from = t->sums + plane * t->sums_plane + 2 * row * size;
            float *made = t->made + plane * t->made_plane + (to + row) * size;
            for (int pixel = 0; pixel < width; pixel++, from += t->colours)
                for (int colour = 0; colour < t->colours; colour++, from++) *made++ = from[0] + from[t->colours];
        }
}

/* Move the rows that the next piece needs to the beginning of a window. */
static void NAMED(keep)(const struct amx_tail *t, const struct amx_step *step, const struct NAMED(piece) *p, int width) {
    const int first = p->next_done - 1 - p->top, kept = p->taken + p->came - (p->next_done - 1);
    const ptrdiff_t size = NAMED(window_row)(t, width), part = (ptrdiff_t)PART_PIXELS * t->channels;
    if (first <= 0) return;
#pragma omp for collapse(2) schedule(static) nowait
    for (int plane = 0; plane < t->planes; plane++)
        for (ptrdiff_t at = 0; at < size; at += part)
            for (int row = 0; row < kept; row++) {
                uint16_t *to = NAMED(window_at)(t, step, width, plane, row) + at;
                memcpy(to, to + first * size, sizeof(uint16_t) * (size - at < part ? size - at : part));
            }
}

static void NAMED(tail)(struct amx_tail *t) {
    int taken[MAX_STEPS];
#pragma omp parallel private(taken)
    {
        int made = 0;
        for (int number = 0, width = t->width; number < t->count; number++) {
            taken[number] = t->steps[number].taken;
            width *= t->steps[number].factor;
#pragma omp for nowait
            for (int plane = 0; plane < t->planes; plane++) NAMED(open)(t, t->steps + number, width, plane);
        }
#pragma omp barrier
        for (int first = 0; first < t->height; first += t->piece) {
            const int rows = at_most(t->piece, t->height - first), ends = t->ends && first + rows == t->height;
            int came = t->steps->factor * rows, width = t->width;
            const int top = NAMED(complete)(taken[0], 1, 0) - 1;
#pragma omp for collapse(2) schedule(static)
            for (int plane = 0; plane < t->planes; plane++)
                for (int row = 0; row < rows; row++)
                    NAMED(enter_row)(t, plane, first + row, taken[0] + t->steps->factor * row - top, ends && row == rows - 1);
            for (int number = 0; number < t->count; number++) {
                const struct amx_step *step = t->steps + number;
                const struct NAMED(piece) p = NAMED(piece_of)(taken[number], came, ends);
                const int next_top = number < t->count - 1 ? NAMED(complete)(taken[number + 1], 1, 0) - 1 : 0;
                width *= step->factor;
                if (ends && !t->repeats) {
                    const ptrdiff_t size = NAMED(window_row)(t, width);
#pragma omp for
                    for (int plane = 0; plane < t->planes; plane++)
                        memset(NAMED(window_at)(t, step, width, plane, p.taken + p.came - p.top), 0, sizeof(uint16_t) * size);
                }
                const struct amx_convolution c = NAMED(step_of)(t, number, &p, width, next_top, ends);
                if (c.rows > 0) NAMED(convolve_in_team)(&c);
                if (c.exact) NAMED(leave)(t, c.rows, width, made), made += c.rows;
                if (!ends) NAMED(keep)(t, step, &p, width);
                taken[number] += came;
                came = number < t->count - 1 ? step[1].factor * c.rows : 0;
            }
        }
#pragma omp barrier
        for (int number = 0, width = t->width; number < t->count; number++) {
            width *= t->steps[number].factor;
            if (t->ends) break;
#pragma omp for
            for (int plane = 0; plane < t->planes; plane++) NAMED(close)(t, t->steps + number, width, plane);
        }
#pragma omp single
        for (int number = 0; number < t->count; number++) t->steps[number].taken = taken[number];
    }
}
