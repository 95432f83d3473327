/* RTP with PCMU frames of 20 ms: RFC 3550, RFC 3551. */
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FRAME_OCTETS = 160, /* RFC 3551 section 4.5.14 */
    PCMU = 0,           /* its payload type, RFC 3551 section 6 */
    SILENCE = 0xff,     /* of PCMU */
    VERSION = 2,
    MARKER = 0x80,
    LARGEST_DATAGRAM = 2048,
};

unsigned rtp_open(struct rtp *rtp, const struct sockaddr_in *remote)
{
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof local;
    rtp->descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (rtp->descriptor < 0 || bind(rtp->descriptor, (struct sockaddr *)&local, length) ||
        connect(rtp->descriptor, (const struct sockaddr *)remote, sizeof *remote) ||
        getsockname(rtp->descriptor, (struct sockaddr *)&local, &length))
        fail("no RTP socket: %s", strerror(errno));
    if (getrandom(rtp->head, RTP_HEAD, 0) != RTP_HEAD) /* sequence, timestamp and SSRC, RFC 3550 section 5.1 */
        fail("getrandom: %s", strerror(errno));
    rtp->head[0] = VERSION << 6;
    rtp->head[1] = MARKER | PCMU; /* the first packet */
    return ntohs(local.sin_port);
}

void rtp_close(struct rtp *rtp)
{
    close(rtp->descriptor);
    octets_free(&rtp->playout);
}

static void next_head(uint8_t *head)
{
    uint16_t sequence;
    uint32_t timestamp;
    memcpy(&sequence, head + 2, sizeof sequence);
    memcpy(&timestamp, head + 4, sizeof timestamp);
    sequence = htons((uint16_t)(ntohs(sequence) + 1));
    timestamp = htonl(ntohl(timestamp) + FRAME_OCTETS);
    head[1] = PCMU;
    memcpy(head + 2, &sequence, sizeof sequence);
    memcpy(head + 4, &timestamp, sizeof timestamp);
}

void rtp_send(struct rtp *rtp)
{
    uint8_t packet[RTP_HEAD + FRAME_OCTETS];
    memcpy(packet, rtp->head, RTP_HEAD);
    if (octets_count(&rtp->playout) >= FRAME_OCTETS) {
        memcpy(packet + RTP_HEAD, rtp->playout.at + rtp->playout.begin, FRAME_OCTETS);
        rtp->playout.begin += FRAME_OCTETS;
    } else {
        memset(packet + RTP_HEAD, SILENCE, FRAME_OCTETS);
    }
    send(rtp->descriptor, packet, sizeof packet, 0); /* an unreachable caller loses it, as in a network */
    next_head(rtp->head);
}

void rtp_fill_up(struct rtp *rtp)
{
    size_t missing = (FRAME_OCTETS - octets_count(&rtp->playout) % FRAME_OCTETS) % FRAME_OCTETS;
    memset(octets_space(&rtp->playout, missing), SILENCE, missing);
    rtp->playout.end += missing;
}

static struct text payload_of(const uint8_t *packet, size_t length)
{
    size_t head = RTP_HEAD + 4u * (packet[0] & 15); /* and the contributing sources */
    if (length <= head || packet[0] >> 6 != VERSION || (packet[1] & ~MARKER & 0xff) != PCMU)
        return (struct text){0};
    return (struct text){(const char *)packet + head, length - head};
}

size_t rtp_receive(struct rtp *rtp, struct text *audio, size_t most)
{
    static uint8_t datagrams[RTP_BATCH][LARGEST_DATAGRAM];
    static struct iovec parts[RTP_BATCH];
    static struct mmsghdr headers[RTP_BATCH];
    for (size_t i = 0; i < most; i++) {
        parts[i] = (struct iovec){datagrams[i], LARGEST_DATAGRAM};
        headers[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    int count = recvmmsg(rtp->descriptor, headers, (unsigned)most, 0, NULL);
    for (int i = 0; i < count; i++)
        audio[i] = payload_of(datagrams[i], headers[i].msg_len);
    return count > 0 ? (size_t)count : 0;
}
