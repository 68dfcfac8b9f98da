/* Waiting of threads for each other.
 *
 * OpenMP puts a waiting thread to sleep at once if OMP_WAIT_POLICY is passive, which the service needs: cores are
 * shared with other work. But the other threads are often ready within 20 µs, and waking a thread takes as long. So a
 * thread spins first, and then sleeps. On shared cores, spinning takes time from threads that have work: callers must
 * detect that, and sleep at once.
 */

#include <stdatomic.h>
#include <time.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <sched.h>
#endif

enum { SPIN_NS = 100 * 1000 };

/* A rising number, and the count of threads that sleep until it rises. */
struct signal {
    atomic_int number, sleepers;
};

static long clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static inline void pause_shortly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void give(struct signal *signal) {
    atomic_fetch_add(&signal->number, 1);
#ifdef __linux__
    if (atomic_load(&signal->sleepers)) syscall(SYS_futex, &signal->number, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
#endif
}

/* Sleep while the number is unchanged. */
static void sleep_through(struct signal *signal, int number) {
    atomic_fetch_add(&signal->sleepers, 1);
    while (atomic_load(&signal->number) == number) {
#ifdef __linux__
        syscall(SYS_futex, &signal->number, FUTEX_WAIT_PRIVATE, number, NULL, NULL, 0);
#else
        sched_yield();
#endif
    }
    atomic_fetch_sub(&signal->sleepers, 1);
}

/* Spin while the number is unchanged; return false if that took too long. */
static int spin_through(const struct signal *signal, int number) {
    const long began = clock_ns(CLOCK_MONOTONIC);
    while (atomic_load(&signal->number) == number) {
        for (int pause = 0; pause < 4; pause++) pause_shortly();
        if (clock_ns(CLOCK_MONOTONIC) - began > SPIN_NS) return 0;
    }
    return 1;
}
