/* The ledger of responses' audio: what was sent to the connector, and what of it the caller has heard. */
#include "bench.h"

#include "octets.h"

#include <stdlib.h>
#include <string.h>

#define OVERTAKEN_FRAMES 50 /* a frame may come so much later than its successors and is not yet lost */

static void forget(struct bench *bench, struct answer *answer)
{
    answer_missing(answer, UINT64_MAX, &bench->tallies.lost_down, &bench->tallies.cut_down);
    free(answer->heard);
    *answer = (struct answer){0};
}

struct answer *answer_begin(struct bench *bench, struct session *session)
{
    uint32_t number = ++session->answers_begun;
    struct answer *answer = &session->answers[number % REMEMBERED_ANSWERS];
    forget(bench, answer);
    *answer = (struct answer){
        .number = number,
        .first = session->next_frame,
        .frames = bench->load.speech_ms / FRAME_MS,
        .cut = caller_has_ended(bench, session), /* nobody is there to hear it */
    };
    answer->heard = allocate(answer->frames, 1);
    session->next_frame += answer->frames;
    bench->tallies.responses++;
    return answer;
}

struct answer *answer_numbered(struct session *session, uint32_t number)
{
    struct answer *answer = &session->answers[number % REMEMBERED_ANSWERS];
    return number > 0 && answer->number == number ? answer : NULL;
}

struct answer *answer_with(struct session *session, uint32_t frame)
{
    for (unsigned i = 0; i < REMEMBERED_ANSWERS; i++) {
        struct answer *answer = &session->answers[i];
        if (answer->number > 0 && frame - answer->first < answer->frames)
            return answer;
    }
    return NULL;
}

uint32_t answer_sent_frames(const struct answer *answer)
{
    return answer->sent_octets / FRAME_OCTETS;
}

void answer_octets(const struct session *session, const struct answer *answer, uint8_t *octets, size_t count)
{
    uint8_t made[FRAME_OCTETS];
    for (uint32_t place = answer->sent_octets; count > 0;) {
        uint32_t within = place % FRAME_OCTETS;
        size_t part = FRAME_OCTETS - within < count ? FRAME_OCTETS - within : count;
        frame_make((struct identity){DOWN, session->serial, answer->first + place / FRAME_OCTETS}, made);
        memcpy(octets, made + within, part);
        octets += part, count -= part, place += (uint32_t)part;
    }
}

/* Whether what has not come by now never will. */
static bool is_settled(const struct answer *answer, uint64_t now)
{
    return answer->cut || now > answer->played_by + SETTLED_NS;
}

/* Whether this frame was passed over so long ago that it is lost before the whole answer is settled. */
static bool is_overtaken(const struct answer *answer, uint32_t frame)
{
    return frame + OVERTAKEN_FRAMES < answer->beyond;
}

void answer_begin_window(struct answer *answer, uint64_t now)
{
    uint32_t frame = is_settled(answer, now) ? answer->frames : 0;
    while (frame < answer->beyond && (answer->heard[frame] > 0 || is_overtaken(answer, frame)))
        frame++;
    answer->counts_from = frame;
}

void answer_missing(const struct answer *answer, uint64_t now, uint64_t *lost, uint64_t *cut)
{
    bool settled = is_settled(answer, now);
    uint32_t sent = answer_sent_frames(answer);
    for (uint32_t frame = answer->counts_from; frame < sent; frame++) {
        if (answer->heard[frame] > 0)
            continue;
        if (frame < answer->beyond)
            *lost += settled || is_overtaken(answer, frame);
        else if (answer->cut)
            ++*cut;
        else
            *lost += settled;
    }
}

void answers_cut(struct session *session)
{
    uint64_t now = clock_wall_ns();
    for (unsigned i = 0; i < REMEMBERED_ANSWERS; i++)
        if (session->answers[i].number > 0 && session->answers[i].played_by + PLAYOUT_NS > now)
            session->answers[i].cut = true;
    session->voice_until = 0;
}

void answers_forget(struct bench *bench, struct session *session)
{
    for (unsigned i = 0; i < REMEMBERED_ANSWERS; i++)
        if (session->answers[i].number > 0)
            forget(bench, &session->answers[i]);
}
