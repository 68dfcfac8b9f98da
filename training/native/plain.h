/* Tiles and vectors in plain C, for tests on any processor. A tile has 16 rows of 64 bytes: 32 bfloat16, or 16 floats. */

typedef struct {
    float of[LANES];
} floats_plain;
#define floats floats_plain
#define EACH for (int i = 0; i < LANES; i++)

struct NAME(tiles) {
    union {
        float sums[16][16];
        half halves[16][32];
    } of[8];
};
#define CLEAR(tile) memset(&tiles.of[tile], 0, sizeof tiles.of[tile])
#define LOAD(tile, from, bytes) \
    for (int row = 0; row < 16; row++) memcpy(tiles.of[tile].sums[row], (const char *)(from) + row * (bytes), 64)
#define LOAD_SUMS LOAD
#define STORE(tile, to, bytes) \
    for (int row = 0; row < 16; row++) memcpy((char *)(to) + row * (bytes), tiles.of[tile].sums[row], 64)
#define MULTIPLY(sums, left, right) NAME(multiply)(&tiles, sums, left, right)
#define TILES struct NAME(tiles) tiles

static void NAME(begin)(void) {}
static void NAME(end)(void) {}

static float NAME(float_of)(half value) {
    unsigned bits = (unsigned)value << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static half NAME(half_of)(float value) { /* to the nearest, ties to even; NaN stays NaN */
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value) return (half)(bits >> 16 | 0x40);
    return (half)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* The even and the odd products are summed separately, then both are added to the sums. */
static void NAME(multiply)(struct NAME(tiles) * tiles, int sums, int left, int right) {
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 16; column++) {
            float even = 0, odd = 0;
            for (int k = 0; k < 16; k++) {
                const half *a = tiles->of[left].halves[row] + 2 * k, *b = tiles->of[right].halves[k] + 2 * column;
                even += NAME(float_of)(a[0]) * NAME(float_of)(b[0]);
                odd += NAME(float_of)(a[1]) * NAME(float_of)(b[1]);
            }
            tiles->of[sums].sums[row][column] += even + odd;
        }
}

static floats NAME(all)(float value) {
    floats made;
    EACH made.of[i] = value;
    return made;
}
static floats NAME(get)(const float *from) {
    floats made;
    memcpy(&made, from, sizeof made);
    return made;
}
static void NAME(put)(float *to, floats values) { memcpy(to, &values, sizeof values); }
static floats NAME(sum)(floats a, floats b) {
    EACH a.of[i] += b.of[i];
    return a;
}
static floats NAME(fused)(floats a, floats b, floats c) {
    EACH a.of[i] = a.of[i] * b.of[i] + c.of[i];
    return a;
}
static floats NAME(product)(floats a, floats b) {
    EACH a.of[i] *= b.of[i];
    return a;
}
static floats NAME(larger)(floats a, floats b) {
    EACH a.of[i] = b.of[i] > a.of[i] ? b.of[i] : a.of[i];
    return a;
}
static floats NAME(widen)(const half *from) {
    floats made;
    EACH made.of[i] = NAME(float_of)(from[i]);
    return made;
}
static void NAME(narrow)(half *to, floats values) { EACH to[i] = NAME(half_of)(values.of[i]); }
static void NAME(narrow_two)(half *to, floats low, floats high) {
    NAME(narrow)(to, low);
    NAME(narrow)(to + LANES, high);
}
static floats NAME(sloped)(floats values, const half *of, floats slope) {
    EACH if (!(NAME(float_of)(of[i]) > 0)) values.of[i] *= slope.of[i];
    return values;
}
static floats NAME(where_same)(floats a, floats b, floats values) {
    EACH values.of[i] = a.of[i] == b.of[i] ? values.of[i] : 0;
    return values;
}
static floats NAME(where_not)(floats a, floats b, floats values) {
    EACH values.of[i] = a.of[i] == b.of[i] ? 0 : values.of[i];
    return values;
}
static floats NAME(signed_as)(floats a, floats b, floats value) {
    EACH value.of[i] = a.of[i] > b.of[i] ? value.of[i] : a.of[i] < b.of[i] ? -value.of[i] : 0;
    return value;
}
static float NAME(total)(const half *values, ptrdiff_t number) {
    float sum = 0;
    for (ptrdiff_t i = 0; i < number; i++) sum += NAME(float_of)(values[i]);
    return sum;
}
static void NAME(pair_up)(half *to, const half *first, const half *second) {
    EACH to[2 * i] = first[i], to[2 * i + 1] = second[i];
}
static void NAME(turn)(half *to, ptrdiff_t to_row, const half *from, ptrdiff_t pixel) {
    for (int p = 0; p < 32; p++) EACH to[i * to_row + p] = from[p * pixel + i];
}
static void NAME(pack_rows)(half *to, const float *from, ptrdiff_t row) {
    for (int k = 0; k < 32; k++) EACH to[k / 2 * 32 + 2 * i + k % 2] = NAME(half_of)(from[i * row + k]);
}
