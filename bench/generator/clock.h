/* Two clocks: the monotonic one says when something is due, the wall clock is the one that the kernel stamps with. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>
#include <sys/socket.h>

#define NS_PER_MS 1000000ULL
#define STAMP_OCTETS 64 /* of ancillary data, enough for one time stamp */

uint64_t clock_monotonic_ns(void);
uint64_t clock_wall_ns(void);
uint64_t clock_cpu_ns(void); /* used by this process so far */
void clock_sleep_until(uint64_t monotonic_ns);

/* Ask for stamps on what a socket receives (SO_TIMESTAMPNS), and read the one of a message: the wall clock, else. */
void clock_ask_stamps(int fd);
uint64_t clock_stamp(struct msghdr *message);

#endif
