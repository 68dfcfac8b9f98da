/* The products of winograd.c for one width of SIMD registers: part of winograd_kernel.h.
 *
 * A word of factors is one float, or two integers of neighbouring channels; sums of integers become floats by the units
 * of the weights.
 */

/* Multiply the factors of TILES tiles by the weights of one or two registers of out_channels, and sum over
 * in_channels. */
INLINE void NAMED(multiply_floats)(const float *factors, const float *weights, int words, float *products,
                                   int registers) {
    vec sums[TILES][2];
#pragma GCC unroll 12
    for (int tile = 0; tile < TILES; tile++) sums[tile][0] = sums[tile][1] = (vec){0};
    for (int done = 0; done < words; done += LANES, factors += GROUP)
        for (int lane = 0; lane < LANES; lane++, weights += LANES) {
            vec one = load(weights), other = registers > 1 ? load(weights + words * LANES) : one;
#pragma GCC unroll 12
            for (int tile = 0; tile < TILES; tile++) {
                float factor = factors[tile * LANES + lane];
                sums[tile][0] += factor * one;
                if (registers > 1) sums[tile][1] += factor * other;
            }
        }
#pragma GCC unroll 12
    for (int tile = 0; tile < TILES; tile++) {
        store(products + tile * LANES, sums[tile][0]);
        if (registers > 1) store(products + tile * LANES + GROUP, sums[tile][1]);
    }
}

#ifdef DOT
/* The same for integers; the units of the weights convert the sums to floats. */
INLINE void NAMED(multiply_integers)(const float *factors, const float *weights, const float *units, int words,
                                     float *products, int registers) {
    ivec sums[TILES][2];
#pragma GCC unroll 12
    for (int tile = 0; tile < TILES; tile++) sums[tile][0] = sums[tile][1] = (ivec){0};
    for (int done = 0; done < words; done += LANES, factors += GROUP)
#pragma GCC unroll 1
        for (int lane = 0; lane < at_most(words - done, LANES); lane++, weights += LANES) {
            ivec one = (ivec)load(weights), other = registers > 1 ? (ivec)load(weights + words * LANES) : one;
#pragma GCC unroll 12
            for (int tile = 0; tile < TILES; tile++) {
                ivec pair = (ivec){0} + *(const word *)(factors + tile * LANES + lane);
                sums[tile][0] = (ivec)DOT(sums[tile][0], pair, one);
                if (registers > 1) sums[tile][1] = (ivec)DOT(sums[tile][1], pair, other);
            }
        }
    vec one = load(units), other = registers > 1 ? load(units + LANES) : one;
#pragma GCC unroll 12
    for (int tile = 0; tile < TILES; tile++) {
        store(products + tile * LANES, one * __builtin_convertvector(sums[tile][0], vec));
        if (registers > 1) store(products + tile * LANES + GROUP, other * __builtin_convertvector(sums[tile][1], vec));
    }
}
#endif

INLINE void NAMED(multiply_some)(const float *factors, const float *weights, const float *units, int words,
                                 float *products, int registers) {
#ifdef DOT
    if (units) {
        NAMED(multiply_integers)(factors, weights, units, words, products, registers);
        return;
    }
#endif
    (void)units;
    NAMED(multiply_floats)(factors, weights, words, products, registers);
}

/* Separate functions, so that the compiler keeps all sums in registers. */
static __attribute__((noinline)) void NAMED(multiply_one)(const float *factors, const float *weights, const float *units,
                                                          int words, float *products) {
    NAMED(multiply_some)(factors, weights, units, words, products, 1);
}

static __attribute__((noinline)) void NAMED(multiply_two)(const float *factors, const float *weights, const float *units,
                                                          int words, float *products) {
    NAMED(multiply_some)(factors, weights, units, words, products, 2);
}

/* Multiply all tiles, in each of the 36 planes. */
static void NAMED(multiply)(const struct convolution *c, const float *factors, int tiles, float *products) {
    int words = in_words(c);
    size_t from = plane_words(in_places(c)), to = plane_words(c->out_channels);
    const float *weights = c->weights;
    for (int plane = 0; plane < FACTORS; plane++, factors += from, products += to)
        for (int channel = 0; channel < c->out_channels;) {
            int registers = channel + LANES < c->out_channels ? 2 : 1;
            const float *units = c->units ? c->units + plane * c->out_channels + channel : NULL;
            for (int tile = 0; tile < tiles; tile += TILES)
                (registers == 2 ? NAMED(multiply_two) : NAMED(multiply_one))(
                    factors + tile * LANES, weights, units, words, products + channel * AT_ONCE + tile * LANES);
            channel += registers * LANES;
            weights += (size_t)registers * LANES * words;
        }
}
