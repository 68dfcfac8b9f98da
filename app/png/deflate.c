/* Compress filtered rows of a PNG with deflate (RFC 1951), using only Huffman codes and runs of equal bytes.
 *
 * Filtered rows of photographs and network outputs repeat only in flat areas. A search for other matches would take
 * most of a compressor's time and make the file larger: a short match costs more than its literals.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 128 << 10,  /* bytes with common codes */
    END = 256,          /* end of a block */
    FIRST_LENGTH = 257, /* the first symbol for the length of a run */
    SYMBOLS = 285,      /* the 286th is for length 258, which is not used */
    MIN_RUN = 16,
    MAX_RUN = 257,
    MAX_BITS = 12, /* of a code; deflate allows 15, but four codes of 12 and 7 pending bits fit into 64 bits */
};

/* A code: its bits, lowest first, with their number above them. */
typedef uint32_t code;
enum { NUMBER = 16 };

struct writer {
    uint8_t *at;
    uint64_t bits;
    unsigned held;
};

static inline void put(struct writer *writer, code code) {
    writer->bits |= (uint64_t)(code & 0xFFFF) << writer->held;
    writer->held += code >> NUMBER;
}

static inline void put_bits(struct writer *writer, unsigned number, unsigned bits) {
    put(writer, number << NUMBER | bits);
}

/* Writes all whole bytes; up to 57 bits may be put before the next flush. */
static inline void flush(struct writer *writer) {
    for (int i = 0; i < 8; i++) writer->at[i] = (uint8_t)(writer->bits >> 8 * i);
    writer->at += writer->held >> 3;
    writer->bits >>= writer->held & 56;
    writer->held &= 7;
}

/* Finds the next run at or after `from`: bytes that equal the one before. Finds all runs of 31 and more, some of 16.
 * Returns its start, or `count` if there is none. */
static size_t next_run(const uint8_t *bytes, size_t from, size_t count, size_t *length) {
    for (size_t at = from + 1; at + MIN_RUN <= count; at += MIN_RUN) {
        if (memcmp(bytes + at, bytes + at - 1, MIN_RUN) != 0) continue;
        size_t start = at, end = at + MIN_RUN;
        while (start > from + 1 && bytes[start - 1] == bytes[start - 2]) start--;
        while (end < count && bytes[end] == bytes[end - 1]) end++;
        *length = end - start;
        return start;
    }
    *length = 0;
    return count;
}

/* Returns the longest match in this run that leaves no remainder shorter than MIN_RUN. */
static size_t length_of(size_t run) {
    if (run <= MAX_RUN) return run;
    return run - MAX_RUN < MIN_RUN ? run - MIN_RUN : MAX_RUN;
}

/* Returns the symbol for a length, and the number of extra bits, which hold the lowest bits of length - 3. */
static unsigned length_symbol(size_t length, unsigned *extra) {
    unsigned rest = (unsigned)length - 3, bits = 0;
    while (rest >> bits >= 8) bits++;
    *extra = bits;
    return FIRST_LENGTH + 4 * bits + (rest >> bits);
}

static void count_symbols(const uint8_t *bytes, size_t count, uint32_t counts[SYMBOLS]) {
    uint32_t literals[4][256] = {{0}}; /* four tables: increments of one counter would wait for each other */
    for (size_t at = 0, run, length; at < count; at = run + length) {
        run = next_run(bytes, at, count, &length);
        for (; at + 4 <= run; at += 4)
            for (int i = 0; i < 4; i++) literals[i][bytes[at + (size_t)i]]++;
        for (; at < run; at++) literals[0][bytes[at]]++;
        for (size_t left = length; left > 0; left -= length_of(left)) {
            unsigned extra;
            counts[length_symbol(length_of(left), &extra)]++;
        }
    }
    for (int i = 0; i < 256; i++) counts[i] = literals[0][i] + literals[1][i] + literals[2][i] + literals[3][i];
    counts[END] = 1;
}

