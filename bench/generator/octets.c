/* A growable row of octets, and memory that is either there or ends the program: a load generator has no way on. */
#include "octets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_end(void *memory)
{
    if (memory == NULL) {
        fputs("generator: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

uint8_t *octets_reserve(struct octets *octets, size_t more)
{
    if (octets->count + more > octets->room) {
        octets->room = (octets->count + more) * 2 + 256;
        octets->at = or_end(realloc(octets->at, octets->room));
    }
    return octets->at + octets->count;
}

void octets_append(struct octets *octets, const void *more, size_t count)
{
    if (count == 0)
        return;
    memcpy(octets_reserve(octets, count), more, count);
    octets->count += count;
}

void octets_drop(struct octets *octets, size_t count)
{
    if (count == 0)
        return;
    memmove(octets->at, octets->at + count, octets->count - count);
    octets->count -= count;
}

void octets_free(struct octets *octets)
{
    free(octets->at);
    *octets = (struct octets){0};
}

void *allocate(size_t count, size_t size)
{
    return or_end(calloc(count, size));
}
