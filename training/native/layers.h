/* Convolutions of feature maps, their gradients, and dense blocks. */

typedef void NAME(emit)(const void *context, ptrdiff_t first, int pixels, int channel, int tiles, const float *sums);

/* Runs a convolution of `in` channels over `tiles_m` tiles of pixels in a row, and passes each block of results to
 * `emit`. */
static inline __attribute__((always_inline)) void NAME(sweep)(const half *pixels, ptrdiff_t pixel,
                                                              const ptrdiff_t *taps, int in, const half *weights,
                                                              int tiles_n, ptrdiff_t tiles_m, NAME(emit) * emit,
                                                              const void *context) {
    float sums[64 * 16] __attribute__((aligned(64)));
    for (int n = 0; n < tiles_n; n += 2) {
        int wide = tiles_n - n > 1 ? 2 : 1, most = wide == 2 ? 2 : 4;
        for (ptrdiff_t m = 0; m < tiles_m; m += most) {
            int tall = tiles_m - m < most ? (int)(tiles_m - m) : most;
            NAME(sum_block)(tall, wide, pixels + 16 * m * pixel, pixel, taps, 9, in, weights, sums, 16 * wide);
            emit(context, 16 * m, 16 * tall, 16 * n, wide, sums);
        }
        weights += 9 * ((in + 31) / 32) * wide * PACKED;
    }
}

/* The same, but stores the sums: pixels x 16 tiles_n floats. */
static void NAME(sweep_sums)(const half *pixels, ptrdiff_t pixel, const ptrdiff_t *taps, int in,
                             const half *weights, int tiles_n, ptrdiff_t tiles_m, float *sums) {
    for (int n = 0; n < tiles_n; n += 2) {
        int wide = tiles_n - n > 1 ? 2 : 1, most = wide == 2 ? 2 : 4;
        for (ptrdiff_t m = 0; m < tiles_m; m += most) {
            int tall = tiles_m - m < most ? (int)(tiles_m - m) : most;
            NAME(sum_block)
            (tall, wide, pixels + 16 * m * pixel, pixel, taps, 9, in, weights,
             sums + 16 * m * 16 * tiles_n + 16 * n, 16 * tiles_n);
        }
        weights += 9 * ((in + 31) / 32) * wide * PACKED;
    }
}

struct NAME(activation) {
    half *made;
    ptrdiff_t pixel;
    const float *bias;
    float slope;
    int clears; /* also clears the next 16 channels, because convolutions read 32 at a time */
};

static inline void NAME(activate)(const void *context, ptrdiff_t first, int pixels, int channel, int tiles,
                                  const float *sums) {
    const struct NAME(activation) *to = context;
    half *made = to->made + first * to->pixel + channel;
    floats slope = NAME(all)(to->slope), low = NAME(get)(to->bias + channel);
    floats high = tiles == 2 ? NAME(get)(to->bias + channel + 16) : NAME(all)(0);
    for (int p = 0; p < pixels; p++, made += to->pixel, sums += 16 * tiles) {
        floats one = NAME(sum)(NAME(get)(sums), low);
        one = NAME(larger)(one, NAME(product)(one, slope));
        if (tiles == 2) {
            floats two = NAME(sum)(NAME(get)(sums + 16), high);
            NAME(narrow_two)(made, one, NAME(larger)(two, NAME(product)(two, slope)));
        } else if (to->clears) {
            NAME(narrow_two)(made, one, NAME(all)(0));
        } else {
            NAME(narrow)(made, one);
        }
    }
}

struct NAME(addition) { /* made = scale * (sums + bias) + own_scale * own + other */
    half *made;
    ptrdiff_t pixel;
    const float *bias;
    const half *own, *other; /* null for none */
    ptrdiff_t own_pixel, other_pixel;
    float scale, own_scale;
};

