#include "include/CLinuxEvents.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS 1000000000LL

int clinux_epoll_create(void)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	return epoll < 0 ? -errno : epoll;
}

static int control(int epoll, int operation, int descriptor, uint32_t token, int mode)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = token};
	if (mode == CLINUX_EPOLL_EDGE)
		event.events |= EPOLLET;
	else if (mode == CLINUX_EPOLL_ONCE)
		event.events |= EPOLLONESHOT;
	return epoll_ctl(epoll, operation, descriptor, &event) < 0 ? -errno : 0;
}

int clinux_epoll_add(int epoll, int descriptor, uint32_t token, int mode)
{
	return control(epoll, EPOLL_CTL_ADD, descriptor, token, mode);
}

int clinux_epoll_rearm(int epoll, int descriptor, uint32_t token, int mode)
{
	return control(epoll, EPOLL_CTL_MOD, descriptor, token, mode);
}

int clinux_epoll_remove(int epoll, int descriptor)
{
	return epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, NULL) < 0 ? -errno : 0;
}

int clinux_epoll_wait(int epoll, int timeout_ms, uint64_t *ready)
{
	struct epoll_event events[64];
	int count;

	*ready = 0;
	count = epoll_wait(epoll, events, 64, timeout_ms);
	if (count < 0)
		return -errno;
	for (int index = 0; index < count; index++)
		*ready |= UINT64_C(1) << (events[index].data.u32 & 63);
	return count;
}

int clinux_timer_create(void)
{
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	return timer < 0 ? -errno : timer;
}

int clinux_timer_set(int timer, int64_t first_ns, int64_t interval_ns, int absolute)
{
	struct itimerspec when = {
		.it_value = {.tv_sec = first_ns / NANOSECONDS, .tv_nsec = first_ns % NANOSECONDS},
		.it_interval = {.tv_sec = interval_ns / NANOSECONDS, .tv_nsec = interval_ns % NANOSECONDS},
	};
	return timerfd_settime(timer, absolute ? TFD_TIMER_ABSTIME : 0, &when, NULL) < 0 ? -errno : 0;
}

int clinux_signals_open(const int *signals, int count)
{
	sigset_t set;
	int descriptor, error;

	sigemptyset(&set);
	for (int index = 0; index < count; index++)
		sigaddset(&set, signals[index]);
	error = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (error)
		return -error;
	descriptor = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return descriptor < 0 ? -errno : descriptor;
}

int clinux_signals_next(int descriptor)
{
	struct signalfd_siginfo info;
	ssize_t length;

	do
		length = read(descriptor, &info, sizeof(info));
	while (length < 0 && errno == EINTR);
	if (length < 0)
		return errno == EAGAIN ? 0 : -errno;
	return length == sizeof(info) ? (int)info.ssi_signo : 0;
}

static int64_t read_clock(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return now.tv_sec * NANOSECONDS + now.tv_nsec;
}

int64_t clinux_clock_monotonic(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t clinux_clock_realtime(void)
{
	return read_clock(CLOCK_REALTIME);
}
