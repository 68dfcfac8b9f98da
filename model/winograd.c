/* 3x3 convolutions over windows of rows by Winograd's minimal filtering F(4 x 4, 3 x 3): a quarter of the
 * multiplications. Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308.
 *
 * The results are cut into tiles of 4 x 4. The 6 x 6 pixels under a tile become 36 factors per channel by additions
 * (`transform`); for each of the 36, tiles x in_channels times in_channels x out_channels is a product of matrices
 * (`multiply`); and the 36 products of a channel become 16 results by additions (`restore`). A thread takes some tiles
 * through all three at a time, so that what lies between them stays in its core's cache.
 */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { SIDE = 4, REACH = 6, FACTORS = 36 };

/* Floats of a line of a cache. */
enum { LINE = 16 };

/* Tiles that a thread takes at a time, a multiple of TILES: more of them read the weights less often and need more of
 * its cache. */
enum { AT_ONCE = 12 };

/* Floats of a plane of factors beyond the last: planes a power of two apart would fall onto the same lines of a cache. */
enum { APART = LINE };

struct convolution {
    const float *window; /* planes x (rows + 2) x width pixels; the first and the last row are above and below */
    const float *weights; /* 36 x (out_channels / lanes) x in_channels x lanes */
    const float *bias;
    float *made; /* planes x rows x width pixels */
    ptrdiff_t window_plane, window_row, window_pixel; /* floats from one to the next */
    ptrdiff_t made_plane, made_row, made_pixel;
    int planes, rows, width, in_channels, out_channels;
    float negative_slope; /* of the LeakyReLU that comes after it; 1 for none */
};

/* The four columns under the next tile that are not under this one; what lies beyond the window does no harm. */
static inline void prefetch_next_tile(const float *pixels, ptrdiff_t row, ptrdiff_t pixel) {
    for (int y = 0; y < REACH; y++)
        for (int x = REACH; x < REACH + SIDE; x++) __builtin_prefetch(pixels + y * row + x * pixel);
}

/* What one thread works in: zero-padded pixels of a tile at the border, factors, products. */
static size_t plane_floats(int channels) { return (size_t)AT_ONCE * channels + APART; }

static size_t work_floats(const struct convolution *c) {
    return FACTORS * (c->in_channels + plane_floats(c->in_channels) + plane_floats(c->out_channels));
}

/* The pixels under a tile that begins in a column; those beside the window and below it are zero. */
static const float *padded_pixels(const struct convolution *c, const float *first_row, int rows, int column,
                                  float *pixels) {
    size_t bytes = c->in_channels * sizeof(float);
    for (int y = 0; y < REACH; y++)
        for (int x = 0; x < REACH; x++) {
            float *to = pixels + (REACH * y + x) * c->in_channels;
            int from = column + x;
            if (y < rows && from >= 0 && from < c->width)
                memcpy(to, first_row + y * c->window_row + from * c->window_pixel, bytes);
            else
                memset(to, 0, bytes);
        }
    return pixels;
}

static int tiles_across(const struct convolution *c) { return (c->width + SIDE - 1) / SIDE; }
static int tiles_down(const struct convolution *c) { return (c->rows + SIDE - 1) / SIDE; }

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define LANES 8
#define TILES 6
#define NAMED(name) name##_8
#include "winograd_kernel.h"
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq")
#define LANES 16
#define TILES 12
#define NAMED(name) name##_16
#include "winograd_kernel.h"
#pragma GCC pop_options

static int has_lanes(int lanes) {
    return lanes == 8 ? __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                      : lanes == 16 && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl");
}

static void convolve_some(const struct convolution *c, int lanes, long first, int tiles, float *work) {
    (lanes == 8 ? convolve_some_8 : convolve_some_16)(c, first, tiles, work);
}
#else /* whatever the compiler makes of four floats: of most processors it is a register */
#define LANES 4
#define TILES 6
#define NAMED(name) name##_4
#include "winograd_kernel.h"

static int has_lanes(int lanes) { return lanes == 4; }

static void convolve_some(const struct convolution *c, int lanes, long first, int tiles, float *work) {
    (void)lanes;
    convolve_some_4(c, first, tiles, work);
}
#endif

/* The most lanes that this processor has and that divide both numbers of channels; 0 if there are none. */
int winograd_lanes(int in_channels, int out_channels) {
    for (int lanes = 16; lanes >= 4; lanes /= 2)
        if (has_lanes(lanes) && in_channels % lanes == 0 && out_channels % lanes == 0) return lanes;
    return 0;
}

static int threads_here(void) {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static int this_thread(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* Returns 0, or -1 where there is no memory to work in. */
int winograd_convolve(const struct convolution *c, int lanes) {
    int threads = threads_here();
    long tiles = (long)c->planes * tiles_down(c) * tiles_across(c);
    size_t each = (work_floats(c) + LINE - 1) / LINE * LINE;
    float *work = aligned_alloc(64, threads * each * sizeof(float));
    if (!work) return -1;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (long first = 0; first < tiles; first += AT_ONCE) {
        int some = tiles - first < AT_ONCE ? (int)(tiles - first) : AT_ONCE;
        convolve_some(c, lanes, first, some, work + this_thread() * each);
    }
    free(work);
    return 0;
}
