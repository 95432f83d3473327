/* The telephones' sending side: a socket each, 50 frames a second on a grid of its own. */
#include "bench.h"

#include "octets.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RTP_HEAD_OCTETS 12
#define RTP_VERSION_2 0x80
#define MARKER 0x80
#define MOST_FRAMES 10 /* of a packet: 200 ms */
#define PORT_ATTEMPTS 10000
#define GOLDEN 0.6180339887498949 /* its multiples, modulo 1, are spread evenly however many there are */

static int udp_socket(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        perror("generator: a caller's socket");
        exit(1);
    }
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in address;
    socklen_t octets = sizeof address;
    getsockname(fd, (struct sockaddr *)&address, &octets);
    return ntohs(address.sin_port);
}

/* An even port for RTP and the next one for RTCP (RFC 3550 section 11), from `wanted` on; 0: any. Returns the next. */
static unsigned open_pair(struct caller *caller, unsigned wanted)
{
    for (int attempt = 0; attempt < PORT_ATTEMPTS; attempt++, wanted += wanted ? 2 : 0) {
        caller->fd = udp_socket((uint16_t)wanted);
        if (caller->fd < 0)
            continue;
        caller->port = port_of(caller->fd);
        if (caller->port % 2 == 0 && (caller->control_fd = udp_socket(caller->port + 1)) >= 0)
            return wanted ? caller->port + 2U : 0;
        close(caller->fd);
    }
    fputs("generator: no free pair of ports for a caller\n", stderr);
    exit(1);
}

void callers_open(struct bench *bench)
{
    unsigned wanted = (bench->load.first_port + 1) & ~1U;
    bench->callers = allocate(bench->load.calls, sizeof *bench->callers);
    for (unsigned i = 0; i < bench->load.calls; i++) {
        struct caller *caller = &bench->callers[i];
        wanted = open_pair(caller, wanted);
        clock_ask_stamps(caller->fd);
        caller->session = NOBODY;
    }
}

bool caller_has_ended(const struct bench *bench, const struct session *session)
{
    if (session->caller == NOBODY)
        return false;
    const struct caller *caller = &bench->callers[session->caller];
    return session->stint < caller->stints || (session->stint == caller->stints && !caller->talks);
}

static uint64_t packet_ns(const struct bench *bench)
{
    return bench->load.packet_ms * NS_PER_MS;
}

/* The next time on this caller's grid. */
static uint64_t first_due(const struct bench *bench, const struct caller *caller, uint64_t now)
{
    double turns = (double)(caller - bench->callers) * GOLDEN;
    uint64_t phase = (uint64_t)((turns - (double)(uint64_t)turns) * (double)packet_ns(bench));
    return now - now % packet_ns(bench) + packet_ns(bench) + phase;
}

static void plan(struct bench *bench, const struct caller *caller)
{
    schedule_add(&bench->schedule, (struct due){caller->due_at, CALLER_SENDS, (uint32_t)(caller - bench->callers)});
}

void caller_talk(struct bench *bench, struct caller *caller, struct sockaddr_in remote)
{
    caller->remote = remote;
    if (caller->talks)
        return;
    caller->talks = true;
    caller->stints++;
    caller->stint_first = caller->next;
    caller->any_heard = false;
    caller->session = NOBODY;
    caller->ssrc = (uint32_t)(caller - bench->callers) << 12 | (caller->stints & 0xFFF);
    caller->sequence = (uint16_t)(caller->ssrc * 40503U);
    caller->due_at = first_due(bench, caller, clock_monotonic_ns());
    plan(bench, caller);
}

/* What was sent just before the end may be heard or not. */
static void forgive(struct caller *caller)
{
    for (uint32_t back = 1; back <= REMEMBERED_FRAMES && back <= caller->next - caller->stint_first; back++) {
        uint32_t place = (caller->next - back) % REMEMBERED_FRAMES;
        if (caller->sent_at[place] + UNDER_WAY_NS < caller->ended_at)
            break;
        if (caller->heard[place] == 0)
            caller->heard[place] = FORGIVEN;
    }
}

void caller_hush(struct bench *bench, struct caller *caller)
{
    if (!caller->talks)
        return;
    caller->talks = false;
    caller->new_stream = true;
    caller->ended_at = clock_wall_ns();
    forgive(caller);
    for (uint32_t serial = bench->oldest_session; serial < bench->sessions_count; serial++) {
        struct session *session = bench->sessions[serial];
        if (session != NULL && session->caller == caller - bench->callers && caller_has_ended(bench, session))
            answers_cut(session);
    }
}

/* A frame's place in the memory is needed for another: if nobody heard the one before, nobody will. */
static void remember(struct bench *bench, struct caller *caller, uint64_t now)
{
    uint32_t place = caller->next % REMEMBERED_FRAMES;
    bool counts = caller->next >= REMEMBERED_FRAMES && caller->next - REMEMBERED_FRAMES >= caller->window_first;
    if (counts && caller->heard[place] == 0)
        bench->tallies.lost_up++;
    caller->sent_at[place] = now;
    caller->heard[place] = 0;
    caller->next++;
}

void caller_send(struct bench *bench, struct caller *caller, uint64_t now)
{
    uint8_t packet[RTP_HEAD_OCTETS + MOST_FRAMES * FRAME_OCTETS];
    unsigned frames = bench->load.packet_ms / FRAME_MS;
    uint16_t sequence = htons(caller->sequence);
    uint32_t timestamp = htonl(caller->timestamp), ssrc = htonl(caller->ssrc);
    packet[0] = RTP_VERSION_2;
    packet[1] = (uint8_t)((bench->load.alaw ? 8 : 0) | (caller->next == caller->stint_first ? MARKER : 0));
    memcpy(packet + 2, &sequence, sizeof sequence);
    memcpy(packet + 4, &timestamp, sizeof timestamp);
    memcpy(packet + 8, &ssrc, sizeof ssrc);
    uint64_t wall = clock_wall_ns();
    for (unsigned i = 0; i < frames; i++) {
        struct identity identity = {UP, (uint32_t)(caller - bench->callers), caller->next};
        frame_make(identity, packet + RTP_HEAD_OCTETS + i * FRAME_OCTETS);
        remember(bench, caller, wall);
    }
    sendto(caller->fd, packet, RTP_HEAD_OCTETS + frames * FRAME_OCTETS, MSG_DONTWAIT,
           (struct sockaddr *)&caller->remote, sizeof caller->remote);
    bench->tallies.sent_rtp++;
    histogram_add(&bench->tallies.sender_lag, (int64_t)(now - caller->due_at));
    caller->sequence++;
    caller->timestamp += frames * FRAME_OCTETS;
    caller->due_at += packet_ns(bench);
    plan(bench, caller);
}
