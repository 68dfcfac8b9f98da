/* The convolutions of a training step in bfloat16: with AMX, with AVX512-BF16, and in plain C for tests.
 *
 * Feature maps are stored channels last, with a border: each row has one extra pixel at each end, and there are three
 * extra rows above and three below. So a tap of a convolution has the same offset in memory for every pixel, pixels can
 * be processed 16 at a time for any width, and maps are read in place. Results between two rows are overwritten by the
 * border.
 */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "../../model/convolutions/native/amx_unit.h"

typedef uint16_t half; /* a bfloat16 */

enum { PLAIN, AVX512, AMX };
enum { LANES = 16, PACKED = 512, MAX_CHANNELS = 512, BAND_ROWS = 12, MAX_STEPS = 36, MAX_WINDOW = 1 << 18 };
#define SLOPE 0.2f
#define RESIDUAL 0.2f

struct trunk {
    int images, height, width, channels, growth, blocks, replicate;
    ptrdiff_t packed_block, gradients_block; /* elements of a dense block */
    const float *const *weights;             /* 5 blocks of [out][9][in] */
    const float *const *biases;
    half *packed, *mirrored;
    half *features;         /* blocks x images x span x (channels + 4 growth) */
    half *made;             /* images x span x channels */
    float *carry, *outer;   /* images x span x channels: gradients of the trunk and of the skip around an RRDB */
    float *gradients;       /* threads x blocks x gradients_block, added to */
};

struct conv {
    int images, height, width, enlarge, replicate, in_channels, out_channels, colours;
    float slope, in_slope; /* of the activations of output and input; 1 for none */
    ptrdiff_t in_pixel, made_pixel, residual_pixel;
    const float *weights, *bias; /* [out][9][in] */
    half *packed, *mirrored;
    const half *in;       /* images x span x in_pixel */
    const half *residual; /* added to the output; null for none */
    half *made;           /* images x span x made_pixel; or */
    float *picture;       /* images x height x width x colours */
    const half *gradient; /* images x span x out_channels, zero beyond the border */
    half *in_gradient;    /* images x span x in_channels, the same; or */
    float *carry;         /* in floats */
    float *gradients;     /* threads x (out x 9 x in + out), added to */
};

struct mirror { /* factors of a channel of a gradient: the weights of a convolution for one of its inputs */
    const float *weights;
    int in;
};

struct features {
    int images, height, width, channels;
    const half *first, *second;  /* images x span x channels; `second` null for no comparison */
    half *pooled;                /* images x span of half the size x channels */
    const half *pooled_gradient; /* the same; null for none */
    half *gradient;              /* of `first`, zero beyond the border */
    double *sums;                /* images x (of differences, of sizes) */
    float weight;
};

struct maps {
    int images, height, width, channels; /* of the larger map */
    const half *first, *second, *of;     /* images x span x channels; `second` and `of` may be null */
    half *made;
    float slope;
};

static ptrdiff_t place(int width, int y, int x) { return (ptrdiff_t)(y + 3) * (width + 2) + x + 1; }

static ptrdiff_t span(int height, int width) { return (ptrdiff_t)(height + 6) * (width + 2) + 32; }

static void taps_of(int width, ptrdiff_t *taps) {
    for (int tap = 0; tap < 9; tap++) taps[tap] = (ptrdiff_t)(tap / 3 - 1) * (width + 2) + tap % 3 - 1;
}

/* Overwrites the border of a map with zeros, or with the nearest pixels. */
static void fill_border(half *map, ptrdiff_t pixel, int height, int width, int channels, int replicate) {
    size_t bytes = channels * sizeof(half);
    for (int y = 0; y < height; y++)
        for (int end = 0; end < 2; end++) {
            half *to = map + place(width, y, end ? width : -1) * pixel;
            if (replicate)
                memcpy(to, map + place(width, y, end ? width - 1 : 0) * pixel, bytes);
            else
                memset(to, 0, bytes);
        }
    for (int end = 0; end < 2; end++)
        for (int x = -1; x <= width; x++) {
            half *to = map + place(width, end ? height : -1, x) * pixel;
            if (replicate)
                memcpy(to, map + place(width, end ? height - 1 : 0, x) * pixel, bytes);
            else
                memset(to, 0, bytes);
        }
}

