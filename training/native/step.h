/* The convolutions of a training step, for the vectors and the kernel that were included before. */

#include "layers.h"
#include "trunk.h"
#include "conv.h"
#include "features.h"
#include "maps.h"
#include "calls.h"
#undef NAME
#undef floats
#undef EACH
#undef CLEAR
#undef LOAD
#undef LOAD_SUMS
#undef STORE
#undef MULTIPLY
#undef TILES
#undef MEMORY_ASM
