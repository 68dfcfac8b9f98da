/* The functions of plain.h in one or two instructions of AVX512-BF16. */

typedef __m512 floats; /* LANES of them */

static inline floats NAME(all)(float value) { return _mm512_set1_ps(value); }
static inline floats NAME(get)(const float *from) { return _mm512_loadu_ps(from); }
static inline void NAME(put)(float *to, floats values) { _mm512_storeu_ps(to, values); }
static inline floats NAME(sum)(floats a, floats b) { return _mm512_add_ps(a, b); }
static inline floats NAME(fused)(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }
static inline floats NAME(product)(floats a, floats b) { return _mm512_mul_ps(a, b); }
static inline floats NAME(larger)(floats a, floats b) { return _mm512_max_ps(b, a); } /* NaN where a is NaN */

static inline floats NAME(widen)(const half *from) {
    return (floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from)), 16);
}

static inline void NAME(narrow)(half *to, floats values) {
    _mm256_storeu_si256((void *)to, (__m256i)_mm512_cvtneps_pbh(values));
}

static inline void NAME(narrow_two)(half *to, floats low, floats high) {
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

/* Multiplies by `slope` where `of` is not above zero. */
static inline floats NAME(sloped)(floats values, const half *of, floats slope) {
    __mmask16 flat = _mm256_cmple_epi16_mask(_mm256_loadu_si256((const void *)of), _mm256_setzero_si256());
    return _mm512_mask_mul_ps(values, flat, values, slope);
}

/* `values` where a equals b, or where it does not; 0 elsewhere. */
static inline floats NAME(where_same)(floats a, floats b, floats values) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), values);
}
static inline floats NAME(where_not)(floats a, floats b, floats values) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ), values);
}

/* `value` with the sign of a - b, or 0. */
static inline floats NAME(signed_as)(floats a, floats b, floats value) {
    floats above = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), value);
    return _mm512_mask_sub_ps(above, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), above, value);
}

static inline float NAME(total)(const half *values, ptrdiff_t number) { /* a multiple of 32 */
    __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    __m512 sums = _mm512_setzero_ps();
    for (ptrdiff_t i = 0; i < number; i += 32)
        sums = _mm512_dpbf16_ps(sums, (__m512bh)_mm512_loadu_si512(values + i), ones);
    return _mm512_reduce_add_ps(sums);
}

/* 16 channels of two pixels -> 16 pairs. */
static inline __m512i NAME(pair)(const half *first, const half *second) {
    static const unsigned short order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                             8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)first));
    both = _mm512_inserti64x4(both, _mm256_loadu_si256((const void *)second), 1);
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order), both);
}

static inline void NAME(pair_up)(half *to, const half *first, const half *second) {
    _mm512_storeu_si512(to, NAME(pair)(first, second));
}

/* 16 x 16 words of 32 bits, transposed. */
static inline __attribute__((always_inline)) void NAME(transpose)(__m512i *rows) {
    __m512i other[16];
    for (int i = 0; i < 16; i += 2) {
        other[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        other[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(other[i], other[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(other[i], other[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(other[i + 1], other[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(other[i + 1], other[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        other[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
        other[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
        other[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
        other[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_i32x4(other[i], other[i + 8], 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(other[i], other[i + 8], 0xdd);
        rows[i + 4] = _mm512_shuffle_i32x4(other[i + 4], other[i + 12], 0x88);
        rows[i + 12] = _mm512_shuffle_i32x4(other[i + 4], other[i + 12], 0xdd);
    }
}

/* 32 pixels x 16 channels -> 16 channels x 32 pixels. */
static inline void NAME(turn)(half *to, ptrdiff_t to_row, const half *from, ptrdiff_t pixel) {
    __m512i rows[16];
    for (int i = 0; i < 16; i++) rows[i] = NAME(pair)(from + 2 * i * pixel, from + (2 * i + 1) * pixel);
    NAME(transpose)(rows);
    for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + i * to_row, rows[i]);
}

/* 16 rows of 32 floats -> a tile: pairs of neighbours, one row of the tile per two columns. */
static inline void NAME(pack_rows)(half *to, const float *from, ptrdiff_t row) {
    __m512i rows[16];
    for (int i = 0; i < 16; i++)
        rows[i] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + i * row + 16), _mm512_loadu_ps(from + i * row));
    NAME(transpose)(rows);
    for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + 32 * i, rows[i]);
}
