/* WebSockets that come, talk and go. */
#define _GNU_SOURCE
#include "bench.h"

#include "octets.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LONGEST_EVENT 8192
#define MOST_WAITING (8U << 20) /* octets that a peer does not read: it never will */
#define REMEMBERED_NS (30000 * NS_PER_MS) /* a session that was closed: its audio may still be playing */
#define PING_NS (20000 * NS_PER_MS)       /* as the real server does */

void sessions_listen(struct bench *bench, const char *identity_file)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t octets = sizeof address;
    bench->tls = identity_file != NULL ? stream_context(identity_file) : NULL;
    bench->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bench->listener < 0 || bind(bench->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(bench->listener, 1024) != 0) {
        perror("generator: the server's socket");
        exit(1);
    }
    getsockname(bench->listener, (struct sockaddr *)&address, &octets);
    bench->port = ntohs(address.sin_port);
}

static struct session *add_session(struct bench *bench)
{
    if (bench->sessions_count == bench->sessions_room) {
        bench->sessions_room = bench->sessions_room * 2 + 256;
        struct session **grown = allocate(bench->sessions_room, sizeof *grown);
        if (bench->sessions_count > 0)
            memcpy(grown, bench->sessions, bench->sessions_count * sizeof *grown);
        free(bench->sessions);
        bench->sessions = grown;
    }
    struct session *session = allocate(1, sizeof *session);
    session->serial = bench->sessions_count;
    session->caller = NOBODY;
    bench->sessions[bench->sessions_count++] = session;
    return session;
}

struct session *session_numbered(const struct bench *bench, uint32_t serial)
{
    return serial < bench->sessions_count ? bench->sessions[serial] : NULL;
}

static void watch(struct bench *bench, struct session *session, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (session->waits_out ? (uint32_t)EPOLLOUT : 0)};
    event.data.u64 = (uint64_t)WATCH_SESSION << 32 | session->serial;
    epoll_ctl(bench->poll, operation, session->stream.fd, &event);
}

void sessions_accept(struct bench *bench)
{
    int fd;
    while ((fd = accept4(bench->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *session = add_session(bench);
        stream_open(&session->stream, fd, bench->tls);
        watch(bench, session, EPOLL_CTL_ADD);
    }
}

static void close_session(struct session *session)
{
    if (session->closed)
        return;
    stream_close(&session->stream); /* epoll forgets it with its descriptor */
    websocket_free(&session->in);
    session->closed = true;
    session->closed_at = clock_monotonic_ns();
}

static void send_frame(struct session *session, enum opcode opcode, const void *octets, size_t count)
{
    static struct octets frame;
    uint8_t head[10];
    frame.count = 0;
    octets_append(&frame, head, websocket_head(opcode, count, head));
    octets_append(&frame, octets, count);
    stream_write(&session->stream, frame.at, frame.count);
}

void session_send(struct bench *bench, struct session *session, const char *text, size_t length)
{
    (void)bench;
    if (!session->closing && !session->closed)
        send_frame(session, TEXT, text, length);
}

void session_tell(struct bench *bench, struct session *session, const char *format, ...)
{
    static char text[LONGEST_EVENT];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (length < (int)sizeof text)
        session_send(bench, session, text, (size_t)length);
}

void session_flush(struct bench *bench, struct session *session)
{
    if (session->closed)
        return;
    bool all = stream_flush(&session->stream);
    if (session->stream.waits.count > MOST_WAITING) {
        tallies_violation(&bench->tallies, "session %u: the client does not read", session->serial);
        session->stream.ended = true;
    }
    if (session->stream.ended || (session->closing && all))
        close_session(session);
    else if (session->waits_out == all) {
        session->waits_out = !all;
        watch(bench, session, EPOLL_CTL_MOD);
    }
}

static void close_with(struct session *session, uint16_t code)
{
    uint8_t octets[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    send_frame(session, CLOSE, octets, sizeof octets);
    session->closing = true;
}

static void upgrade(struct bench *bench, struct session *session)
{
    struct upgrade upgrade;
    if (!websocket_upgrade(&session->in.received, &upgrade))
        return;
    stream_write(&session->stream, upgrade.answer, strlen(upgrade.answer));
    if (upgrade.fault != NULL) {
        tallies_violation(&bench->tallies, "session %u: %s", session->serial, upgrade.fault);
        session->closing = true;
        return;
    }
    session->upgraded = session->ponged = true;
    session->beta = upgrade.beta;
    session->pinged_at = clock_monotonic_ns();
    bench->tallies.sessions_opened++;
    bench->tallies.sessions_resumed += session->stream.tls != NULL && SSL_session_reused(session->stream.tls);
    session_created(bench, session);
}

static void take_close(struct bench *bench, struct session *session, const struct frame *frame)
{
    if (frame->count == 1)
        tallies_violation(&bench->tallies, "session %u: a close frame of one octet", session->serial);
    if (!session->closing)
        send_frame(session, CLOSE, frame->octets, frame->count >= 2 ? 2 : 0); /* RFC 6455 section 5.5.1 */
    session->closing = true;
}

static void take_message(struct bench *bench, struct session *session, const struct frame *frame)
{
    switch (frame->opcode) {
    case TEXT:
        session_event(bench, session, (const char *)frame->octets, frame->count);
        break;
    case BINARY:
        tallies_violation(&bench->tallies, "session %u: a binary message", session->serial);
        break;
    case PING:
        send_frame(session, PONG, frame->octets, frame->count);
        break;
    case PONG:
        session->ponged = true;
        break;
    case CLOSE:
        take_close(bench, session, frame);
        break;
    default:
        break;
    }
}

void session_ready(struct bench *bench, struct session *session)
{
    struct frame frame;
    enum parsed parsed = NEEDS_MORE;
    if (session->closed)
        return;
    stream_read(&session->stream, &session->in.received);
    if (!session->upgraded)
        upgrade(bench, session);
    while (session->upgraded && !session->closing && (parsed = websocket_next(&session->in, &frame)) == MESSAGE)
        take_message(bench, session, &frame);
    if (parsed == BROKEN) {
        tallies_violation(&bench->tallies, "session %u: %s", session->serial, session->in.fault);
        close_with(session, session->in.close_code);
    }
    session_flush(bench, session);
}

static void ping(struct bench *bench, struct session *session, uint64_t now)
{
    if (!session->ponged)
        tallies_violation(&bench->tallies, "session %u: no pong within 20 s", session->serial);
    session->ponged = false;
    session->pinged_at = now;
    send_frame(session, PING, &session->serial, sizeof session->serial);
    session_flush(bench, session);
}

static void forget(struct bench *bench, struct session *session)
{
    answers_forget(bench, session);
    bench->sessions[session->serial] = NULL;
    free(session);
}

void sessions_sweep(struct bench *bench, uint64_t now)
{
    while (bench->oldest_session < bench->sessions_count && bench->sessions[bench->oldest_session] == NULL)
        bench->oldest_session++;
    for (uint32_t serial = bench->oldest_session; serial < bench->sessions_count; serial++) {
        struct session *session = bench->sessions[serial];
        if (session == NULL)
            continue;
        if (session->closed && now > session->closed_at + REMEMBERED_NS)
            forget(bench, session);
        else if (session->upgraded && !session->closing && now > session->pinged_at + PING_NS)
            ping(bench, session, now);
    }
}

unsigned sessions_open(const struct bench *bench)
{
    unsigned open = 0;
    for (uint32_t serial = bench->oldest_session; serial < bench->sessions_count; serial++) {
        const struct session *session = bench->sessions[serial];
        open += session != NULL && session->upgraded && !session->closed;
    }
    return open;
}
