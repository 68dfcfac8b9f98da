/* 3x3 convolutions of bfloat16 windows on AMX, the matrix unit of Intel processors since Sapphire Rapids: single ones,
 * whole RRDBs (amx_block.h), or the tail of a generator (amx_tail.h).
 *
 * amx_convolve reads planes of rows of pixels, channels last, with one pixel of padding on every side. The caller gives
 * the strides of pixels, rows and planes, so window and result may be slices of the channels of one buffer: a dense
 * block is read and written in place. For each pixel and output channel it computes
 *
 *     sum = bias + 9 x in_channels products, added up in float32
 *     value = sum > 0 ? sum : negative_slope * sum           negative_slope is from 0 to 1
 *     value = skip + scaling * value          for each of up to two skips, in bfloat16 or float32
 *
 * and stores value in `made` as bfloat16, in `exact` as float32, or in both. A skip may be `exact` or `made` itself,
 * with scaling 1, to accumulate results; a second skip is used only if there is a first one. Neither result may overlap
 * other channels that are read, unless their weights are zero and their values finite. If `repeats`, the padding of
 * `made` is written, too: its border pixels are copied to the left and the right of each row, and to the row above the
 * first or below the last one. With a factor, each pixel is stored factor x factor times: nearest-neighbour
 * enlargement.
 *
 * in_channels is even, out_channels any number. Width, rows and planes are at least 1. The value of a pixel is
 * bit-identical at any place in the window, and for any size of the window and any number of threads. amx.py packs the
 * weights in tiles: [out_channels / 16, rounded up][chunks][3 columns][3 rows][chunk / 2][16 of out_channels][2 of
 * in_channels]. A chunk is 32 of in_channels, or all of them if there are fewer. The last chunk ends with the last
 * channel, and has weights of zero for channels of the chunk before. Example: 40 channels are the chunks 0-31 and 8-39,
 * and the second one has zeros for 8-31.
 *
 * amx_convolve_portable computes the same bits in plain C, slowly, on any processor: the unit rounds to nearest, ties
 * to even, and treats numbers below 2^-126 as zero, in any rounding and flushing mode of the thread.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16, MAX_CHUNK = 32, MAX_ROWS = 4 };

/* Minimum pixels per row of a part. */
enum { PART_PIXELS = 64 };

#ifdef _OPENMP
#include <omp.h>
static int threads_of_team(void) { return omp_get_num_threads(); }
#else
static int threads_of_team(void) { return 1; }
#endif

/* Strides of planes, rows and pixels, in elements. */
struct steps {
    ptrdiff_t plane, row, pixel;
};

struct skip {
    const void *earlier; /* planes x earlier_rows x width pixels: the first rows, from the previous band, if any */
    const void *rows;    /* the rows after them; null for no skip */
    struct steps steps;  /* of both, except for the planes of `earlier` */
    ptrdiff_t earlier_plane;
    int earlier_rows, is_exact; /* float32 instead of bfloat16 */
    float scaling;
};

enum { REPEAT_SIDES = 1, REPEAT_ABOVE = 2, REPEAT_BELOW = 4 };

struct amx_convolution {
    const uint16_t *window; /* planes x (rows + 2) x (width + 2) pixels */
    const uint16_t *weights;
    const float *bias; /* out_channels, rounded up to a multiple of LANES */
    uint16_t *made;    /* planes x rows x width pixels; null for none */
    float *exact;      /* the same */
    struct steps window_steps, made_steps, exact_steps;
    struct skip skips[2];
    int planes, rows, width, in_channels, out_channels;
    int repeats; /* a sum of REPEAT_... */
    int factor;  /* of `made`, whose steps are those of the enlarged pixels */
    float negative_slope;
};

enum { CONVOLUTIONS = 5, DENSE_BLOCKS = 3 };

/* A dense block of an RRDB, and its memory between bands. Arrays are contiguous. */
struct amx_dense {
    const uint16_t *weights[CONVOLUTIONS];
    const float *bias[CONVOLUTIONS];
    uint16_t *halo; /* planes x (CONVOLUTIONS + 1) x (width + 2) x all_channels */
    float *waiting; /* planes x CONVOLUTIONS x width x channels: rows with incomplete results */
};

/* An RRDB and its memory between bands. */
struct amx_block {
    struct amx_dense dense[DENSE_BLOCKS];
    float *waiting; /* planes x (DENSE_BLOCKS * CONVOLUTIONS) x width x channels, for the block's own skip */
    int taken;      /* rows of the previous bands */
};

enum { BETWEEN = 3 };

