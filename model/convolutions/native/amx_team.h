/* The barrier of a team of threads.
 *
 * If another thread has lost its core, spinning keeps it from taking this one. So after a long wait, a thread sleeps
 * during its next waits; their number grows each time that this happens.
 */

#include "waiting.h"

enum { MIN_SLEEPS = 16, MAX_SLEEPS = 4096 };

struct team {
    atomic_int arrived;
    struct signal round;
};

/* Number of waits left in which the thread sleeps at once, and their number after the next long wait. */
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

/* Wait for all threads of the team. */
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
