/* 3x3 convolutions over windows of rows by Winograd's minimal filtering F(4 x 4, 3 x 3): a quarter of the
 * multiplications. Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308.
 *
 * The results are split into tiles of 4 x 4. For each channel, the 6 x 6 pixels d under a tile become 36 factors by
 * additions (`transform`: B^T d B). Each of the 36 is a product of matrices, tiles x in_channels times in_channels x
 * out_channels (`multiply`). The 36 products m of an output channel become 16 results by additions (`restore`: A^T m
 * A). winograd.py has the matrix of the weights, and the formula in one dimension. A thread takes a few tiles through
 * all three steps, so that the intermediate values stay in the cache of its core.
 *
 * Pixels are floats, and everything is computed in floats; or pixels are halves, 16-bit floats, and factors and weights
 * are 16-bit integers, which a processor multiplies about twice as fast. An integer i then stands for i * unit: weights
 * have one unit per output channel, factors one per tile, from the largest pixel under it (`measure`). Example: if the
 * largest pixel is 1, the factors are at most (65/12)^2 = 29.3, so the unit is 29.3 / 32766. The sums are exact.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { SIDE = 4, REACH = 6, FACTORS = 36 };

/* Columns of pixels that `transform` keeps: a power of two, so that `%` is a mask. */
enum { KEPT = 8 };

/* Words of a cache line. A word is a float, two 16-bit integers, or one 32-bit integer. */
enum { LINE = 16 };

/* Tiles that a thread takes at a time, a multiple of TILES. More tiles need more cache, but read the weights less
 * often. */
enum { AT_ONCE = 12 };

/* Unused words after each plane of factors: planes a power of two apart would share cache lines. */
enum { APART = LINE };

/* Maximum of a factor relative to the largest pixel under its tile: the coefficients of `line_in` add up to 65/12, in both
 * dimensions. */
#define MAX_GAIN (65 / 12.0f * (65 / 12.0f))

/* Maximum of a factor as an integer; one below the largest, for rounding. */
#define MAX_LEVEL 32766.0f

struct convolution {
    const void *window; /* planes x (rows + 2) x (width + 2) pixels, with one pixel of padding on every side */
    const float *weights; /* 36 x (out_channels / lanes) x in_words x lanes */
    const float *units;   /* units of the weights, 36 x out_channels; null if pixels and weights are floats */
    const float *bias;
    void *made; /* planes x rows x width pixels */
    ptrdiff_t window_plane, window_row, window_pixel; /* strides, in channels */
    ptrdiff_t made_plane, made_row, made_pixel;
    int planes, rows, width, in_channels, out_channels;
    int made_channels;      /* stored channels: the first of out_channels, which is a multiple of lanes */
    float negative_slope;   /* slope of the LeakyReLU; 1 for none */
    float residual_scaling; /* factor of the result before it is added to the window's first channels; 0 for no sum */
    int first_rows;         /* rows of the first tiles; the others have SIDE rows, the last the remaining ones */
};

typedef int word __attribute__((may_alias));

/* Words for one of the 36 factors of all channels, and their places in memory: whole lines of them. */
static int in_words(const struct convolution *c) { return c->units ? c->in_channels / 2 : c->in_channels; }
static int in_places(const struct convolution *c) { return (in_words(c) + LINE - 1) / LINE * LINE; }

/* Memory of a thread: planes of factors and of products. */
static size_t plane_words(int words) { return (size_t)AT_ONCE * words + APART; }

static size_t work_words(const struct convolution *c) {
    return FACTORS * (plane_words(in_places(c)) + plane_words(c->out_channels));
}

static int tiles_across(const struct convolution *c) { return (c->width + SIDE - 1) / SIDE; }
static int tiles_down(const struct convolution *c) { return (c->rows + SIDE - c->first_rows + SIDE - 1) / SIDE; }

static int at_most(int value, int limit) { return value < limit ? value : limit; }

/* Position of the results of a tile, and the number of its rows and columns in the picture. */
struct place {
    long plane;
    int row, column, rows, columns;
};

