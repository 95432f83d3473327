/* What comes to the model: the callers' frames, each once, whole, in order, and at the session of its own call. */
#include "bench.h"

static void bind_to(struct bench *bench, struct session *session, const struct identity *identity)
{
    const struct caller *caller = &bench->callers[identity->whose];
    if (identity->number < caller->stint_first)
        return;
    session->caller = (int)identity->whose;
    session->stint = caller->stints;
}

static bool belongs(struct bench *bench, struct session *session, const struct identity *identity)
{
    if (session->caller == NOBODY)
        bind_to(bench, session, identity);
    const struct caller *caller = &bench->callers[identity->whose];
    return session->caller == (int)identity->whose && session->stint == caller->stints &&
           identity->number >= caller->stint_first;
}

static void take_frame(struct bench *bench, struct session *session, const struct identity *identity, bool damaged,
                       uint64_t at)
{
    struct tallies *tallies = &bench->tallies;
    if (identity->whose >= bench->load.calls || identity->number >= bench->callers[identity->whose].next) {
        tallies->wrong_up++; /* never sent */
        return;
    }
    if (!belongs(bench, session, identity)) {
        tallies->crosstalk++;
        return;
    }
    struct caller *caller = &bench->callers[identity->whose];
    uint32_t place = identity->number % REMEMBERED_FRAMES;
    bool counts = identity->number >= caller->window_first;
    if (!caller->talks && at > caller->ended_at + SETTLED_NS)
        tallies->after_end++;
    else if (identity->number + REMEMBERED_FRAMES < caller->next)
        tallies->duplicated_up += counts;
    else if (caller->heard[place] > 0 && caller->heard[place] != FORGIVEN) {
        if (caller->heard[place] < FORGIVEN - 1)
            caller->heard[place]++;
        tallies->duplicated_up += counts;
    } else {
        caller->heard[place] = 1;
        tallies->reordered_up += counts && caller->any_heard && identity->number < caller->highest;
        if (counts)
            histogram_add(&tallies->up, (int64_t)(at - caller->sent_at[place]));
    }
    tallies->wrong_up += counts && damaged;
    if (!caller->any_heard || identity->number > caller->highest)
        caller->highest = identity->number;
    caller->any_heard = true;
    caller->up_in_window = true;
}

/* The frame that should come next in this session; false when nobody can know. */
static bool expected(const struct bench *bench, const struct session *session, struct identity *identity)
{
    if (session->caller == NOBODY)
        return false;
    const struct caller *caller = &bench->callers[session->caller];
    uint32_t number = caller->any_heard ? caller->highest + 1 : caller->stint_first;
    *identity = (struct identity){UP, (uint32_t)session->caller, number};
    return number < caller->next && session->stint == caller->stints;
}

/* Octets up to the next place where a frame begins. */
static size_t foreign_octets(const uint8_t *octets, size_t count)
{
    struct identity ignored;
    for (size_t place = 1; place + FRAME_OCTETS <= count; place++)
        if (frame_identify(octets + place, UP, &ignored))
            return place;
    return count;
}

static size_t silent_octets(const uint8_t *octets, size_t count, bool alaw)
{
    size_t silent = 0;
    while (silent < count && is_silence(octets[silent], alaw))
        silent++;
    return silent;
}

/* What is at the beginning of these octets is counted; returns how many they are. */
static size_t hear_some(struct bench *bench, struct session *session, const uint8_t *octets, size_t count, uint64_t at)
{
    struct identity identity;
    if (count >= FRAME_OCTETS) {
        if (frame_identify(octets, UP, &identity)) {
            take_frame(bench, session, &identity, frame_alike(octets, identity) < FRAME_OCTETS, at);
            return FRAME_OCTETS;
        }
        if (expected(bench, session, &identity) && frame_alike(octets, identity) >= FRAME_RESEMBLES) {
            take_frame(bench, session, &identity, true, at);
            return FRAME_OCTETS;
        }
    }
    size_t silent = silent_octets(octets, count, bench->load.alaw);
    bench->tallies.made_up_octets += silent;
    if (silent > 0)
        return silent;
    bench->tallies.wrong_up++;
    return foreign_octets(octets, count);
}

void session_hear(struct bench *bench, struct session *session, const uint8_t *octets, size_t count, uint64_t at)
{
    while (count > 0) {
        size_t some = hear_some(bench, session, octets, count, at);
        octets += some;
        count -= some;
    }
}
