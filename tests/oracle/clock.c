/* A wall clock that can be set for one process, as a library to preload: tests/oracle/clock.rs builds and sets it.
 *
 * The file that STRAYD_TEST_CLOCK names holds the seconds, an int64_t, by which the clock is off. The monotonic clock
 * goes on, as it does when a machine's clock is set. A wait until a time of the wall clock looks at it again and again,
 * which is what the kernel does when the clock is set meanwhile.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

/* The longest wait between two looks, nanoseconds. */
#define LOOK 50000000L

static const volatile int64_t *off;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_wait)(cnd_t *, mtx_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    real_wait = dlsym(RTLD_NEXT, "cnd_timedwait");
    const char *path = getenv("STRAYD_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *off, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) off = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!real_gettime) real_gettime = dlsym(RTLD_NEXT, "clock_gettime"); /* before the constructor */
    int failed = real_gettime(clock, time);
    if (!failed && clock == CLOCK_REALTIME && off) time->tv_sec += *off;
    return failed;
}

int gettimeofday(struct timeval *time, void *zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

int cnd_timedwait(cnd_t *cnd, mtx_t *mtx, const struct timespec *until) {
    for (;;) {
        struct timespec now, look;
        clock_gettime(CLOCK_REALTIME, &now);
        int64_t left = ((int64_t)until->tv_sec - now.tv_sec) * 1000000000L + until->tv_nsec - now.tv_nsec;
        if (left <= 0) return thrd_timedout;
        if (real_gettime(CLOCK_REALTIME, &look)) return thrd_error;
        look.tv_nsec += left < LOOK ? left : LOOK;
        if (look.tv_nsec >= 1000000000L) {
            look.tv_sec += 1;
            look.tv_nsec -= 1000000000L;
        }
        int ended = real_wait(cnd, mtx, &look);
        if (ended != thrd_timedout) return ended;
    }
}