/* A number of RRDBs over the next rows of a picture, which may be the last ones: see amx_block.h. Arrays are
 * contiguous, except for planes. */
struct amx_trunk {
    struct amx_block *const *blocks; /* `count` blocks of the same size */
    const float *rows;  /* planes x height x width x channels */
    float *made;        /* planes x all rows that are complete then x width x channels */
    float *between[BETWEEN]; /* memory for the results of all dense blocks but the last, for the maximum of rows */
    uint16_t *buffer;   /* memory for planes x (CONVOLUTIONS + 2 + most rows) x (width + 2) x all_channels */
    ptrdiff_t rows_plane, made_plane;
    int count, planes, width, channels, growth;
    int reads[CONVOLUTIONS]; /* channels that a convolution reads, see amx_band.h */
    int cleared;             /* number of channels after the input that are zero in new pixels */
    int height, ends; /* new rows; whether they are the last ones */
    int piece;        /* rows that go through a dense block at a time */
    int repeats; /* the padding repeats the border; otherwise it is zero */
    float negative_slope, scaling;
};

enum { MAX_STEPS = 8 };

/* A convolution at the end of a generator. */
struct amx_step {
    const uint16_t *weights;
    const float *bias;
    uint16_t *window; /* memory for planes x window_rows x (width + 2) x channels */
    uint16_t *halo;   /* planes x 2 x (width + 2) x channels, kept between bands */
    int window_rows;
    int factor; /* of the enlargement before the convolution */
    int taken;  /* rows of the window's picture received so far */
};

/* The tail of a generator over the next rows of a picture, which may be the last ones: see amx_tail.h. */
struct amx_tail {
    struct amx_step steps[MAX_STEPS + 1]; /* the last one unused */
    const float *rows; /* planes x height x width x channels, contiguous except for planes */
    float *made;       /* planes x all rows that are complete then x enlarged width x colours */
    float *sums;       /* memory for planes x the most rows that a piece completes x enlarged width x 2 * colours */
    ptrdiff_t rows_plane, made_plane, sums_plane;
    int planes, height, width, channels, colours, count, piece, ends, repeats;
    float negative_slope;
};

/* Results of a convolution. */
enum { ROUNDED = 1, EXACT = 2, SKIPS = 4, ENLARGED = 8, ANY = ROUNDED | EXACT | SKIPS | ENLARGED };

#define INLINE static inline __attribute__((always_inline))

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static int at_most(int value, int limit) { return value < limit ? value : limit; }

static int chunk_of(const struct amx_convolution *c) { return at_most(c->in_channels, MAX_CHUNK); }
static int chunks_of(const struct amx_convolution *c) { return (c->in_channels + chunk_of(c) - 1) / chunk_of(c); }

/* Number of weights for all in_channels and LANES of out_channels. */
static ptrdiff_t tile_weights(const struct amx_convolution *c) {
    return (ptrdiff_t)chunks_of(c) * 9 * chunk_of(c) * LANES;
}

/* Bytes of weights that fit into the L1 cache together with the pixels of a block. */
enum { L1_WEIGHTS_BYTES = 32 * 1024 };

static int exceeds_l1(const struct amx_convolution *c) {
    const ptrdiff_t weights = (c->out_channels + LANES - 1) / LANES * tile_weights(c);
    return weights * (ptrdiff_t)sizeof(uint16_t) > L1_WEIGHTS_BYTES;
}

struct place {
    int plane, row, column;
};

static inline ptrdiff_t at(const struct steps *steps, const struct place *p) {
    return p->plane * steps->plane + p->row * steps->row + p->column * steps->pixel;
}

/* The results of one task: rows from a place to the column `end`. */
struct area {
    struct place first;
    int rows, end;
};

/* A part of an area, with one tile per row, and its sums. A block at the end of a row begins further to the left, so
 * that it is full; pixels that are computed twice are stored once. */
struct block {
    struct place first; /* the first one stored */
    int channel, rows, pixels, made_twice;
    int finished; /* rows stored so far */
    float *sums;
};

/* True if a block has pixels at the border of the result. */
static inline int is_at_border(const struct amx_convolution *c, const struct block *b) {
    const int is_left = b->first.column == 0, is_right = b->first.column + b->pixels == c->width;
    return is_left || is_right || b->first.row == 0 || b->first.row + b->rows == c->rows;
}

static int groups_of(const struct amx_convolution *c) { return (c->rows + MAX_ROWS - 1) / MAX_ROWS; }

/* Division of the columns of planes: a thread has about the same columns in all convolutions, so they stay in its
 * cache. */
struct division {
    int parts, pixels;
};

