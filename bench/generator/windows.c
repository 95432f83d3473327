/* The beginning of a window and its report.
 *
 * A frame counts in the window in which it came, or could no longer come: what is under way at the end is left to the
 * next one.
 */
#include "bench.h"

/* Frames that may still come, of those that are remembered: what is older was settled in the window before. */
static uint32_t unsettled(const struct caller *caller, uint64_t now)
{
    uint32_t back = 0;
    while (back < REMEMBERED_FRAMES && back < caller->next &&
           caller->sent_at[(caller->next - back - 1) % REMEMBERED_FRAMES] + SETTLED_NS >= now)
        back++;
    return back;
}

void window_begin(struct bench *bench)
{
    uint64_t now = clock_wall_ns();
    for (unsigned i = 0; i < bench->load.calls; i++) {
        struct caller *caller = &bench->callers[i];
        caller->window_first = caller->next - unsettled(caller, now);
        caller->up_in_window = caller->down_in_window = false;
    }
    for (uint32_t serial = bench->oldest_session; serial < bench->sessions_count; serial++)
        for (unsigned i = 0; bench->sessions[serial] != NULL && i < REMEMBERED_ANSWERS; i++)
            answer_begin_window(&bench->sessions[serial]->answers[i], now);
    tallies_begin(&bench->tallies);
}

/* Of the frames that are remembered. */
static uint64_t lost_up(const struct caller *caller, uint64_t now)
{
    uint64_t lost = 0;
    for (uint32_t back = unsettled(caller, now) + 1; back <= REMEMBERED_FRAMES; back++) {
        if (back > caller->next - caller->window_first)
            break;
        lost += caller->heard[(caller->next - back) % REMEMBERED_FRAMES] == 0;
    }
    return lost;
}

void window_report(struct bench *bench, FILE *out)
{
    struct tallies *tallies = &bench->tallies;
    uint64_t now = clock_wall_ns(), up_then = tallies->lost_up;
    uint64_t down_then = tallies->lost_down, cut_then = tallies->cut_down;
    unsigned calls = 0;
    for (unsigned i = 0; i < bench->load.calls; i++) {
        calls += bench->callers[i].up_in_window && bench->callers[i].down_in_window;
        tallies->lost_up += lost_up(&bench->callers[i], now);
    }
    for (uint32_t serial = bench->oldest_session; serial < bench->sessions_count; serial++)
        for (unsigned i = 0; bench->sessions[serial] != NULL && i < REMEMBERED_ANSWERS; i++) {
            const struct answer *answer = &bench->sessions[serial]->answers[i];
            if (answer->number > 0)
                answer_missing(answer, now, &tallies->lost_down, &tallies->cut_down);
        }
    tallies_print(tallies, calls, sessions_open(bench), out);
    tallies->lost_up = up_then; /* the window goes on: these may be asked for again */
    tallies->lost_down = down_then;
    tallies->cut_down = cut_then;
}
