/* The barrier of a team of threads.
 *
 * If another thread has lost its core, spinning keeps it from taking this one: after a long wait a thread sleeps in the next
 * waits, in the more of them the more often that happens.
 */

#include "waiting.h"

enum { MIN_SLEEPS = 16, MAX_SLEEPS = 4096 };

struct team {
    atomic_int arrived;
    struct signal round;
};

/* Waits in which the thread is going to sleep at once, and how many they are after the next long wait. */
static _Thread_local int sleeps_left = 0, sleeps = MIN_SLEEPS;

static void wait_for_round(struct team *team, int round) {
    if (sleeps_left) {
        sleeps_left--;
        sleep_through(&team->round, round);
    } else if (spin_through(&team->round, round)) {
        sleeps -= (sleeps - MIN_SLEEPS + 15) / 16;
    } else {
        sleeps_left = sleeps;
        sleeps = at_most(2 * sleeps, MAX_SLEEPS);
        sleep_through(&team->round, round);
    }
}

/* Wait until all threads of the team are here. */
static void meet(struct team *team) {
    const int threads = threads_of_team(), round = atomic_load(&team->round.number);
    if (threads == 1) return;
    if (atomic_fetch_add(&team->arrived, 1) == threads - 1) {
        atomic_store(&team->arrived, 0);
        give(&team->round);
    } else {
        wait_for_round(team, round);
    }
}
