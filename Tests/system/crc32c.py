# CRC32C (Castagnoli) fast enough to check whole stores: a few lines of C, compiled once; without a compiler, Python.
# Independent of the product's own: it must never be built from the product's sources.
import ctypes
import os
import subprocess
import tempfile

_SOURCE = """
#include <stddef.h>
#include <stdint.h>
static uint32_t table[8][256];
__attribute__((constructor)) static void fill(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++) table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 255];
}
uint32_t checksum(const uint8_t *p, size_t n) {
    uint32_t c = ~0u;
    for (; n >= 8; n -= 8, p += 8) {
        c ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        c = table[7][c & 255] ^ table[6][c >> 8 & 255] ^ table[5][c >> 16 & 255] ^ table[4][c >> 24]
            ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    while (n--) c = table[0][(c ^ *p++) & 255] ^ c >> 8;
    return ~c;
}
"""


def _compile():
    with tempfile.TemporaryDirectory() as directory:
        library = os.path.join(directory, "crc32c.so")
        for compiler in ["gcc", "clang", "cc"]:
            try:
                subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-x", "c", "-o", library, "-"], input=_SOURCE.encode(),
                               check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            function = ctypes.CDLL(library).checksum
            function.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
            function.restype = ctypes.c_uint32
            return lambda data: function(bytes(data), len(data))
    return _in_python()


def _in_python():
    table = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ 0x82F63B78 if i & 1 else i >> 1
        table.append(i)

    def checksum(data):
        c = 0xFFFFFFFF
        for byte in data:
            c = table[(c ^ byte) & 255] ^ c >> 8
        return c ^ 0xFFFFFFFF
    return checksum


crc32c = _compile()
assert crc32c(b"123456789") == 0xE3069283