static struct place place_of(const struct convolution *c, long tile) {
    long across = tiles_across(c), in_plane = across * tiles_down(c), in_this = tile % in_plane;
    int down = (int)(in_this / across), above = SIDE - c->first_rows; /* rows missing from the first tiles */
    struct place place = {tile / in_plane, down ? SIDE * down - above : 0, SIDE * (int)(in_this % across), 0, 0};
    place.rows = at_most(c->rows - place.row, down ? SIDE : c->first_rows);
    place.columns = at_most(c->width - place.column, SIDE);
    return place;
}

static inline ptrdiff_t made_at(const struct convolution *c, const struct place *p) {
    return p->plane * c->made_plane + p->row * c->made_row + p->column * c->made_pixel;
}

/* Position in the window of the pixel at the first result of a tile. */
static inline ptrdiff_t added_at(const struct convolution *c, const struct place *p) {
    return p->plane * c->window_plane + (p->row + 1) * c->window_row + (p->column + 1) * c->window_pixel;
}

/* The pixels under adjacent tiles of a row. Columns beyond the window and rows from `rows` on count as zero. */
struct patch {
    ptrdiff_t at; /* in the window */
    int tiles, rows, column;
};

/* Return the patch under a tile and those to its right, at most `most` tiles. */
static struct patch patch_of(const struct convolution *c, long tile, int most) {
    struct place place = place_of(c, tile);
    ptrdiff_t at = place.plane * c->window_plane + place.row * c->window_row + place.column * c->window_pixel;
    struct patch patch = {at, at_most(tiles_across(c) - place.column / SIDE, most), 0, place.column};
    patch.rows = place.rows + 2;
    return patch;
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

/* Compute the unit of the factors of each tile. Halves without sign compare like integers, and infinity and NaN are the
 * largest: the unit and all results are then not finite either. */
static inline void measure(const struct convolution *c, const struct patch *p, float *units) {
    __m128i columns[SIDE * AT_ONCE + 2];
    const __m256i magnitude = _mm256_set1_epi16(0x7fff);
    for (int x = 0; x < SIDE * p->tiles + 2; x++) {
        __m256i most = _mm256_setzero_si256();
        if (p->column + x < c->width + 2)
            for (int y = 0; y < p->rows; y++) {
                const short *pixel = (const short *)c->window + p->at + x * c->window_pixel + y * c->window_row;
                for (int channel = 0; channel < c->in_channels; channel += 16) {
                    __m256i values = _mm256_loadu_si256((const __m256i_u *)(pixel + channel));
                    most = _mm256_max_epi16(most, _mm256_and_si256(values, magnitude));
                }
            }
        columns[x] = _mm_max_epi16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    }
    for (int tile = 0; tile < p->tiles; tile++) {
        __m128i most = columns[SIDE * tile];
        for (int x = 1; x < REACH; x++) most = _mm_max_epi16(most, columns[SIDE * tile + x]);
        __m128i least_complement = _mm_minpos_epu16(_mm_sub_epi16(_mm_set1_epi16(0x7fff), most));
        float largest = _cvtsh_ss(0x7fff - _mm_extract_epi16(least_complement, 0));
        units[tile] = MAX_GAIN / MAX_LEVEL * (largest > 0 || largest != largest ? largest : 1);
    }
}

#define LANES 8
#define TILES 6
#define NAMED(name) name##_8
#define LARGER(one, other) _mm256_max_ps((__m256)(one), (__m256)(other))
#define FROM_HALVES(from) (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(from)))
#define TO_HALVES(to, values) _mm_storeu_si128((__m128i_u *)(to), _mm256_cvtps_ph((__m256)(values), _MM_FROUND_TO_NEAREST_INT))
#define PACKED(one, other) (vec)_mm256_packs_epi32(_mm256_cvtps_epi32((__m256)(one)), _mm256_cvtps_epi32((__m256)(other)))
#define DOT(sums, one, other) _mm256_add_epi32((__m256i)(sums), _mm256_madd_epi16((__m256i)(one), (__m256i)(other)))
#include "winograd_kernel.h"
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")
#define LANES 16
#define TILES 12
#define NAMED(name) name##_16
#define LARGER(one, other) _mm512_max_ps((__m512)(one), (__m512)(other))
#define FROM_HALVES(from) (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)(from)))
#define TO_HALVES(to, values) _mm256_storeu_si256((__m256i_u *)(to), _mm512_cvtps_ph((__m512)(values), _MM_FROUND_TO_NEAREST_INT))
#define PACKED(one, other) (vec)_mm512_packs_epi32(_mm512_cvtps_epi32((__m512)(one)), _mm512_cvtps_epi32((__m512)(other)))
#define PUT_HALF(to, values) _mm256_storeu_si256((__m256i_u *)(to), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32((__m512)(values))))
#define DOT(sums, one, other) _mm512_dpwssd_epi32((__m512i)(sums), (__m512i)(one), (__m512i)(other))
#include "winograd_kernel.h"
#pragma GCC pop_options

static int has_lanes(int lanes, int halves) {
    if (lanes == 8) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    return lanes == 16 && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && (!halves || __builtin_cpu_supports("avx512vnni"));
}

static void convolve_some(const struct convolution *c, int lanes, long first, int tiles, float *work) {
    (lanes == 8 ? convolve_some_8 : convolve_some_16)(c, first, tiles, work);
}
#else /* vectors of four floats, which are registers of most processors */
#define LANES 4
#define TILES 6
#define NAMED(name) name##_4
#include "winograd_kernel.h"

static int has_lanes(int lanes, int halves) { return lanes == 4 && !halves; }

static void convolve_some(const struct convolution *c, int lanes, long first, int tiles, float *work) {
    (void)lanes;
    convolve_some_4(c, first, tiles, work);
}
#endif

/* Return the number of lanes for a convolution on this processor: the largest that divides both numbers of channels, so
 * that registers are full, or else the largest that divides in_channels; `measure` takes 16 halves at a time. 0 if there is
 * none. */
int winograd_lanes(int in_channels, int out_channels, int halves) {
    for (int full = 1; full >= 0; full--)
        for (int lanes = 16; lanes >= 4; lanes /= 2)
            if (has_lanes(lanes, halves) && in_channels % (halves ? 16 : lanes) == 0 &&
                (!full || out_channels % lanes == 0))
                return lanes;
    return 0;
}

#include "winograd_workers.h"

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

/* A convolution with tiles that are distributed among threads. */
struct shared {
    const struct convolution *convolution;
    int lanes;
    atomic_long next;
    float *memory;
    size_t each; /* words of memory per thread */
};

static void take_tiles(void *context, int thread) {
    struct shared *shared = context;
    const struct convolution *c = shared->convolution;
    long tiles = (long)c->planes * tiles_down(c) * tiles_across(c), first;
    while ((first = atomic_fetch_add(&shared->next, AT_ONCE)) < tiles)
        convolve_some(c, shared->lanes, first, tiles - first < AT_ONCE ? (int)(tiles - first) : AT_ONCE,
                      shared->memory + thread * shared->each);
}

/* Returns 0, or -1 if there is not enough memory. */
int winograd_convolve(const struct convolution *c, int lanes) {
    int threads = threads_here();
    size_t each = (work_words(c) + LINE - 1) / LINE * LINE;
    struct shared shared = {c, lanes, 0, aligned_alloc(64, threads * each * sizeof(float)), each};
    if (!shared.memory) return -1;
    if (threads == 1) {
        take_tiles(&shared, 0);
    } else if (!run_together(take_tiles, &shared, threads)) {
#pragma omp parallel num_threads(threads)
        take_tiles(&shared, this_thread());
    }
    free(shared.memory);
    return 0;
}

/* Return the size of the struct that callers fill, so that they detect a library from other sources. */
size_t struct_bytes(int number) { return number ? 0 : sizeof(struct convolution); }
