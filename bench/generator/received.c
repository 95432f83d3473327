/* What comes to the telephones: RTP (RFC 3550) that keeps its rules, with every frame of the answers once, whole. */
#define _GNU_SOURCE
#include "bench.h"

#include <string.h>
#include <sys/socket.h>

#define RTP_HEAD_OCTETS 12
#define LARGEST_PACKET 2048
#define PAYLOAD_TYPE 0x7F
#define AT_ONCE 4 /* usually there is one; what is left is there at the next tick */

struct rtp {
    const uint8_t *payload;
    uint32_t octets, timestamp, ssrc;
    uint16_t sequence;
    uint8_t payload_type;
};

static uint32_t read_32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* RFC 3550 section 5.1; false when it is no RTP. */
static bool parse(const uint8_t *packet, size_t count, struct rtp *rtp)
{
    if (count < RTP_HEAD_OCTETS || packet[0] >> 6 != 2)
        return false;
    size_t head = RTP_HEAD_OCTETS + 4U * (packet[0] & 0x0F), padding = 0;
    if (packet[0] & 0x10) { /* a header extension */
        if (count < head + 4)
            return false;
        head += 4 + 4U * ((unsigned)packet[head + 2] << 8 | packet[head + 3]);
    }
    if (packet[0] & 0x20)
        padding = packet[count - 1];
    if (count < head + padding)
        return false;
    *rtp = (struct rtp){
        .payload = packet + head,
        .octets = (uint32_t)(count - head - padding),
        .timestamp = read_32(packet + 4),
        .ssrc = read_32(packet + 8),
        .sequence = (uint16_t)(packet[2] << 8 | packet[3]),
        .payload_type = packet[1] & PAYLOAD_TYPE,
    };
    return true;
}

static unsigned number_of(const struct bench *bench, const struct caller *caller)
{
    return (unsigned)(caller - bench->callers);
}

/* How far a packet is from where the one before puts it, nanoseconds. A sender that skips what a stall has made late
 * leaves a hole in RTP time, which is as audible as the lateness that it makes up for. */
static int64_t pacing_error(const struct caller *caller, int32_t passed, uint64_t at)
{
    int64_t error = (int64_t)(at - caller->last.arrived_at) - (int64_t)passed * 125000; /* ns of a sample */
    int64_t hole = (int64_t)(passed - (int32_t)caller->last.octets) * 125000;
    error = error < 0 ? -error : error;
    return error < hole ? hole : error;
}

/* Against the packet before: numbers, times, pacing. False for one that is old. */
static bool follows(struct bench *bench, struct caller *caller, const struct rtp *rtp, uint64_t at)
{
    struct tallies *tallies = &bench->tallies;
    int16_t step = (int16_t)(rtp->sequence - caller->last.sequence);
    int32_t passed = (int32_t)(rtp->timestamp - caller->last.timestamp);
    if (step <= 0)
        return false;
    if (step > 1)
        tallies_violation(tallies, "caller %u: RTP sequence went from %u to %u", number_of(bench, caller),
                          caller->last.sequence, rtp->sequence);
    else if (passed < (int32_t)caller->last.octets)
        tallies_violation(tallies, "caller %u: RTP timestamp went on by %d after %u octets", number_of(bench, caller),
                          passed, caller->last.octets);
    else {
        tallies->timestamp_gaps += passed > (int32_t)caller->last.octets;
        histogram_add(&tallies->pacing, pacing_error(caller, passed, at));
    }
    return true;
}

static void take_head(struct bench *bench, struct caller *caller, const struct rtp *rtp, uint64_t at)
{
    if (caller->last.known && caller->last.ssrc != rtp->ssrc) {
        if (!caller->new_stream)
            tallies_violation(&bench->tallies, "caller %u: another SSRC in the middle of a call",
                              number_of(bench, caller));
        caller->last.known = false;
    }
    if (caller->last.known && !follows(bench, caller, rtp, at))
        return;
    if (!caller->last.known)
        caller->new_stream = false;
    caller->last.known = true;
    caller->last.sequence = rtp->sequence;
    caller->last.timestamp = rtp->timestamp;
    caller->last.ssrc = rtp->ssrc;
    caller->last.octets = rtp->octets;
    caller->last.arrived_at = at;
}

static uint32_t stint_of(const struct caller *caller)
{
    return caller->talks || caller->new_stream ? caller->stints : caller->stints + 1; /* the next one's first packets */
}

/* Whether this session's audio may come to this caller; a session that nobody has becomes this caller's. */
static bool belongs(const struct bench *bench, const struct caller *caller, struct session *session)
{
    if (session->caller == NOBODY) {
        session->caller = (int)number_of(bench, caller);
        session->stint = stint_of(caller);
    }
    return session->caller == (int)number_of(bench, caller) && session->stint == stint_of(caller);
}

