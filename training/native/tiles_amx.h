/* The tiles of AMX: 16 rows of 64 bytes, that is 32 bfloat16 or 16 floats. */

struct NAME(tiles) {
    char none;
};
#define MEMORY_ASM(text, ...) __asm__ volatile(text ::__VA_ARGS__ : "memory")
#define CLEAR(tile) __asm__ volatile("tilezero %%tmm" #tile ::)
#define LOAD(tile, from, bytes) \
    MEMORY_ASM("tileloadd (%0,%1,1), %%tmm" #tile, "r"((const void *)(from)), "r"((ptrdiff_t)(bytes)))
#define LOAD_SUMS LOAD
#define STORE(tile, to, bytes) \
    MEMORY_ASM("tilestored %%tmm" #tile ", (%0,%1,1)", "r"((void *)(to)), "r"((ptrdiff_t)(bytes)))
#define MULTIPLY(sums, left, right) \
    __asm__ volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sums ::)
#define TILES struct NAME(tiles) tiles __attribute__((unused))

static inline void NAME(begin)(void) {
    struct {
        unsigned char palette, start, reserved[14];
        unsigned short bytes[16];
        unsigned char rows[16];
    } all = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) all.bytes[tile] = 64, all.rows[tile] = 16;
    MEMORY_ASM("ldtilecfg (%0)", "r"(&all));
}

static inline void NAME(end)(void) { __asm__ volatile("tilerelease" ::); }
