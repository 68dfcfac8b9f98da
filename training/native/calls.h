/* The functions called from Python: they distribute images among threads, always in the same way. */

static int NAME(run_trunk_forward)(const struct trunk *net, int threads) {
#pragma omp parallel num_threads(threads)
    {
        NAME(begin)();
#pragma omp for schedule(static)
        for (int block = 0; block < net->blocks; block++) NAME(trunk_pack)(net, block);
        for (int block = 0; block < net->blocks; block++)
#pragma omp for schedule(static) nowait
            for (int image = 0; image < net->images; image++) NAME(trunk_forward)(net, block, image);
        NAME(end)();
    }
    return 0;
}

static int NAME(run_trunk_backward)(const struct trunk *net, int threads) {
    int wide = net->channels + 4 * net->growth, failed = 0;
    int most = net->channels > net->growth ? net->channels : net->growth;
    ptrdiff_t pixels = span(net->height, net->width), ahead = 16 * MAX_STEPS + net->width + 4;
    size_t sums = lines(pixels * most * sizeof(float)), gradients = lines(pixels * wide * sizeof(half));
    size_t planes = lines((32 * MAX_STEPS + 32) * (size_t)wide * sizeof(half)), pairs = lines(2 * ahead * 64);
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        char *room = room_for(sums + gradients + planes + pairs, net->images, &failed);
        if (room) memset(room + sums, 0, gradients);
        NAME(begin)();
        for (int block = net->blocks - 1; block >= 0; block--)
#pragma omp for schedule(static) nowait
            for (int image = 0; image < net->images; image++)
                if (room) {
                    half *of = (half *)(room + sums), *turned = (half *)(room + sums + gradients);
                    NAME(trunk_features_back)(net, block, image, of, (float *)room);
                    NAME(trunk_weights_back)(net, block, image, of, turned, (half *)(room + sums + gradients + planes),
                                             net->gradients + ((ptrdiff_t)this_thread() * net->blocks + block) * net->gradients_block);
                }
        NAME(end)();
    }
    return failed;
}

static size_t NAME(window_bytes)(const struct conv *conv, int rows) {
    return conv->enlarge == 1 ? 64 : lines(((size_t)(rows + 4) * (conv->width + 2) + 64) * conv->in_channels * sizeof(half));
}

static int NAME(run_conv_forward)(const struct conv *conv, int threads) {
    int failed = 0;
    size_t bytes = NAME(window_bytes)(conv, BAND_ROWS);
    if (conv->weights) NAME(conv_pack)(conv); /* else it was packed before */
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        half *room = room_for(bytes, conv->images, &failed);
        if (room && conv->enlarge > 1) memset(room, 0, bytes);
        NAME(begin)();
#pragma omp for schedule(static)
        for (int image = 0; image < conv->images; image++)
            if (room) NAME(conv_forward)(conv, image, room);
        NAME(end)();
    }
    return failed;
}

static int NAME(run_conv_backward)(const struct conv *conv, int threads) {
    int failed = 0;
    ptrdiff_t ahead = 16 * MAX_STEPS + conv->width + 4, size = (9 * (ptrdiff_t)conv->in_channels + 1) * conv->out_channels;
    size_t window = NAME(window_bytes)(conv, 32 * MAX_STEPS / (conv->width + 2) + 2);
    size_t planes = lines((32 * MAX_STEPS + 32) * (size_t)conv->out_channels * sizeof(half)), pairs = lines(2 * ahead * 64);
    size_t sums = lines(((size_t)(BAND_ROWS + 2) * (conv->width + 2) + 64) * conv->in_channels * sizeof(float));
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        char *room = room_for(window + planes + pairs + sums, conv->images, &failed);
        NAME(begin)();
#pragma omp for schedule(static)
        for (int image = 0; image < conv->images; image++)
            if (room) {
                if (conv->gradients)
                    NAME(conv_weights_back)(conv, image, (half *)(room + window), (half *)(room + window + planes),
                                            (half *)room, conv->gradients + this_thread() * size);
                if (conv->in_gradient || conv->carry)
                    NAME(conv_features_back)(conv, image, (float *)(room + window + planes + pairs));
            }
        NAME(end)();
    }
    return failed;
}

#define EACH_IMAGE(kind, name) \
    static int NAME(run_##kind##_##name)(const struct kind *work, int threads) { \
        _Pragma("omp parallel for schedule(static) num_threads(threads)") \
        for (int image = 0; image < work->images; image++) NAME(kind##_##name)(work, image); \
        return 0; \
    }
EACH_IMAGE(features, compare)
EACH_IMAGE(features, pool)
EACH_IMAGE(features, back)
EACH_IMAGE(maps, join)
EACH_IMAGE(maps, enlarge)
EACH_IMAGE(maps, shrink)
EACH_IMAGE(maps, shuffle)
EACH_IMAGE(maps, unshuffle)
#undef EACH_IMAGE
