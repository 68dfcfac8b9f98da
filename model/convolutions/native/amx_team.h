/* The threads of a team, waiting for each other.
 *
 * OpenMP's barrier puts a waiting thread to sleep at once if OMP_WAIT_POLICY is passive, which the service needs: cores are
 * shared with other work. But on AMX the others are often ready within 20 µs, and waking a thread takes as long. So a
 * thread spins first. If another one has lost its core, spinning keeps it from taking this one: after a long wait a thread
 * sleeps in the next waits, in the more of them the more often that happens.
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

enum { SPIN_NS = 100 * 1000, MIN_SLEEPS = 16, MAX_SLEEPS = 4096 };

struct team {
    atomic_int arrived, round, sleepers;
};

/* Waits in which the thread is going to sleep at once, and how many they are after the next long wait. */
static _Thread_local int sleeps_left = 0, sleeps = MIN_SLEEPS;

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

/* Return true if the others came in time. */
static int spin_through(const struct team *team, int round) {
    const long began = now_ns();
    while (atomic_load(&team->round) == round) {
        for (int pause = 0; pause < 4; pause++) pause_shortly();
        if (now_ns() - began > SPIN_NS) return 0;
    }
    return 1;
}

/* Wait until all threads of the team are here. */
static void meet(struct team *team) {
    const int threads = threads_of_team(), round = atomic_load(&team->round);
    if (threads == 1) return;
    if (atomic_fetch_add(&team->arrived, 1) == threads - 1) {
        begin_round(team);
        return;
    }
    if (sleeps_left) {
        sleeps_left--;
        sleep_through(team, round);
    } else if (spin_through(team, round)) {
        sleeps -= (sleeps - MIN_SLEEPS + 15) / 16;
    } else {
        sleeps_left = sleeps;
        sleeps = at_most(2 * sleeps, MAX_SLEEPS);
        sleep_through(team, round);
    }
}
