/* Worker threads that run a convolution together with its caller, and spin until the next one begins: see waiting.h.
 *
 * Waking OpenMP's threads takes about as long as a convolution of a low band. There is one team per process; while it
 * is busy, other callers use OpenMP's threads. All callers use them if they spin, as they do unless OMP_WAIT_POLICY is
 * passive: two spinning teams would take the cores from each other.
 */

typedef void task(void *context, int thread);

#if defined(__linux__) && defined(_OPENMP)
#include <pthread.h>
#include <strings.h>

#include "waiting.h"

/* Each convolution earns one credit. Threads that spin in vain, or lose their core during a convolution, spend some.
 * Below zero, all threads sleep at once for a number of convolutions, which doubles as long as that happens. */
enum { MAX_CREDIT = 48, FIRST_CREDIT = 6, VAIN_SPIN = 3, LOST_CORE = 40, MIN_SLEEPS = 16, MAX_SLEEPS = 1024 };

static struct {
    atomic_flag taken;
    int threads; /* without the caller */
    int wanted;  /* threads for this convolution, with the caller */
    task *run;
    void *context;
    struct signal begun, ended;
    atomic_int at_work;
    int credit, sleeps_left, sleeps; /* convolutions until threads spin again, and the next number of them */
    atomic_int spent, spins;
} workers = {.taken = ATOMIC_FLAG_INIT, .credit = MAX_CREDIT, .spins = 1, .sleeps = MIN_SLEEPS};

static void run_task(int thread) {
    long began = clock_ns(CLOCK_MONOTONIC), used = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    workers.run(workers.context, thread);
    used = clock_ns(CLOCK_THREAD_CPUTIME_ID) - used;
    if (clock_ns(CLOCK_MONOTONIC) - began - used > SPIN_NS) atomic_fetch_add(&workers.spent, LOST_CORE);
}

static void wait_for(struct signal *signal, int number) {
    if (workers.spins) {
        if (spin_through(signal, number)) return;
        atomic_fetch_add(&workers.spent, VAIN_SPIN);
    }
    sleep_through(signal, number);
}

static void *work(void *number) {
    int thread = (int)(ptrdiff_t)number;
    for (int seen = atomic_load(&workers.begun.number);; seen++) {
        if (atomic_fetch_sub(&workers.at_work, 1) == 1) give(&workers.ended);
        wait_for(&workers.begun, seen);
        if (thread < workers.wanted) run_task(thread);
    }
    return NULL;
}

/* Decide whether threads spin after the next convolution. */
static void settle(void) {
    workers.credit = at_most(workers.credit + 1 - atomic_exchange(&workers.spent, 0), MAX_CREDIT);
    if (workers.credit < 0) {
        workers.credit = FIRST_CREDIT;
        workers.sleeps_left = workers.sleeps;
        workers.sleeps = at_most(2 * workers.sleeps, MAX_SLEEPS);
    } else if (workers.spins) {
        workers.sleeps -= (workers.sleeps - MIN_SLEEPS + 15) / 16;
    } else {
        workers.sleeps_left--;
    }
    workers.spins = !workers.sleeps_left;
}

/* Start a thread, and wait until it is waiting; return false if no further one can be started. */
static int start(int number) {
    int ended = atomic_load(&workers.ended.number);
    pthread_t thread;
    atomic_store(&workers.at_work, 1);
    if (pthread_create(&thread, NULL, work, (void *)(ptrdiff_t)number)) return 0;
    pthread_detach(thread);
    wait_for(&workers.ended, ended);
    return 1;
}

/* True if OpenMP's threads sleep. Reads the variable once, as OpenMP does. */
static int openmp_sleeps;

/* Reset the team in the child of a fork, which has neither its threads nor the caller that used it. */
static void forget_threads(void) {
    workers.threads = 0;
    atomic_store(&workers.begun.sleepers, 0);
    atomic_store(&workers.ended.sleepers, 0);
    atomic_flag_clear(&workers.taken);
}

static __attribute__((constructor)) void prepare(void) {
    const char *policy = getenv("OMP_WAIT_POLICY");
    openmp_sleeps = policy && strcasecmp(policy, "passive") == 0;
    pthread_atfork(NULL, NULL, forget_threads);
}

/* Run a task in up to `threads` threads, numbered from 0; return false if the team cannot do it now. */
static int run_together(task *run, void *context, int threads) {
    /* If OpenMP binds threads to cores, new threads would all run on the caller's core. */
    if (!openmp_sleeps || omp_get_proc_bind() != omp_proc_bind_false) return 0;
    if (atomic_flag_test_and_set(&workers.taken)) return 0;
    while (workers.threads < threads - 1 && start(workers.threads + 1)) workers.threads++;
    int ended = atomic_load(&workers.ended.number);
    workers.run = run, workers.context = context, workers.wanted = threads;
    atomic_store(&workers.at_work, workers.threads);
    give(&workers.begun);
    run_task(0);
    if (workers.threads) wait_for(&workers.ended, ended);
    settle();
    atomic_flag_clear(&workers.taken);
    return 1;
}
#else
static int run_together(task *run, void *context, int threads) {
    (void)run, (void)context, (void)threads;
    return 0;
}
#endif
