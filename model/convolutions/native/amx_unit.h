/* Request the use of AMX, the matrix unit of Intel processors. Included by amx.c and by training/native/convolutions.c.
 *
 * AMX_COMPILED is defined if the compiler supports the unit. */

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define AMX_COMPILED

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Return 1 if this processor multiplies vectors of bfloat16. */
int avx512_bf16_available(void) {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16");
}

/* Return 1 if this processor has the unit and the kernel lets this process use its registers. Each process must request
 * that once; the kernel refuses if a signal stack is too small for them, for example. */
int amx_available(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    const unsigned tiles = 1u << 24, bfloat16 = 1u << 22;
    unsigned eax, ebx, ecx, edx;
    if (!avx512_bf16_available() || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return 0;
    if (!(edx & tiles) || !(edx & bfloat16)) return 0;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
int avx512_bf16_available(void) { return 0; }
int amx_available(void) { return 0; }
#endif
