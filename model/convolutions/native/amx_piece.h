/* The windows of the tail of a generator, for amx_tail.h.
 *
 * Each convolution has a window: two halo rows, followed by the new rows, which the previous convolution stores there,
 * enlarged. Each weight of the last convolution is the sum of two bfloat16 values: it computes 2 x colours channels,
 * and both halves are added.
 */

/* A convolution in one piece. Row `top` of its picture is the first row of its window. */
struct piece {
    int taken, came, done, next_done, top;
};

static struct piece piece_of(int taken, int came, int ends) {
    struct piece p = {taken, came, complete(taken, 1, 0), complete(taken + came, 1, ends), 0};
    p.top = p.done - 1;
    return p;
}

static inline ptrdiff_t window_row(const struct amx_tail *t, int width) { return (ptrdiff_t)(width + 2) * t->channels; }

/* Return a row of a window of a plane. */
static inline uint16_t *window_at(const struct amx_tail *t, const struct amx_step *step, int width, int plane, int row) {
    return step->window + ((ptrdiff_t)plane * step->window_rows + row) * window_row(t, width);
}

/* Start a window with its halo rows, or with padding above the picture; zero padding is on three sides. */
static void open_window(const struct amx_tail *t, const struct amx_step *step, int width, int plane) {
    const ptrdiff_t size = window_row(t, width), channels = t->channels;
    uint16_t *first = window_at(t, step, width, plane, 0);
    if (!t->repeats)
        for (uint16_t *row = first, *end = first + step->window_rows * size; row < end; row += size)
            memset(row, 0, sizeof(uint16_t) * channels), memset(row + size - channels, 0, sizeof(uint16_t) * channels);
    if (step->taken) memcpy(first, step->halo + 2 * plane * size, sizeof(uint16_t) * 2 * size);
    else if (!t->repeats) memset(first, 0, sizeof(uint16_t) * size);
}

static void close_window(const struct amx_tail *t, const struct amx_step *step, int width, int plane) {
    const ptrdiff_t size = window_row(t, width);
    memcpy(step->halo + 2 * plane * size, window_at(t, step, width, plane, 0), sizeof(uint16_t) * 2 * size);
}

static struct amx_convolution step_of(const struct amx_tail *t, int number, const struct piece *p, int width, int next_top, int ends) {
    const struct amx_step *step = t->steps + number, *next = step + 1; /* of the last one unused */
    const int is_last = number == t->count - 1, factor = is_last ? 1 : next->factor;
    const ptrdiff_t row = window_row(t, width), next_row = window_row(t, factor * width);
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
static void add_halves(const struct amx_tail *t, int rows, int width, int to, struct team *team) {
    const ptrdiff_t size = (ptrdiff_t)width * t->colours;
#pragma omp for collapse(2) schedule(static) nowait
    for (int plane = 0; plane < t->planes; plane++)
        for (int row = 0; row < rows; row++) {
            const float *from = t->sums + plane * t->sums_plane + 2 * row * size;
            float *made = t->made + plane * t->made_plane + (to + row) * size;
            for (int pixel = 0; pixel < width; pixel++, from += t->colours)
                for (int colour = 0; colour < t->colours; colour++, from++) *made++ = from[0] + from[t->colours];
        }
    meet(team);
}

/* Move the rows that the next piece needs to the start of a window. This needs no barrier: before any of these rows is
 * read, or written by the previous convolution, all threads meet in `add_halves`, or for the rows of the last
 * convolution after `enter_row`. */
static void keep_halo(const struct amx_tail *t, const struct amx_step *step, const struct piece *p, int width) {
    const int first = p->next_done - 1 - p->top, kept = p->taken + p->came - (p->next_done - 1);
    const ptrdiff_t size = window_row(t, width), part = (ptrdiff_t)PART_PIXELS * t->channels;
    if (first <= 0) return;
#pragma omp for collapse(2) schedule(static) nowait
    for (int plane = 0; plane < t->planes; plane++)
        for (ptrdiff_t at = 0; at < size; at += part)
            for (int row = 0; row < kept; row++) {
                uint16_t *to = window_at(t, step, width, plane, row) + at;
                memcpy(to, to + first * size, sizeof(uint16_t) * (size - at < part ? size - at : part));
            }
}
