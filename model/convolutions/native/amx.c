/* 3x3 convolutions of bfloat16 windows on AMX, the matrix unit of Intel's processors since Sapphire Rapids.
 *
 * amx_convolve reads planes of rows of pixels whose channels lie together, one pixel of padding on every side. From one
 * pixel, row or plane to the next it goes by the caller's steps, so that window and result may be some of the channels
 * of one buffer: a dense block is read and written in place. For each pixel and each of out_channels it makes
 *
 *     sum = bias + 9 x in_channels products, added up in float32
 *     value = sum > 0 ? sum : negative_slope * sum
 *     value = skip + scaling * value          where there is a skip, in bfloat16 or float32
 *
 * and stores value in `made` as bfloat16, in `exact` as float32, or in both. `skip` may be `exact` or `made` itself, with
 * scaling 1: then results are accumulated. Neither result may overlap channels that are read otherwise.
 *
 * in_channels is even, out_channels any number. Width, rows and planes are at least 1. The value of a pixel does not
 * depend on where in the window it is, on other pixels' number, or on how many threads share the work: it is the same
 * to the last bit. Weights come packed in tiles, as model/convolutions/native/amx.py does it: [out_channels / 16, rounded up]
 * [chunks][3 columns][3 rows][chunk / 2][16 of out_channels][2 of in_channels]. A chunk is 32 of in_channels, or all of
 * them if they are fewer. The last chunk ends with the last channel; weights of channels that the chunk before it has
 * already are zero.
 *
 * amx_available asks the kernel for the unit's registers, once for the process. amx_convolve_plainly makes the same
 * bits on any processor, slowly, in plain C: the unit rounds to the nearest, ties to even, and takes numbers below
 * 2^-126 as zero, whatever the thread's own rounding and flushing are.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16, MOST_CHUNK = 32, MOST_ROWS = 4 };

/* Pixels of a row that a task makes at most: few enough to share a low band among threads. */
enum { TASK_PIXELS = 64 };

/* Numbers from one plane, row or pixel to the next. */
struct steps {
    ptrdiff_t plane, row, pixel;
};

struct amx_convolution {
    const uint16_t *window; /* planes x (rows + 2) x (width + 2) pixels */
    const uint16_t *weights;
    const float *bias; /* out_channels, rounded up to a multiple of LANES */
    const void *skip;  /* null for none */
    uint16_t *made;    /* planes x rows x width pixels; null for none */
    float *exact;      /* the same */
    struct steps window_steps, skip_steps, made_steps, exact_steps;
    int planes, rows, width, in_channels, out_channels;
    int skip_is_exact; /* float32 instead of bfloat16 */
    float negative_slope, scaling;
};

#define INLINE static inline __attribute__((always_inline))

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static int at_most(int value, int limit) { return value < limit ? value : limit; }

static int chunk_of(const struct amx_convolution *c) { return at_most(c->in_channels, MOST_CHUNK); }
static int chunks_of(const struct amx_convolution *c) { return (c->in_channels + chunk_of(c) - 1) / chunk_of(c); }

/* Numbers of the weights of all in_channels and LANES of out_channels. */
static ptrdiff_t tile_weights(const struct amx_convolution *c) {
    return (ptrdiff_t)chunks_of(c) * 9 * chunk_of(c) * LANES;
}

struct place {
    int plane, row, column;
};

static inline ptrdiff_t at(const struct steps *steps, const struct place *p) {
    return p->plane * steps->plane + p->row * steps->row + p->column * steps->pixel;
}

/* The results that one task makes: some rows, from a place to the column `end`. */
struct area {
    struct place first;
    int rows, end;
};

/* Some of these, in a tile for each row, and the sums from which they are made. A block at the end of a row begins
 * further to the left, so that it is full; what is made twice is stored once. */
struct block {
    struct place first; /* that is stored */
    int channel, rows, pixels, made_twice;
    int finished; /* rows that are stored */
    float *sums;
};

static int groups_of(const struct amx_convolution *c) { return (c->rows + MOST_ROWS - 1) / MOST_ROWS; }
static int parts_of(const struct amx_convolution *c) { return (c->width + TASK_PIXELS - 1) / TASK_PIXELS; }

static struct area area_of(const struct amx_convolution *c, long task) {
    int groups = groups_of(c), parts = parts_of(c), column = (int)(task % parts) * TASK_PIXELS;
    long group = task / parts % groups;
    int row = (int)(group * c->rows / groups), next = (int)((group + 1) * c->rows / groups);
    struct area area = {{(int)(task / parts / groups), row, column}, next - row, at_most(column + TASK_PIXELS, c->width)};
    return area;
}

static inline float float_of(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Tiles: four of sums, one of pixels, three of weights. */
#define PIXELS 4
#define WEIGHTS_0 5
#define WEIGHTS_1 6
#define WEIGHTS_2 7

#define NAMED(name) name##_plain
#include "amx_plain.h"
#include "amx_kernel.h"
#undef NAMED

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,amx-tile,amx-bf16,fma")
#define NAMED(name) name##_chip
#include "amx_chip.h"
#include "amx_kernel.h"
#undef NAMED
#pragma GCC pop_options

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

/* 1 if this processor has the unit, and the kernel lets this process use it. */
int amx_available(void) {
    unsigned eax, ebx, ecx, edx;
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bf16") || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return 0;
    const unsigned tiles = 1u << 24, bfloat16 = 1u << 22;
    if (!(edx & tiles) || !(edx & bfloat16)) return 0;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

void amx_convolve(const struct amx_convolution *c) { convolve_chip(c); }

/* Numbers of floating-point operations that `rounds` rounds of nothing but products of tiles took, on every thread. */
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16")
double amx_multiply(long rounds) {
    int threads = 0;
#pragma omp parallel reduction(+ : threads)
    {
        tiles_begin_chip(LANES, MOST_CHUNK);
        for (long round = 0; round < rounds; round++) {
            _tile_dpbf16ps(0, PIXELS, WEIGHTS_0);
            _tile_dpbf16ps(1, PIXELS, WEIGHTS_0);
            _tile_dpbf16ps(2, PIXELS, WEIGHTS_0);
            _tile_dpbf16ps(3, PIXELS, WEIGHTS_0);
        }
        _tile_release();
        threads++;
    }
    return 2.0 * 4 * LANES * LANES * MOST_CHUNK * threads * rounds;
}
#pragma GCC pop_options
#else
int amx_available(void) { return 0; }
double amx_multiply(long rounds) { return 0 * rounds; }
void amx_convolve(const struct amx_convolution *c) { convolve_plain(c); }
#endif

void amx_convolve_plainly(const struct amx_convolution *c) { convolve_plain(c); }
