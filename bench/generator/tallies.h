/* What is counted in a window, and how it is told. */
#ifndef TALLIES_H
#define TALLIES_H

#include "histogram.h"

#include <stdarg.h>

/* Every count, by the name that it is told by. */
#define TALLY_COUNTS(COUNT)                                                                                            \
    COUNT(appends) COUNT(deltas) COUNT(responses) COUNT(sent_rtp) COUNT(received_rtp) /* traffic */                    \
    COUNT(lost_up) COUNT(duplicated_up) COUNT(reordered_up) COUNT(wrong_up)                                            \
    COUNT(lost_down) COUNT(duplicated_down) COUNT(reordered_down) COUNT(wrong_down)                                    \
    COUNT(cut_down) COUNT(underruns) COUNT(silent_rtp) COUNT(made_up_octets) COUNT(timestamp_gaps)                     \
    COUNT(crosstalk) COUNT(after_end) COUNT(violations) COUNT(sessions_opened) COUNT(sessions_resumed)

#define TALLY_TIMES(TIME) TIME(up) TIME(down) TIME(pacing) TIME(sender_lag)

struct tallies {
#define COUNT(name) uint64_t name;
    TALLY_COUNTS(COUNT)
#undef COUNT
#define TIME(name) struct histogram name;
    TALLY_TIMES(TIME)
#undef TIME
    char first_violation[160];
    uint64_t began_at, cpu_then; /* monotonic and CPU time, ns */
};

void tallies_begin(struct tallies *tallies);
void tallies_violation(struct tallies *tallies, const char *format, ...) __attribute__((format(printf, 2, 3)));
void tallies_print(const struct tallies *tallies, unsigned calls, unsigned sessions_open, FILE *out); /* a line */

#endif
