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
    float negative_slope;   /* of the LeakyReLU that comes after it; 1 for none */
    float residual_scaling; /* of what is added to the window's own first channels; 0 if nothing is */
};

/* What one thread works in: factors and products, in planes. */
static size_t plane_floats(int channels) { return (size_t)AT_ONCE * channels + APART; }

static size_t work_floats(const struct convolution *c) {
    return FACTORS * (plane_floats(c->in_channels) + plane_floats(c->out_channels));
}

static int tiles_across(const struct convolution *c) { return (c->width + SIDE - 1) / SIDE; }
static int tiles_down(const struct convolution *c) { return (c->rows + SIDE - 1) / SIDE; }

/* Where the results of a tile belong, and how many of its rows and columns are in the picture. */
struct place {
    long plane;
    int row, column, rows, columns;
};

static struct place place_of(const struct convolution *c, long tile) {
    long across = tiles_across(c), in_plane = across * tiles_down(c), in_this = tile % in_plane;
    struct place place = {tile / in_plane, SIDE * (int)(in_this / across), SIDE * (int)(in_this % across), 0, 0};
    place.rows = c->rows - place.row < SIDE ? c->rows - place.row : SIDE;
    place.columns = c->width - place.column < SIDE ? c->width - place.column : SIDE;
    return place;
}

static inline float *made_at(const struct convolution *c, const struct place *p) {
    return c->made + p->plane * c->made_plane + p->row * c->made_row + p->column * c->made_pixel;
}

/* The pixel of the window that the first result of a tile belongs to. */
static inline const float *added_at(const struct convolution *c, const struct place *p) {
    return c->window + p->plane * c->window_plane + (p->row + 1) * c->window_row + p->column * c->window_pixel;
}

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