static inline void NAME(add)(const void *context, ptrdiff_t first, int pixels, int channel, int tiles,
                             const float *sums) {
    const struct NAME(addition) *to = context;
    floats scale = NAME(all)(to->scale), own_scale = NAME(all)(to->own_scale);
    for (int p = 0; p < pixels; p++)
        for (int tile = 0; tile < tiles; tile++, sums += 16) {
            ptrdiff_t at = first + p;
            int from = channel + 16 * tile;
            floats made = NAME(product)(NAME(sum)(NAME(get)(sums), NAME(get)(to->bias + from)), scale);
            made = NAME(fused)(NAME(widen)(to->own + at * to->own_pixel + from), own_scale, made);
            if (to->other) made = NAME(sum)(made, NAME(widen)(to->other + at * to->other_pixel + from));
            NAME(narrow)(to->made + at * to->pixel + from, made);
        }
}

struct NAME(picture) {
    float *made; /* height x width x channels, without a border */
    const float *bias;
    int channels, width;
    ptrdiff_t last; /* pixels of the sweep, including the border */
};

static inline void NAME(paint)(const void *context, ptrdiff_t first, int pixels, int channel, int tiles,
                               const float *sums) {
    const struct NAME(picture) *to = context;
    for (ptrdiff_t at = first; at < first + pixels && at < to->last; at++, sums += 16 * tiles) {
        ptrdiff_t y = at / (to->width + 2), x = at % (to->width + 2);
        if (x < to->width && channel == 0)
            for (int c = 0; c < to->channels; c++)
                to->made[(y * to->width + x) * to->channels + c] = sums[c] + to->bias[c];
    }
}

/* Gradients of the pixels that the border repeats: rows first .. last of -1 .. height, from column -1 on. */
static void NAME(fold)(float *sums, int channels, int first, int last, int height, int width) {
    ptrdiff_t row = (ptrdiff_t)(width + 2) * channels;
    if (first == -1)
        for (ptrdiff_t i = 0; i < row; i += 16) NAME(put)(sums + row + i, NAME(sum)(NAME(get)(sums + row + i), NAME(get)(sums + i)));
    if (last == height) {
        float *end = sums + (last - first) * row;
        for (ptrdiff_t i = 0; i < row; i += 16) NAME(put)(end - row + i, NAME(sum)(NAME(get)(end - row + i), NAME(get)(end + i)));
    }
    for (int y = first; y <= last; y++, sums += row)
        for (int c = 0; c < channels; c += 16) {
            float *left = sums + c, *right = sums + row - channels + c;
            NAME(put)(left + channels, NAME(sum)(NAME(get)(left + channels), NAME(get)(left)));
            NAME(put)(right - channels, NAME(sum)(NAME(get)(right - channels), NAME(get)(right)));
        }
}

/* A tile of output channels in the gradients of weights. */
struct NAME(left) {
    const half *plane;
    float *sums; /* of the first tap and the first 16 input channels */
    ptrdiff_t stride, tap;
    int tiles; /* of input channels */
};

/* Sums the gradients of weights over 32 * steps pixels.
 *
 * `pixels` is the first of them in the input; `known` pixels are valid, from one row and one pixel before it. */
