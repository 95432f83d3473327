/* A growable row of octets: what was received and not yet understood, what waits to be sent. */
#ifndef OCTETS_H
#define OCTETS_H

#include <stddef.h>
#include <stdint.h>

struct octets {
    uint8_t *at;
    size_t count, room;
};

/* Room for so many more; returns the place behind the last octet. Ends the program when there is no memory. */
uint8_t *octets_reserve(struct octets *octets, size_t more);
void octets_append(struct octets *octets, const void *more, size_t count);
void octets_drop(struct octets *octets, size_t count); /* the first ones */
void octets_free(struct octets *octets);

/* Zeroed memory, or the end of the program. */
void *allocate(size_t count, size_t size);

#endif
