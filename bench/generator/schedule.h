/* What is due when: a binary heap of times. */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct due {
    uint64_t at; /* monotonic, ns */
    enum due_kind { CALLER_SENDS, SESSION_ACTS, SWEEP } kind;
    uint32_t number; /* of the caller or session */
};

struct schedule {
    struct due *heap;
    size_t count, room;
};

void schedule_add(struct schedule *schedule, struct due due);
bool schedule_take(struct schedule *schedule, uint64_t now, struct due *due); /* the earliest, if its time has come */
uint64_t schedule_next(const struct schedule *schedule);                     /* UINT64_MAX: nothing */

#endif