static void NAME(weigh)(const struct NAME(left) * lefts, int number, ptrdiff_t plane, ptrdiff_t steps,
                        const half *pixels, ptrdiff_t pixel, int tiles, int width, ptrdiff_t known, half *pairs) {
    static const half none[16];
    ptrdiff_t pitch = width + 2, all = 16 * steps + pitch + 2;
    half *even = pairs, *odd = pairs + all * 32;
    for (int tile = 0; tile < tiles; tile++) {
        const half *first = pixels - (pitch + 1) * pixel + 16 * tile;
        ptrdiff_t whole = (known - 2) / 2 < all ? (known - 2) / 2 : all;
        for (ptrdiff_t i = 0; i < whole; i++) {
            NAME(pair_up)(even + 32 * i, first + 2 * i * pixel, first + (2 * i + 1) * pixel);
            NAME(pair_up)(odd + 32 * i, first + (2 * i + 1) * pixel, first + (2 * i + 2) * pixel);
        }
        for (ptrdiff_t i = whole; i < all; i++) {
            const half *of[3];
            for (int k = 0; k < 3; k++) of[k] = 2 * i + k < known ? first + (2 * i + k) * pixel : none;
            NAME(pair_up)(even + 32 * i, of[0], of[1]);
            NAME(pair_up)(odd + 32 * i, of[1], of[2]);
        }
        for (int dy = 0; dy < 3; dy++) {
            const half *shifted[3];
            for (int dx = 0; dx < 3; dx++) {
                ptrdiff_t apart = dy * pitch + dx;
                shifted[dx] = (apart % 2 ? odd : even) + apart / 2 * 32;
            }
            const half *planes[2];
            float *sums[2];
            ptrdiff_t stride[2], tap[2];
            int waiting = 0;
            for (int i = 0; i <= number; i++) {
                if (i < number) {
                    if (lefts[i].tiles <= tile) continue;
                    planes[waiting] = lefts[i].plane;
                    sums[waiting] = lefts[i].sums + 3 * dy * lefts[i].tap + 16 * tile;
                    stride[waiting] = lefts[i].stride;
                    tap[waiting++] = lefts[i].tap;
                }
                if (waiting == 2) NAME(correlate_2)(planes, plane, shifted, steps, sums, stride, tap);
                if (waiting == 1 && i == number) NAME(correlate_1)(planes, plane, shifted, steps, sums, stride, tap);
                if (waiting == 2) waiting = 0;
            }
        }
    }
}

/* 32 * steps pixels -> a plane for each of 16 * tiles channels. */
static void NAME(planes_of)(half *planes, ptrdiff_t plane, const half *pixels, ptrdiff_t pixel, int tiles,
                            ptrdiff_t steps) {
    for (ptrdiff_t step = 0; step < steps; step++)
        for (int tile = 0; tile < tiles; tile++)
            NAME(turn)(planes + 16 * tile * plane + 32 * step, plane, pixels + 32 * step * pixel + 16 * tile, pixel);
}

/* Packs [out][9][in] weights for the convolution: taps, chunks of 32 input channels, tiles of output channels; pairs of
 * tiles come first. */
static half *NAME(pack)(half *to, const float *weights, int out, int in) {
    int chunks = (in + 31) / 32;
    for (int n = 0; n < out; n += 32)
        for (int tap = 0; tap < 9; tap++)
            for (int chunk = 0; chunk < chunks; chunk++)
                for (int o = n; o < out && o < n + 32; o += 16, to += PACKED) {
                    const float *from = weights + ((ptrdiff_t)o * 9 + tap) * in + 32 * chunk;
                    if (in - 32 * chunk >= 32) {
                        NAME(pack_rows)(to, from, 9 * in);
                    } else {
                        float padded[16 * 32] = {0};
                        for (int i = 0; i < 16; i++) memcpy(padded + 32 * i, from + (ptrdiff_t)i * 9 * in, 64);
                        NAME(pack_rows)(to, padded, 32);
                    }
                }
    return to;
}

/* The same for the backward pass: gradients of `channels` outputs -> those of `out` input channels, from `first` on. */
static half *NAME(pack_mirrored)(half *to, const struct mirror *rows, int channels, int first, int out) {
    int chunks = (channels + 31) / 32;
    for (int n = 0; n < out; n += 32)
        for (int tap = 0; tap < 9; tap++)
            for (int chunk = 0; chunk < chunks; chunk++)
                for (int o = n; o < out && o < n + 32; o += 16)
                    for (int k = 32 * chunk; k < 32 * chunk + 32; k += 2, to += 32) {
                        half two[2][16] = {{0}};
                        for (int i = 0; i < 2 && k + i < channels; i++)
                            NAME(narrow)(two[i], NAME(get)(rows[k + i].weights + (8 - tap) * rows[k + i].in + first + o));
                        NAME(pair_up)(to, two[0], two[1]);
                    }
    return to;
}
