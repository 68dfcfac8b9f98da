/* The trunk of an RRDBNet: dense blocks, each in a buffer of all its features, and their backward pass. */

static void NAME(trunk_pack)(const struct trunk *net, int block) {
    int channels = net->channels, growth = net->growth;
    const float *const *weights = net->weights + 5 * block;
    half *packed = net->packed + block * net->packed_block, *mirrored = net->mirrored + block * net->packed_block;
    struct mirror rows[MAX_CHANNELS];
    int number = 0;
    for (int conv = 0; conv < 5; conv++)
        packed = NAME(pack)(packed, weights[conv], conv < 4 ? growth : channels, channels + conv * growth);
    for (int conv = 4; conv >= 0; conv--) {
        int in = channels + conv * growth, out = conv < 4 ? growth : channels;
        for (int o = 0; o < out; o++) rows[number++] = (struct mirror){weights[conv] + (ptrdiff_t)o * 9 * in, in};
        mirrored = conv ? NAME(pack_mirrored)(mirrored, rows, number, in - growth, growth)
                        : NAME(pack_mirrored)(mirrored, rows, number, 0, channels);
    }
}

static void NAME(trunk_forward)(const struct trunk *net, int block, int image) {
    int channels = net->channels, growth = net->growth, width = net->width, height = net->height;
    int wide = channels + 4 * growth, last = block == net->blocks - 1;
    ptrdiff_t image_size = span(height, width), start = place(width, 0, 0), taps[9];
    ptrdiff_t tiles_m = ((ptrdiff_t)height * (width + 2) - 2 + 15) / 16;
    half *features = net->features + ((ptrdiff_t)block * net->images + image) * image_size * wide;
    half *pixels = features + start * wide;
    const half *weights = net->packed + block * net->packed_block;
    taps_of(width, taps);
    for (int conv = 0; conv < 4; conv++) {
        int in = channels + conv * growth, chunks = (in + 31) / 32;
        struct NAME(activation) to = {pixels + in, wide, net->biases[5 * block + conv], SLOPE, (in + growth) % 32 != 0};
        NAME(sweep)(pixels, wide, taps, in, weights, growth / 16, tiles_m, NAME(activate), &to);
        fill_border(features + in, wide, height, width, growth + (to.clears ? 16 : 0), net->replicate);
        weights += 9 * chunks * (growth / 16) * PACKED;
    }
    half *made = last ? net->made + image * image_size * channels : features + net->images * image_size * wide;
    int pixel = last ? channels : wide, closes = block % 3 == 2;
    struct NAME(addition) to = {.made = made + start * pixel,
                                .pixel = pixel,
                                .bias = net->biases[5 * block + 4],
                                .own = pixels,
                                .own_pixel = wide,
                                .other = closes ? pixels - 2 * net->images * image_size * wide : NULL,
                                .other_pixel = wide,
                                .scale = closes ? RESIDUAL * RESIDUAL : RESIDUAL,
                                .own_scale = closes ? RESIDUAL : 1};
    NAME(sweep)(pixels, wide, taps, wide, weights, channels / 16, tiles_m, NAME(add), &to);
    fill_border(made, pixel, height, width, channels, net->replicate);
}

/* The gradient of each channel of the block's buffer, in the order of the backward pass: of the output of the last
 * convolution, the fourth, ... the first; then of the block's input. */
