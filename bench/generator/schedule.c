/* What is due when: a binary heap of times. */
#include "schedule.h"

#include "octets.h"

#include <stdlib.h>
#include <string.h>

void schedule_add(struct schedule *schedule, struct due due)
{
    if (schedule->count == schedule->room) {
        struct due *grown = allocate(schedule->room * 2 + 64, sizeof *grown);
        if (schedule->count > 0)
            memcpy(grown, schedule->heap, schedule->count * sizeof *grown);
        free(schedule->heap);
        schedule->heap = grown;
        schedule->room = schedule->room * 2 + 64;
    }
    size_t place = schedule->count++;
    for (; place > 0 && schedule->heap[(place - 1) / 2].at > due.at; place = (place - 1) / 2)
        schedule->heap[place] = schedule->heap[(place - 1) / 2];
    schedule->heap[place] = due;
}

static void remove_first(struct schedule *schedule)
{
    struct due last = schedule->heap[--schedule->count];
    size_t place = 0;
    for (size_t child; (child = 2 * place + 1) < schedule->count; place = child) {
        if (child + 1 < schedule->count && schedule->heap[child + 1].at < schedule->heap[child].at)
            child++;
        if (last.at <= schedule->heap[child].at)
            break;
        schedule->heap[place] = schedule->heap[child];
    }
    schedule->heap[place] = last;
}

bool schedule_take(struct schedule *schedule, uint64_t now, struct due *due)
{
    if (schedule->count == 0 || schedule->heap[0].at > now)
        return false;
    *due = schedule->heap[0];
    remove_first(schedule);
    return true;
}

uint64_t schedule_next(const struct schedule *schedule)
{
    return schedule->count > 0 ? schedule->heap[0].at : UINT64_MAX;
}
