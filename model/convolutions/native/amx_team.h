/* The threads of a team, waiting for each other.
 *
 * OpenMP's barrier puts a waiting thread to sleep at once if OMP_WAIT_POLICY is passive, which the service needs: cores are
 * shared with other work. But on AMX the others are often ready within 20 µs, and waking a thread takes as long. So a
 * thread spins first, as long as no wait has been so long that the core was better left to somebody else.
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

enum { SPIN_NS = 100 * 1000, LONG_NS = 2 * SPIN_NS };

struct team {
    atomic_int arrived, round, sleepers;
};

static _Thread_local long spin_ns = SPIN_NS;

static long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static inline void pause_shortly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void sleep_through(struct team *team, int round) {
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(&team->round) == round) {
#ifdef __linux__
        syscall(SYS_futex, &team->round, FUTEX_WAIT_PRIVATE, round, NULL, NULL, 0);
#else
        sched_yield();
#endif
    }
    atomic_fetch_sub(&team->sleepers, 1);
}

static void begin_round(struct team *team) {
    atomic_store(&team->arrived, 0);
    atomic_fetch_add(&team->round, 1);
#ifdef __linux__
    if (atomic_load(&team->sleepers)) syscall(SYS_futex, &team->round, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
#endif
}

/* Wait until all threads of the team are here. */
static void meet(struct team *team) {
    const int threads = threads_of_team(), round = atomic_load(&team->round);
    if (threads == 1) return;
    if (atomic_fetch_add(&team->arrived, 1) == threads - 1) {
        begin_round(team);
        return;
    }
    const long began = now_ns();
    while (atomic_load(&team->round) == round) {
        for (int pause = 0; pause < 4; pause++) pause_shortly();
        if (now_ns() - began > spin_ns) sleep_through(team, round);
    }
    spin_ns = now_ns() - began < LONG_NS ? SPIN_NS : 0;
}