/* The audio of an answer goes on with this frame. */
static void take_frame(struct bench *bench, struct caller *caller, struct session *session, uint32_t number,
                       bool damaged, uint64_t at)
{
    struct tallies *tallies = &bench->tallies;
    struct answer *answer = answer_with(session, number);
    if (answer == NULL) { /* so old that it was counted long ago, or never sent */
        if (number >= session->next_frame)
            tallies->wrong_down++;
        else
            tallies->duplicated_down++;
        return;
    }
    uint32_t place = number - answer->first;
    bool remainder = answer->cut && place == answer_sent_frames(answer); /* of a delta that was cut off */
    caller->session = (int)session->serial;
    caller->answer = answer->number;
    caller->down_in_window = true;
    bool counts = place >= answer->counts_from, again = answer->heard[place] > 0;
    if (answer->heard[place] < UINT8_MAX)
        answer->heard[place]++;
    if (counts && answer->beyond == 0)
        histogram_add(&tallies->down, (int64_t)(at - answer->began_at));
    if (counts && !remainder && (damaged || place >= answer_sent_frames(answer)))
        tallies->wrong_down++;
    if (counts && again)
        tallies->duplicated_down++;
    else if (counts && place < answer->beyond)
        tallies->reordered_down++;
    if (place >= answer->beyond)
        answer->beyond = place + 1;
}

/* The answer that this caller is hearing; NULL when there is none that must go on. */
static struct answer *playing(const struct bench *bench, const struct caller *caller, struct session **session)
{
    *session = caller->session == NOBODY ? NULL : session_numbered(bench, (uint32_t)caller->session);
    struct answer *answer = *session == NULL ? NULL : answer_numbered(*session, caller->answer);
    return answer != NULL && !answer->cut && answer->beyond < answer->frames ? answer : NULL;
}

static bool all_silence(const uint8_t *octets, bool alaw)
{
    for (unsigned place = 0; place < FRAME_OCTETS; place++)
        if (!is_silence(octets[place], alaw))
            return false;
    return true;
}

static void take_octets(struct bench *bench, struct caller *caller, const uint8_t *octets, uint64_t at)
{
    struct tallies *tallies = &bench->tallies;
    struct session *session;
    struct identity identity;
    if (frame_identify(octets, DOWN, &identity)) {
        session = session_numbered(bench, identity.whose);
        if (session == NULL || !belongs(bench, caller, session))
            tallies->crosstalk++;
        else
            take_frame(bench, caller, session, identity.number, frame_alike(octets, identity) < FRAME_OCTETS, at);
        return;
    }
    struct answer *answer = playing(bench, caller, &session);
    if (all_silence(octets, bench->load.alaw)) {
        tallies->silent_rtp++;
        tallies->underruns += answer != NULL && answer->beyond >= answer->counts_from;
        return;
    }
    if (answer != NULL) {
        identity = (struct identity){DOWN, session->serial, answer->first + answer->beyond};
        if (frame_alike(octets, identity) >= FRAME_RESEMBLES) {
            take_frame(bench, caller, session, identity.number, true, at);
            return;
        }
    }
    tallies->wrong_down++;
}

static bool is_over(const struct caller *caller, const struct rtp *rtp, uint64_t at)
{
    return !caller->talks && caller->ended_at > 0 && at > caller->ended_at + UNDER_WAY_NS && caller->last.known &&
           caller->last.ssrc == rtp->ssrc && caller->new_stream;
}

static void take_packet(struct bench *bench, struct caller *caller, const uint8_t *packet, size_t count, uint64_t at)
{
    struct tallies *tallies = &bench->tallies;
    struct rtp rtp;
    tallies->received_rtp++;
    if (!parse(packet, count, &rtp)) {
        tallies_violation(tallies, "caller %u: %zu octets that are no RTP", number_of(bench, caller), count);
        return;
    }
    if (is_over(caller, &rtp, at)) {
        tallies->after_end++;
        return;
    }
    if (rtp.payload_type != (bench->load.alaw ? 8 : 0) || rtp.octets == 0 || rtp.octets % FRAME_OCTETS != 0) {
        tallies_violation(tallies, "caller %u: RTP of payload type %u with %u octets", number_of(bench, caller),
                          rtp.payload_type, rtp.octets);
        return;
    }
    take_head(bench, caller, &rtp, at);
    for (uint32_t place = 0; place < rtp.octets; place += FRAME_OCTETS)
        take_octets(bench, caller, rtp.payload + place, at);
}

void caller_receive(struct bench *bench, struct caller *caller)
{
    static uint8_t packets[AT_ONCE][LARGEST_PACKET];
    char stamps[AT_ONCE][STAMP_OCTETS];
    struct iovec places[AT_ONCE];
    struct mmsghdr messages[AT_ONCE];
    for (unsigned i = 0; i < AT_ONCE; i++) {
        places[i] = (struct iovec){packets[i], LARGEST_PACKET};
        messages[i].msg_hdr = (struct msghdr){
            .msg_iov = &places[i], .msg_iovlen = 1, .msg_control = stamps[i], .msg_controllen = STAMP_OCTETS};
    }
    int count = recvmmsg(caller->fd, messages, AT_ONCE, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++)
        take_packet(bench, caller, packets[i], messages[i].msg_len, clock_stamp(&messages[i].msg_hdr));
}