static struct division division_of(int planes, int width) {
    int parts = at_most((threads_of_team() + planes - 1) / planes, (width + PART_PIXELS - 1) / PART_PIXELS);
    int pixels = ((width + parts - 1) / parts + LANES - 1) / LANES * LANES;
    struct division divided = {(width + pixels - 1) / pixels, pixels};
    return divided;
}

static struct area area_of(const struct amx_convolution *c, long task, const struct division *divided) {
    const int groups = groups_of(c), group = (int)(task % groups), column = (int)(task / groups % divided->parts) * divided->pixels;
    const int row = (int)((long)group * c->rows / groups), next = (int)((group + 1L) * c->rows / groups);
    struct area area = {{(int)(task / groups / divided->parts), row, column}, next - row, at_most(column + divided->pixels, c->width)};
    return area;
}

/* A row of a skip from a pixel on: one of the pointers is set, or none. */
struct skip_row {
    const float *exact;
    const uint16_t *rounded;
    ptrdiff_t pixel;
    float scaling;
};

static inline struct skip_row skip_row_of(const struct skip *s, struct place p, int channel) {
    struct skip_row found = {NULL, NULL, s->steps.pixel, s->scaling};
    const int is_earlier = p.row < s->earlier_rows;
    const void *from = is_earlier ? s->earlier : s->rows;
    ptrdiff_t first = p.plane * (is_earlier ? s->earlier_plane : s->steps.plane) + p.column * s->steps.pixel + channel;
    if (!s->rows) return found;
    first += (p.row - (is_earlier ? 0 : s->earlier_rows)) * s->steps.row;
    if (s->is_exact) found.exact = (const float *)from + first;
    else found.rounded = (const uint16_t *)from + first;
    return found;
}

static inline float float_of(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#include "amx_team.h"
#include "amx_band.h"
#include "amx_piece.h"

/* Tiles: four of sums, one of pixels, three of weights. */
#define PIXELS 4
#define WEIGHTS_0 5
#define WEIGHTS_1 6
#define WEIGHTS_2 7

#define NAMED(name) name##_plain
#include "amx_plain.h"
#include "amx_kernel.h"
#include "amx_block.h"
#include "amx_tail.h"
#include "amx_done.h"
#undef NAMED

#include "amx_unit.h"

#ifdef AMX_COMPILED
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,amx-tile,amx-bf16,fma")
#define NAMED(name) name##_chip
#include "amx_chip.h"
#include "amx_kernel.h"
#include "amx_block.h"
#include "amx_tail.h"
#include "amx_done.h"
#undef NAMED
#pragma GCC pop_options

void amx_convolve(const struct amx_convolution *c) { convolve_chip(c); }
void amx_trunk(const struct amx_trunk *t) { trunk_chip(t); }
void amx_tail(struct amx_tail *t) { tail_chip(t); }

/* Run `rounds` rounds of tile products on every thread; return the number of floating-point operations. */
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16")
double amx_multiply(long rounds) {
    int threads = 0;
#pragma omp parallel reduction(+ : threads)
    {
        tiles_begin_chip(LANES, MAX_CHUNK);
        for (long round = 0; round < rounds; round++) {
            _tile_dpbf16ps(0, PIXELS, WEIGHTS_0);
            _tile_dpbf16ps(1, PIXELS, WEIGHTS_0);
            _tile_dpbf16ps(2, PIXELS, WEIGHTS_0);
            _tile_dpbf16ps(3, PIXELS, WEIGHTS_0);
        }
        _tile_release();
        threads++;
    }
    return 2.0 * 4 * LANES * LANES * MAX_CHUNK * threads * rounds;
}
#pragma GCC pop_options
#else
double amx_multiply(long rounds) { return 0 * rounds; }
void amx_convolve(const struct amx_convolution *c) { convolve_plain(c); }
void amx_trunk(const struct amx_trunk *t) { trunk_plain(t); }
void amx_tail(struct amx_tail *t) { tail_plain(t); }
#endif

/* Return the size of a struct that callers fill, so that they detect a library from other sources. */
size_t struct_bytes(int number) {
#define OF(name) sizeof(struct name)
    const size_t bytes[] = {OF(skip), OF(amx_convolution), OF(amx_dense), OF(amx_block), OF(amx_trunk), OF(amx_step), OF(amx_tail)};
    return number < (int)(sizeof bytes / sizeof *bytes) ? bytes[number] : 0;
}

void amx_convolve_portable(const struct amx_convolution *c) { convolve_plain(c); }
void amx_trunk_portable(const struct amx_trunk *t) { trunk_plain(t); }
void amx_tail_portable(struct amx_tail *t) { tail_plain(t); }