static int by_weight(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

/* Computes the Huffman code lengths of symbols, 0 for unused ones; at least two must be used. */
static void code_lengths(const uint32_t counts[SYMBOLS], uint8_t lengths[SYMBOLS]) {
    uint64_t leaves[SYMBOLS], weights[2 * SYMBOLS];
    int parents[2 * SYMBOLS], depths[2 * SYMBOLS], used = 0;
    for (int symbol = 0; symbol < SYMBOLS; symbol++)
        if (counts[symbol] > 0) leaves[used++] = (uint64_t)counts[symbol] << 16 | (uint64_t)symbol;
    qsort(leaves, (size_t)used, sizeof *leaves, by_weight);
    for (int i = 0; i < used; i++) weights[i] = leaves[i] >> 16;

    /* Join the two lightest nodes until one is left; parents are made in the order of their weights. */
    int deepest;
    do {
        int leaf = 0, inner = used, made = used;
        for (; made < 2 * used - 1; made++) {
            weights[made] = 0;
            for (int child = 0; child < 2; child++) {
                int lightest = leaf < used && (inner == made || weights[leaf] <= weights[inner]) ? leaf++ : inner++;
                weights[made] += weights[lightest];
                parents[lightest] = made;
            }
        }
        depths[made - 1] = 0, deepest = 0;
        for (int node = made - 2; node >= 0; node--) {
            depths[node] = depths[parents[node]] + 1;
            if (depths[node] > deepest) deepest = depths[node];
        }
        for (int i = 0; i < used; i++) weights[i] = (weights[i] + 1) / 2; /* too deep: flatten the weights and retry */
    } while (deepest > MAX_BITS);
    memset(lengths, 0, SYMBOLS);
    for (int i = 0; i < used; i++) lengths[leaves[i] & 0xFFFF] = (uint8_t)depths[i];
}

/* Assigns codes in the order of lengths and symbols (RFC 1951, 3.2.2). */
static void assign_codes(const uint8_t lengths[SYMBOLS], code codes[SYMBOLS]) {
    unsigned next = 0;
    for (unsigned length = 1; length <= MAX_BITS; length++, next <<= 1) {
        for (int symbol = 0; symbol < SYMBOLS; symbol++) {
            if (lengths[symbol] != length) continue;
            unsigned reversed = 0;
            for (unsigned bit = 0; bit < length; bit++) reversed |= (next >> bit & 1) << (length - 1 - bit);
            codes[symbol] = length << NUMBER | reversed;
            next++;
        }
    }
}

/* Writes the head of a block: the lengths of all codes, four bits each, and those of distances 1 and 2, because some
 * readers require two distance codes. */
static void put_head(struct writer *writer, int last, const uint8_t lengths[SYMBOLS]) {
    put_bits(writer, 3, 4 | (last ? 1 : 0)); /* dynamic Huffman codes */
    put_bits(writer, 5, SYMBOLS - 257);
    put_bits(writer, 5, 2 - 1);
    put_bits(writer, 4, 19 - 4);
    flush(writer);
    for (int i = 0; i < 19; i++) { /* lengths 0 to 15 have four bits; the first three are repeat codes, unused */
        put_bits(writer, 3, i < 3 ? 0 : 4);
        flush(writer);
    }
    static const unsigned reversed[16] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};
    for (int symbol = 0; symbol < SYMBOLS; symbol++) {
        put_bits(writer, 4, reversed[lengths[symbol]]);
        flush(writer);
    }
    put_bits(writer, 4, reversed[1]);
    put_bits(writer, 4, reversed[1]);
    flush(writer);
}

static void put_symbols(struct writer *writer, const uint8_t *bytes, size_t count, const code codes[SYMBOLS]) {
    struct writer w = *writer; /* a local copy, kept in registers */
    for (size_t at = 0, run, length; at < count; at = run + length) {
        run = next_run(bytes, at, count, &length);
        for (; at + 4 <= run; at += 4) {
            for (int i = 0; i < 4; i++) put(&w, codes[bytes[at + (size_t)i]]);
            flush(&w);
        }
        for (; at < run; at++) put(&w, codes[bytes[at]]);
        flush(&w);
        for (size_t left = length; left > 0; left -= length_of(left)) {
            unsigned extra, symbol = length_symbol(length_of(left), &extra);
            put(&w, codes[symbol]);
            put_bits(&w, extra, ((unsigned)length_of(left) - 3) & ((1U << extra) - 1));
            put_bits(&w, 1, 0); /* distance 1 */
            flush(&w);
        }
    }
    put(&w, codes[END]);
    flush(&w);
    *writer = w;
}

static void put_block(struct writer *writer, const uint8_t *bytes, size_t count, int last) {
    uint32_t counts[SYMBOLS] = {0};
    uint8_t lengths[SYMBOLS];
    code codes[SYMBOLS] = {0};
    count_symbols(bytes, count, counts);
    code_lengths(counts, lengths);
    assign_codes(lengths, codes);
    put_head(writer, last, lengths);
    put_symbols(writer, bytes, count, codes);
}

/* Compresses bytes into blocks that end on a byte boundary.
 *
 * last: 1 at the end of the stream, else 0.
 * deflated: room for 1.5 x `count` + 512 bytes.
 * Returns the number of compressed bytes.
 */
size_t deflate_bytes(const uint8_t *bytes, size_t count, int last, uint8_t *deflated) {
    struct writer writer = {deflated, 0, 0};
    for (size_t at = 0; at < count; at += BLOCK) {
        size_t rest = count - at;
        put_block(&writer, bytes + at, rest < BLOCK ? rest : BLOCK, last && rest <= BLOCK);
    }
    if (!last) put_bits(&writer, 3, 0); /* an empty stored block aligns to a byte */
    writer.held = (writer.held + 7) & ~7U;
    flush(&writer);
    if (!last) {
        memcpy(writer.at, "\0\0\xFF\xFF", 4);
        writer.at += 4;
    }
    return (size_t)(writer.at - deflated);
}