static void NAME(trunk_features_back)(const struct trunk *net, int block, int image, half *gradients, float *sums) {
    int channels = net->channels, growth = net->growth, width = net->width, height = net->height;
    int wide = channels + 4 * growth, closes = block % 3 == 2, edge = net->replicate;
    ptrdiff_t image_size = span(height, width), taps[9];
    const half *features = net->features + ((ptrdiff_t)block * net->images + image) * image_size * wide;
    const half *weights = net->mirrored + block * net->packed_block;
    float *carry = net->carry + image * image_size * channels, *outer = net->outer + image * image_size * channels;
    floats scale = NAME(all)(closes ? RESIDUAL * RESIDUAL : RESIDUAL), kept = NAME(all)(closes ? RESIDUAL : 1);
    taps_of(width, taps);
    for (int y = 0; y < height; y++)
        for (ptrdiff_t at = place(width, y, 0); at < place(width, y, width); at++)
            for (int c = 0; c < channels; c += 16) {
                floats one = NAME(get)(carry + at * channels + c);
                if (closes) NAME(put)(outer + at * channels + c, one);
                NAME(narrow)(gradients + at * wide + c, NAME(product)(one, scale));
            }
    ptrdiff_t tiles_m = ((ptrdiff_t)(height + 2 * edge) * (width + 2) + 15) / 16;
    const half *first = gradients + place(width, -edge, -1) * wide;
    for (int conv = 3; conv >= -1; conv--) {
        int in = channels + (3 - conv) * growth, chunks = (in + 31) / 32, out = conv < 0 ? channels : growth;
        NAME(sweep_sums)(first, wide, taps, in, weights, out / 16, tiles_m, sums);
        weights += 9 * chunks * (out / 16) * PACKED;
        if (edge) NAME(fold)(sums, out, -1, height, height, width);
        floats slope = NAME(all)(SLOPE);
        for (int y = 0; y < height; y++) {
            const float *from = sums + ((ptrdiff_t)(y + edge) * (width + 2) + 1) * out;
            for (ptrdiff_t at = place(width, y, 0); at < place(width, y, width); at++)
                for (int c = 0; c < out; c += 16, from += 16) {
                    if (conv >= 0) {
                        const half *of = features + at * wide + channels + conv * growth + c;
                        NAME(narrow)(gradients + at * wide + in + c, NAME(sloped)(NAME(get)(from), of, slope));
                    } else {
                        float *to = carry + at * channels + c;
                        floats one = NAME(fused)(NAME(get)(to), kept, NAME(get)(from));
                        if (block % 3 == 0) one = NAME(sum)(one, NAME(get)(outer + at * channels + c));
                        NAME(put)(to, one);
                    }
                }
        }
    }
}

static void NAME(trunk_weights_back)(const struct trunk *net, int block, int image, const half *gradients,
                                     half *planes, half *pairs, float *sums) {
    int channels = net->channels, growth = net->growth, width = net->width, height = net->height;
    int wide = channels + 4 * growth, number = 0;
    ptrdiff_t image_size = span(height, width), start = place(width, 0, 0), pitch = width + 2;
    const half *features = net->features + ((ptrdiff_t)block * net->images + image) * image_size * wide;
    ptrdiff_t all = ((ptrdiff_t)height * pitch - 2 + 31) / 32, runs = (all + MAX_STEPS - 1) / MAX_STEPS;
    ptrdiff_t most = (all + runs - 1) / runs, plane = 32 * most + 32;
    struct NAME(left) lefts[MAX_CHANNELS / 16];
    const half *of = planes;
    float *end = sums;
    for (int conv = 0; conv < 5; conv++) end += 9 * (ptrdiff_t)(channels + conv * growth) * (conv < 4 ? growth : channels);
    float *bias = end + 4 * growth; /* biases follow the weights, in the order of the convolutions */
    for (int conv = 4; conv >= 0; conv--) {
        ptrdiff_t in = channels + conv * growth, out = conv < 4 ? growth : channels;
        end -= 9 * in * out;
        for (int o = 0; o < out; o += 16, of += 16 * plane)
            lefts[number++] = (struct NAME(left)){of, end + o * 9 * in, 9 * in, in, (int)in / 16};
    }
    for (ptrdiff_t done = 0; done < all; done += most) {
        ptrdiff_t steps = all - done < most ? all - done : most, from = start + 32 * done;
        NAME(planes_of)(planes, plane, gradients + from * wide, wide, wide / 16, steps);
        NAME(weigh)(lefts, number, plane, steps, features + from * wide, wide, wide / 16, width,
                    place(width, height, width) + 1 - (from - pitch - 1), pairs);
        const half *row = planes;
        for (int conv = 4; conv >= 0; conv--)
            for (int o = 0, out = conv < 4 ? growth : channels; o < out; o++, row += plane)
                bias[(conv - 4) * growth + o] += NAME(total)(row, 32 * steps);
    }
}
