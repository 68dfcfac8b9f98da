/* Operations of a U-Net besides convolutions: sums, bilinear enlargement, and pixel unshuffle of 2 x 2. */

/* first [+ second], times the slope where `of` is not above zero. */
static void NAME(maps_join)(const struct maps *maps, int image) {
    ptrdiff_t channels = maps->channels, size = span(maps->height, maps->width) * channels;
    floats slope = NAME(all)(maps->slope);
    for (int y = 0; y < maps->height; y++) {
        ptrdiff_t row = image * size + place(maps->width, y, 0) * channels;
        for (ptrdiff_t i = row; i < row + maps->width * channels; i += 16) {
            floats value = NAME(widen)(maps->first + i);
            if (maps->second) value = NAME(sum)(value, NAME(widen)(maps->second + i));
            if (maps->of) value = NAME(sloped)(value, maps->of + i, slope);
            NAME(narrow)(maps->made + i, value);
        }
    }
}

/* first [+ second], half as large -> twice as large. */
static void NAME(maps_enlarge)(const struct maps *maps, int image) {
    int width = maps->width, height = maps->height, low_width = width / 2, low_height = height / 2;
    ptrdiff_t channels = maps->channels, low = image * span(low_height, low_width) * channels;
    half *made = maps->made + image * span(height, width) * channels;
    floats three = NAME(all)(3), sixteenth = NAME(all)(1 / 16.0f);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int near_y = y / 2, near_x = x / 2, far_y = near_y + (y % 2 ? 1 : -1), far_x = near_x + (x % 2 ? 1 : -1);
            far_y = far_y < 0 ? 0 : far_y < low_height ? far_y : low_height - 1;
            far_x = far_x < 0 ? 0 : far_x < low_width ? far_x : low_width - 1;
            ptrdiff_t from[4] = {place(low_width, near_y, near_x), place(low_width, near_y, far_x),
                                 place(low_width, far_y, near_x), place(low_width, far_y, far_x)};
            half *to = made + place(width, y, x) * channels;
            for (ptrdiff_t c = 0; c < channels; c += 16) {
                floats of[4];
                for (int k = 0; k < 4; k++) {
                    ptrdiff_t at = low + from[k] * channels + c;
                    of[k] = NAME(widen)(maps->first + at);
                    if (maps->second) of[k] = NAME(sum)(of[k], NAME(widen)(maps->second + at));
                }
                floats upper = NAME(fused)(of[0], three, of[1]), lower = NAME(fused)(of[2], three, of[3]);
                NAME(narrow)(to + c, NAME(product)(NAME(fused)(upper, three, lower), sixteenth));
            }
        }
}

/* Backward pass of an enlargement: the gradient of the larger map -> that of the smaller one, times the slope where
 * `of`, of the smaller size, is not above zero. */
static void NAME(maps_shrink)(const struct maps *maps, int image) {
    int width = maps->width, height = maps->height, low_width = width / 2, low_height = height / 2;
    ptrdiff_t channels = maps->channels, low = image * span(low_height, low_width) * channels;
    const half *first = maps->first + image * span(height, width) * channels;
    floats slope = NAME(all)(maps->slope), three = NAME(all)(3), sixteenth = NAME(all)(1 / 16.0f);
    for (int y = 0; y < low_height; y++)
        for (int x = 0; x < low_width; x++) {
            ptrdiff_t rows[4], at = low + place(low_width, y, x) * channels;
            int columns[4];
            for (int k = 0; k < 4; k++) {
                int row = 2 * y - 1 + k, column = 2 * x - 1 + k;
                rows[k] = row < 0 ? 0 : row < height ? row : height - 1;
                columns[k] = column < 0 ? 0 : column < width ? column : width - 1;
            }
            for (ptrdiff_t c = 0; c < channels; c += 16) {
                floats lines[4];
                for (int k = 0; k < 4; k++) {
                    floats of[4];
                    for (int i = 0; i < 4; i++)
                        of[i] = NAME(widen)(first + place(width, (int)rows[k], columns[i]) * channels + c);
                    lines[k] = NAME(fused)(NAME(sum)(of[1], of[2]), three, NAME(sum)(of[0], of[3]));
                }
                floats all = NAME(fused)(NAME(sum)(lines[1], lines[2]), three, NAME(sum)(lines[0], lines[3]));
                all = NAME(product)(all, sixteenth);
                if (maps->of) all = NAME(sloped)(all, maps->of + at + c, slope);
                NAME(narrow)(maps->made + at + c, all);
            }
        }
}

/* Pixel unshuffle: 2 x 2 pixels -> one pixel with four times the channels. */
static void NAME(maps_shuffle)(const struct maps *maps, int image) {
    int width = maps->width, height = maps->height, low_width = width / 2;
    ptrdiff_t channels = maps->channels;
    const half *first = maps->first + image * span(height, width) * channels;
    half *made = maps->made + image * span(height / 2, low_width) * 4 * channels;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            memcpy(made + place(low_width, y / 2, x / 2) * 4 * channels + (y % 2 * 2 + x % 2) * channels,
                   first + place(width, y, x) * channels, channels * sizeof(half));
}

/* Its backward pass for the gradient `first`: [+ second], times the slope where `of` is not above zero. */
static void NAME(maps_unshuffle)(const struct maps *maps, int image) {
    int width = maps->width, height = maps->height, low_width = width / 2;
    ptrdiff_t channels = maps->channels, size = span(height, width) * channels;
    const half *first = maps->first + image * span(height / 2, low_width) * 4 * channels;
    floats slope = NAME(all)(maps->slope);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const half *from = first + place(low_width, y / 2, x / 2) * 4 * channels + (y % 2 * 2 + x % 2) * channels;
            ptrdiff_t at = image * size + place(width, y, x) * channels;
            for (ptrdiff_t c = 0; c < channels; c += 16) {
                floats value = NAME(widen)(from + c);
                if (maps->second) value = NAME(sum)(value, NAME(widen)(maps->second + at + c));
                if (maps->of) value = NAME(sloped)(value, maps->of + at + c, slope);
                NAME(narrow)(maps->made + at + c, value);
            }
        }
}