static pthread_key_t rooms;
static pthread_once_t rooms_once = PTHREAD_ONCE_INIT;
static void make_rooms(void) { pthread_key_create(&rooms, free); }

/* Memory of a thread, kept for the next call and freed when the thread ends; null if it cannot be allocated. */
static void *room_of(size_t bytes) {
    static _Thread_local void *room;
    static _Thread_local size_t size;
    if (bytes > size) {
        pthread_once(&rooms_once, make_rooms);
        free(room);
        size = (bytes + 4095) / 4096 * 4096;
        room = aligned_alloc(4096, size);
        if (!room) size = 0;
        pthread_setspecific(rooms, room);
    }
    return room;
}

static int this_thread(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* The same for threads that have images. The other threads need no memory, so they never fail. */
static void *room_for(size_t bytes, int images, int *failed) {
    void *room = this_thread() < images ? room_of(bytes) : NULL;
    *failed = this_thread() < images && !room;
    return room;
}

static size_t lines(size_t bytes) { return (bytes + 127) / 64 * 64; }

#define NAME(name) plain_##name
#include "plain.h"
#include "kernel.h"
#include "step.h"

#ifdef AMX_COMPILED
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
#define NAME(name) avx512_##name
#include "vectors.h"
static void NAME(begin)(void) {}
static void NAME(end)(void) {}
#include "kernel_avx512.h"
#include "step.h"
#pragma GCC target("amx-tile,amx-bf16")
#define NAME(name) amx_##name
#include "vectors.h"
#include "tiles_amx.h"
#include "kernel.h"
#include "step.h"
#pragma GCC pop_options

#define CALL(name, ...) \
    return instructions == AMX      ? amx_##name(__VA_ARGS__) \
           : instructions == AVX512 ? avx512_##name(__VA_ARGS__) \
                                    : plain_##name(__VA_ARGS__)
#else
#define CALL(name, ...) return (void)instructions, plain_##name(__VA_ARGS__)
#endif

/* Each returns 0, or 1 if there is not enough memory. `instructions` is one of the enum above; plain C is slow, but
 * runs on any processor. */
int step_trunk_forward(const struct trunk *net, int threads, int instructions) { CALL(run_trunk_forward, net, threads); }
int step_trunk_backward(const struct trunk *net, int threads, int instructions) { CALL(run_trunk_backward, net, threads); }
int step_conv_forward(const struct conv *conv, int threads, int instructions) { CALL(run_conv_forward, conv, threads); }
int step_conv_backward(const struct conv *conv, int threads, int instructions) { CALL(run_conv_backward, conv, threads); }
int step_features_compare(const struct features *of, int threads, int instructions) { CALL(run_features_compare, of, threads); }
int step_features_pool(const struct features *of, int threads, int instructions) { CALL(run_features_pool, of, threads); }
int step_features_back(const struct features *of, int threads, int instructions) { CALL(run_features_back, of, threads); }
int step_maps_join(const struct maps *maps, int threads, int instructions) { CALL(run_maps_join, maps, threads); }
int step_maps_enlarge(const struct maps *maps, int threads, int instructions) { CALL(run_maps_enlarge, maps, threads); }
int step_maps_shrink(const struct maps *maps, int threads, int instructions) { CALL(run_maps_shrink, maps, threads); }
int step_maps_shuffle(const struct maps *maps, int threads, int instructions) { CALL(run_maps_shuffle, maps, threads); }
int step_maps_unshuffle(const struct maps *maps, int threads, int instructions) { CALL(run_maps_unshuffle, maps, threads); }

/* Return the size of a struct that callers fill, so that they detect a library from other sources. */
size_t struct_bytes(int number) {
    const size_t bytes[] = {sizeof(struct trunk), sizeof(struct conv), sizeof(struct features), sizeof(struct maps)};
    return number < (int)(sizeof bytes / sizeof *bytes) ? bytes[number] : 0;
}
