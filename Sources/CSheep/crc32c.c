// CRC32C. On x86 with SSE4.2 a 4 KiB block runs as three interleaved instruction streams whose results are
// joined by a table of "advance by n zero bytes" operators (the method of Mark Adler's note on combining
// CRCs; the tables are computed at first use). Elsewhere: a table of 8 x 256 entries.
#include "include/crc32c.h"
#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u
#define LANE 1360u  // three lanes make 4080 of a block's 4096 bytes

static uint32_t slice[8][256];
static uint32_t shift_lane[4][256];
static uint32_t shift_two_lanes[4][256];
static int has_instruction;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint32_t multiply_vector(const uint32_t *matrix, uint32_t vector) {
    uint32_t sum = 0;
    for (; vector; vector >>= 1, matrix++)
        if (vector & 1) sum ^= *matrix;
    return sum;
}

static void square(uint32_t *out, const uint32_t *in) {
    for (int i = 0; i < 32; i++) out[i] = multiply_vector(in, in[i]);
}

// Fills `table` with the operator that appends `length` zero bytes to a message.
static void make_shift(uint32_t table[4][256], size_t length) {
    uint32_t power[32], next[32], operator_[32];
    power[0] = POLYNOMIAL;  // one zero bit
    for (int i = 1; i < 32; i++) power[i] = 1u << (i - 1);
    for (int i = 0; i < 32; i++) operator_[i] = 1u << i;
    for (int i = 0; i < 3; i++) {  // one zero byte
        square(next, power);
        memcpy(power, next, sizeof power);
    }
    while (length) {
        if (length & 1) {
            for (int i = 0; i < 32; i++) next[i] = multiply_vector(power, operator_[i]);
            memcpy(operator_, next, sizeof next);
        }
        square(next, power);
        memcpy(power, next, sizeof next);
        length >>= 1;
    }
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t n = 0; n < 256; n++) table[byte][n] = multiply_vector(operator_, n << (8 * byte));
}

static void prepare(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (int k = 0; k < 8; k++) crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
        slice[0][n] = crc;
    }
    for (uint32_t n = 0; n < 256; n++)
        for (int k = 1; k < 8; k++) slice[k][n] = (slice[k - 1][n] >> 8) ^ slice[0][slice[k - 1][n] & 255];
    make_shift(shift_lane, LANE);
    make_shift(shift_two_lanes, 2 * LANE);
#if defined(__x86_64__)
    __builtin_cpu_init();
    has_instruction = __builtin_cpu_supports("sse4.2");
#endif
}

static uint32_t by_table(uint32_t crc, const unsigned char *p, size_t length) {
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        word ^= crc;
        crc = slice[7][word & 255] ^ slice[6][(word >> 8) & 255] ^ slice[5][(word >> 16) & 255] ^
              slice[4][(word >> 24) & 255] ^ slice[3][(word >> 32) & 255] ^ slice[2][(word >> 40) & 255] ^
              slice[1][(word >> 48) & 255] ^ slice[0][word >> 56];
        p += 8;
        length -= 8;
    }
    while (length--) crc = (crc >> 8) ^ slice[0][(crc ^ *p++) & 255];
    return crc;
}

#if defined(__x86_64__)
static inline uint32_t apply(uint32_t table[4][256], uint32_t crc) {
    return table[0][crc & 255] ^ table[1][(crc >> 8) & 255] ^ table[2][(crc >> 16) & 255] ^ table[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t seed, const unsigned char *p, size_t length) {
    uint64_t a = seed, word;
    while (length >= 3 * LANE) {
        uint64_t b = 0, c = 0, wb, wc;
        for (size_t i = 0; i < LANE; i += 8) {
            memcpy(&word, p + i, 8);
            memcpy(&wb, p + LANE + i, 8);
            memcpy(&wc, p + 2 * LANE + i, 8);
            a = __builtin_ia32_crc32di(a, word);
            b = __builtin_ia32_crc32di(b, wb);
            c = __builtin_ia32_crc32di(c, wc);
        }
        a = apply(shift_two_lanes, (uint32_t)a) ^ apply(shift_lane, (uint32_t)b) ^ (uint32_t)c;
        p += 3 * LANE;
        length -= 3 * LANE;
    }
    while (length >= 8) {
        memcpy(&word, p, 8);
        a = __builtin_ia32_crc32di(a, word);
        p += 8;
        length -= 8;
    }
    uint32_t crc = (uint32_t)a;
    while (length--) crc = __builtin_ia32_crc32qi(crc, *p++);
    return crc;
}
#endif

uint32_t csheep_crc32c(uint32_t seed, const void *bytes, size_t length) {
    pthread_once(&once, prepare);
    uint32_t crc = ~seed;
#if defined(__x86_64__)
    if (has_instruction) return ~by_instruction(crc, bytes, length);
#endif
    return ~by_table(crc, bytes, length);
}
