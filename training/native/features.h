/* Operations of VGG19 besides convolutions, for a perceptual loss: the distance of two maps, and 2 x 2 max pooling. */

/* Sums of |first - second| and of |second| over the pixels of an image. */
static void NAME(features_compare)(const struct features *of, int image) {
    ptrdiff_t size = span(of->height, of->width) * of->channels;
    const half *first = of->first + image * size, *second = of->second + image * size;
    double apart = 0, size_of = 0;
    for (int y = 0; y < of->height; y++) {
        ptrdiff_t row = place(of->width, y, 0) * of->channels;
        floats differences = NAME(all)(0), sizes = NAME(all)(0), minus = NAME(all)(-1);
        for (ptrdiff_t i = row; i < row + (ptrdiff_t)of->width * of->channels; i += 16) {
            floats b = NAME(widen)(second + i), d = NAME(fused)(b, minus, NAME(widen)(first + i));
            differences = NAME(sum)(differences, NAME(larger)(d, NAME(product)(d, minus)));
            sizes = NAME(sum)(sizes, NAME(larger)(b, NAME(product)(b, minus)));
        }
        float sums[2][16];
        NAME(put)(sums[0], differences);
        NAME(put)(sums[1], sizes);
        for (int i = 0; i < 16; i++) apart += sums[0][i], size_of += sums[1][i];
    }
    of->sums[2 * image] = apart;
    of->sums[2 * image + 1] = size_of;
}

/* 2 x 2 max pooling and ReLU. */
static void NAME(features_pool)(const struct features *of, int image) {
    int low_width = of->width / 2, low_height = of->height / 2;
    ptrdiff_t channels = of->channels, below = (of->width + 2) * channels;
    const half *first = of->first + image * span(of->height, of->width) * channels;
    half *pooled = of->pooled + image * span(low_height, low_width) * channels;
    for (int y = 0; y < low_height; y++)
        for (int x = 0; x < low_width; x++) {
            const half *from = first + place(of->width, 2 * y, 2 * x) * channels;
            half *to = pooled + place(low_width, y, x) * channels;
            for (ptrdiff_t c = 0; c < channels; c += 16, from += 16) {
                floats upper = NAME(larger)(NAME(widen)(from), NAME(widen)(from + channels));
                floats lower = NAME(larger)(NAME(widen)(from + below), NAME(widen)(from + below + channels));
                NAME(narrow)(to + c, NAME(larger)(NAME(larger)(upper, lower), NAME(all)(0)));
            }
        }
    fill_border(pooled, channels, low_height, low_width, (int)channels, 0);
}

/* The gradient of `first`: of its distance from `second`, times `weight`, plus that of the max pooling. */
static void NAME(features_back)(const struct features *of, int image) {
    int low_width = of->width / 2, low_height = of->height / 2;
    ptrdiff_t channels = of->channels, size = span(of->height, of->width) * channels;
    const half *first = of->first + image * size, *second = of->second ? of->second + image * size : NULL;
    const half *pooled = of->pooled_gradient;
    half *made = of->gradient + image * size;
    floats weight = NAME(all)(of->weight), none = NAME(all)(0);
    if (pooled) pooled += image * span(low_height, low_width) * channels;
    for (int y = 0; y < of->height; y += 2)
        for (int x = 0; x < of->width; x += 2) {
            int rows = y + 1 < of->height ? 2 : 1, columns = x + 1 < of->width ? 2 : 1;
            int whole = pooled && rows * columns == 4;
            ptrdiff_t from[4];
            for (int k = 0; k < 4; k++) from[k] = place(of->width, y + k / 2, x + k % 2) * channels;
            for (ptrdiff_t c = 0; c < channels; c += 16) {
                floats left = none, largest = none;
                if (whole) {
                    for (int k = 0; k < 4; k++) largest = NAME(larger)(largest, NAME(widen)(first + from[k] + c));
                    left = NAME(widen)(pooled + place(low_width, y / 2, x / 2) * channels + c);
                    left = NAME(where_not)(largest, none, left);
                }
                for (int k = 0; k < 4; k++) {
                    if (k / 2 >= rows || k % 2 >= columns) continue;
                    floats value = NAME(widen)(first + from[k] + c), gradient = none;
                    if (second) gradient = NAME(signed_as)(value, NAME(widen)(second + from[k] + c), weight);
                    if (whole) { /* the first of equal values gets the whole gradient */
                        gradient = NAME(sum)(gradient, NAME(where_same)(value, largest, left));
                        left = NAME(where_not)(value, largest, left);
                    }
                    NAME(narrow)(made + from[k] + c, gradient);
                }
            }
        }
}
