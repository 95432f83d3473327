/* Durations, counted by size: any number of them in fixed memory, percentiles within 1 %, the largest exactly. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

/* Microseconds in steps of one up to 128, then 64 steps for each doubling, up to 2^38 (three days). */
#define HISTOGRAM_STEPS 64
#define HISTOGRAM_BINS (HISTOGRAM_STEPS * 34)

struct histogram {
    uint64_t bins[HISTOGRAM_BINS];
    uint64_t count, max_ns;
};

void histogram_add(struct histogram *histogram, int64_t duration_ns); /* a negative one counts as 0 */
void histogram_print(const struct histogram *histogram, const char *name, FILE *out); /* as a member of JSON */

#endif
