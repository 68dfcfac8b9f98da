/* Undefine the names of amx_chip.h or amx_plain.h, so that the other one can be included. */

#undef TILES_BEGIN
#undef TILES_END
#undef TILE_ZERO
#undef TILE_LOAD
#undef WEIGHTS_LOAD
#undef TILE_STORE
#undef TILE_ADD
