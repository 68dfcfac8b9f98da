/* A convolution between feature maps, optionally after an enlargement, and its gradients. */

/* The input's rows first - 1 .. last, enlarged; returns where pixel (first, 0) is. */
static const half *NAME(window)(const struct conv *conv, int image, int first, int last, half *room) {
    int width = conv->width, factor = conv->enlarge, low_height = conv->height / factor, low_width = width / factor;
    const half *in = conv->in + image * span(low_height, low_width) * conv->in_pixel;
    if (factor == 1) return in + place(width, first, 0) * conv->in_pixel;
    size_t bytes = (size_t)conv->in_channels * sizeof(half);
    for (int y = first - 1; y <= last; y++) {
        int low = y < 0 ? -1 : y / factor;
        half *row = room + (ptrdiff_t)(y - first + 1) * (width + 2) * conv->in_channels;
        for (int x = -1; x <= width; x++, row += conv->in_channels)
            memcpy(row, in + place(low_width, low, x < 0 ? -1 : x / factor) * conv->in_pixel, bytes);
    }
    return room + (ptrdiff_t)(width + 3) * conv->in_channels;
}

static ptrdiff_t NAME(window_pixel)(const struct conv *conv) {
    return conv->enlarge == 1 ? conv->in_pixel : conv->in_channels;
}

/* Channels of the result without padding, rounded up to a tile. */
static int NAME(filled)(const struct conv *conv) {
    return conv->colours ? (conv->colours + 15) / 16 * 16 : conv->out_channels;
}

static void NAME(conv_pack)(const struct conv *conv) {
    NAME(pack)(conv->packed, conv->weights, conv->out_channels, conv->in_channels);
    if (!conv->mirrored) return;
    struct mirror rows[MAX_CHANNELS];
    for (int o = 0; o < conv->out_channels; o++)
        rows[o] = (struct mirror){conv->weights + (ptrdiff_t)o * 9 * conv->in_channels, conv->in_channels};
    NAME(pack_mirrored)(conv->mirrored, rows, conv->out_channels, 0, conv->in_channels);
}

static void NAME(conv_forward)(const struct conv *conv, int image, half *room) {
    int width = conv->width, height = conv->height, tiles = conv->out_channels / 16;
    ptrdiff_t image_size = span(height, width), pixel = NAME(window_pixel)(conv), taps[9];
    int band = BAND_ROWS;
    if (conv->enlarge == 1 && band * (width + 2) * pixel < MAX_WINDOW) band = (int)(MAX_WINDOW / ((width + 2) * pixel));
    taps_of(width, taps);
    half *made = conv->made ? conv->made + image * image_size * conv->made_pixel : NULL;
    for (int first = 0; first < height; first += band) {
        int rows = height - first < band ? height - first : band;
        const half *pixels = NAME(window)(conv, image, first, first + rows, room);
        ptrdiff_t start = place(width, first, 0), number = (ptrdiff_t)rows * (width + 2) - 2;
        ptrdiff_t tiles_m = (number + 15) / 16;
        if (conv->picture) {
            struct NAME(picture) to = {
                conv->picture + ((ptrdiff_t)image * height + first) * width * conv->colours, conv->bias, conv->colours, width,
                number};
            NAME(sweep)(pixels, pixel, taps, conv->in_channels, conv->packed, tiles, tiles_m, NAME(paint), &to);
        } else if (conv->residual) {
            struct NAME(addition) to = {.made = made + start * conv->made_pixel,
                                        .pixel = conv->made_pixel,
                                        .bias = conv->bias,
                                        .own = conv->residual + (image * image_size + start) * conv->residual_pixel,
                                        .own_pixel = conv->residual_pixel,
                                        .scale = 1,
                                        .own_scale = 1};
            NAME(sweep)(pixels, pixel, taps, conv->in_channels, conv->packed, tiles, tiles_m, NAME(add), &to);
        } else {
            struct NAME(activation) to = {made + start * conv->made_pixel, conv->made_pixel, conv->bias, conv->slope, 0};
            NAME(sweep)(pixels, pixel, taps, conv->in_channels, conv->packed, tiles, tiles_m, NAME(activate), &to);
        }
    }
    if (made) fill_border(made, conv->made_pixel, height, width, conv->out_channels, conv->replicate);
}

