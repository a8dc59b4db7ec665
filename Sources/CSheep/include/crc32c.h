// CRC32C (Castagnoli, reflected polynomial 0x82f63b78), by the CPU's instruction where it has one.
#ifndef CSHEEP_CRC32C_H
#define CSHEEP_CRC32C_H
#include <stddef.h>
#include <stdint.h>
// The checksum of `length` bytes, continuing from `seed` (0 to begin).
uint32_t csheep_crc32c(uint32_t seed, const void *bytes, size_t length);
#endif