/* Backward pass: the gradient of the output before its activation -> that of the input before its own activation. */
static void NAME(conv_features_back)(const struct conv *conv, int image, float *sums) {
    int width = conv->width, height = conv->height, in = conv->in_channels, edge = conv->replicate;
    int factor = conv->enlarge, low_width = width / factor;
    ptrdiff_t low_size = span(height / factor, low_width), taps[9];
    const half *gradient = conv->gradient + image * span(height, width) * conv->out_channels;
    const half *of = conv->in + image * low_size * conv->in_pixel;
    floats slope = NAME(all)(conv->in_slope);
    taps_of(width, taps);
    for (int first = 0; first < height; first += BAND_ROWS) {
        int end = first + BAND_ROWS < height ? first + BAND_ROWS : height;
        int from = first == 0 ? -edge : first, to = end == height ? height + edge : end;
        NAME(sweep_sums)(gradient + place(width, from, -1) * conv->out_channels, conv->out_channels, taps,
                         NAME(filled)(conv), conv->mirrored, in / 16,
                         ((ptrdiff_t)(to - from) * (width + 2) + 15) / 16, sums);
        if (edge) NAME(fold)(sums, in, from, to - 1, height, width);
        for (int y = first / factor; y < end / factor; y++)
            for (int x = 0; x < low_width; x++) {
                ptrdiff_t at = place(low_width, y, x);
                const float *corner = sums + ((ptrdiff_t)(y * factor - from) * (width + 2) + x * factor + 1) * in;
                for (int c = 0; c < in; c += 16) {
                    floats one = NAME(get)(corner + c);
                    for (int i = 1; i < factor * factor; i++)
                        one = NAME(sum)(one, NAME(get)(corner + ((ptrdiff_t)(i / factor) * (width + 2) + i % factor) * in + c));
                    if (conv->in_slope != 1) one = NAME(sloped)(one, of + at * conv->in_pixel + c, slope);
                    if (conv->carry)
                        NAME(put)(conv->carry + (image * low_size + at) * in + c, one);
                    else
                        NAME(narrow)(conv->in_gradient + (image * low_size + at) * in + c, one);
                }
            }
    }
}

static void NAME(conv_weights_back)(const struct conv *conv, int image, half *planes, half *pairs, half *room,
                                    float *sums) {
    int width = conv->width, height = conv->height, out = conv->out_channels, in = conv->in_channels;
    int filled = NAME(filled)(conv);
    ptrdiff_t pitch = width + 2, all = ((ptrdiff_t)height * pitch - 2 + 31) / 32;
    ptrdiff_t runs = (all + MAX_STEPS - 1) / MAX_STEPS, most = (all + runs - 1) / runs, plane = 32 * most + 32;
    const half *gradient = conv->gradient + image * span(height, width) * out;
    struct NAME(left) lefts[MAX_CHANNELS / 16];
    for (int o = 0; o < filled; o += 16)
        lefts[o / 16] = (struct NAME(left)){planes + o * plane, sums + (ptrdiff_t)o * 9 * in, 9 * in, in, in / 16};
    for (ptrdiff_t done = 0; done < all; done += most) {
        ptrdiff_t steps = all - done < most ? all - done : most, from = 32 * done;
        int first = (int)(from / pitch), last = (int)((from + 32 * steps - 1) / pitch) + 1;
        if (last > height) last = height;
        const half *pixels = NAME(window)(conv, image, first, last, room);
        ptrdiff_t known = (last - first + 2) * pitch - (from - first * pitch); /* from the window's first pixel on */
        NAME(planes_of)(planes, plane, gradient + (place(width, 0, 0) + from) * out, out, filled / 16, steps);
        NAME(weigh)(lefts, filled / 16, plane, steps, pixels + (from - first * pitch) * NAME(window_pixel)(conv),
                    NAME(window_pixel)(conv), in / 16, width, known, pairs);
        for (int o = 0; o < filled; o++) sums[(ptrdiff_t)out * 9 * in + o] += NAME(total)(planes + o * plane, 32 * steps);
    }
}
