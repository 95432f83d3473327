/* A WebSocket client over TLS 1.3 that never blocks: RFC 6455, RFC 8446. */
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FINAL = 0x80,
    MASKED = 0x80,
    LONGEST_HEAD = 14,       /* of a frame: 2 octets, 8 of length, 4 of mask */
    LONGEST_CONTROL = 125,   /* RFC 6455 section 5.5 */
    LONGEST_MESSAGE = 1 << 24,
    LONGEST_ANSWER = 1 << 13, /* to the upgrade */
    RECORD = 1 << 14,        /* RFC 8446 section 5.1 */
};

void url_read(struct url *url, const char *from)
{
    char scheme[8];
    *url = (struct url){0};
    int found = sscanf(from, "%7[a-z]://%63[^:/]:%7[0-9]%255s", scheme, url->host, url->port, url->path);
    if (found < 3 || (strcmp(scheme, "ws") && strcmp(scheme, "wss")))
        fail("not ws://ADDRESS:PORT/PATH or wss://: %s", from);
    if (found == 3)
        strcpy(url->path, "/");
    url->secure = !strcmp(scheme, "wss");
}

SSL_CTX *tls_begin(const char *cafile)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_load_verify_locations(context, cafile, NULL) != 1)
        fail("no certificates in %s", cafile);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF); /* the WebSocket's own Close tells a cut from an end */
    SSL_CTX_set_read_ahead(context, 1); /* one read(2) a record, not one for its header and one for its body */
    return context;
}

static uint32_t random_word(void)
{
    static uint32_t words[1024];
    static size_t left;
    if (!left) {
        if (getrandom(words, sizeof words, 0) != sizeof words)
            fail("getrandom: %s", strerror(errno));
        left = sizeof words / sizeof *words;
    }
    return words[--left];
}

static void watch(struct websocket *ws, int operation)
{
    struct epoll_event event = {EPOLLIN | (ws->waits_for_room ? EPOLLOUT : 0), {.u64 = ws->mark}};
    if (epoll_ctl(ws->poll, operation, ws->descriptor, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

static void secure(struct websocket *ws, const char *host, SSL_CTX *context)
{
    ws->tls = SSL_new(context);
    X509_VERIFY_PARAM *rules = SSL_get0_param(ws->tls);
    if (!X509_VERIFY_PARAM_set1_ip_asc(rules, host))
        fail("not an address: %s", host);
    SSL_set_fd(ws->tls, ws->descriptor);
    SSL_set_connect_state(ws->tls);
}

static void connect_to(struct websocket *ws, const struct url *url)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(url->port))};
    int on = 1;
    if (inet_pton(AF_INET, url->host, &address.sin_addr) != 1)
        fail("not an address: %s", url->host);
    ws->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (ws->descriptor < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(ws->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(ws->descriptor, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("connect to %s:%s: %s", url->host, url->port, strerror(errno));
}

/* Ask for the upgrade, RFC 6455 section 4.1. */
static void request(struct websocket *ws, const struct url *url)
{
    uint32_t nonce[4] = {random_word(), random_word(), random_word(), random_word()};
    char key[25] = "", chained[64], digest[SHA_DIGEST_LENGTH], text[640];
    base64_encode(key, (uint8_t *)nonce, sizeof nonce);
    int count = snprintf(chained, sizeof chained, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    SHA1((uint8_t *)chained, (size_t)count, (uint8_t *)digest);
    base64_encode(ws->accept, (uint8_t *)digest, sizeof digest);
    count = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     url->path, url->host, url->port, key);
    octets_append(&ws->outgoing, text, (size_t)count);
}

void websocket_open(struct websocket *ws, const struct url *url, SSL_CTX *context, int poll, uint64_t mark)
{
    *ws = (struct websocket){.poll = poll, .mark = mark, .waits_for_room = true};
    connect_to(ws, url);
    if (url->secure)
        secure(ws, url->host, context);
    request(ws, url);
    watch(ws, EPOLL_CTL_ADD);
}

/* What a call of OpenSSL or the kernel came to: octets moved, 0 for "not now", -1 for the end of the stream. */
static long moved(struct websocket *ws, long count, bool *wants_room)
{
    *wants_room = false;
    if (count > 0)
        return count;
    if (!ws->tls) {
        *wants_room = count < 0 && errno == EAGAIN;
        return *wants_room ? 0 : -1;
    }
    switch (SSL_get_error(ws->tls, (int)count)) {
    case SSL_ERROR_WANT_WRITE:
        *wants_room = true;
        return 0;
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_SSL:
        fail("TLS: %s", ERR_reason_error_string(ERR_peek_last_error()));
    default:
        return -1;
    }
}

static long try_write(struct websocket *ws, const void *from, size_t count, bool *wants_room)
{
    long written = ws->tls ? SSL_write(ws->tls, from, (int)count)
                               : send(ws->descriptor, from, count, MSG_NOSIGNAL);
    return moved(ws, written, wants_room);
}

void websocket_flush(struct websocket *ws)
{
    bool wants_room = false;
    while (octets_count(&ws->outgoing)) {
        struct octets *outgoing = &ws->outgoing;
        long written = try_write(ws, outgoing->at + outgoing->begin, octets_count(outgoing), &wants_room);
        if (written < 0)
            ws->over = true;
        if (written <= 0)
            break;
        outgoing->begin += (size_t)written;
    }
    if (wants_room != ws->waits_for_room) {
        ws->waits_for_room = wants_room;
        watch(ws, EPOLL_CTL_MOD);
    }
}

/* Write the head of a frame; return its end, where the payload goes. */
static uint8_t *frame_head(uint8_t *frame, enum opcode opcode, size_t count, uint32_t mask)
{
    *frame++ = (uint8_t)(FINAL | opcode);
    if (count <= LONGEST_CONTROL) {
        *frame++ = (uint8_t)(MASKED | count);
    } else {
        *frame++ = MASKED | 126;
        *frame++ = (uint8_t)(count >> 8);
        *frame++ = (uint8_t)count;
    }
    memcpy(frame, &mask, sizeof mask);
    return frame + sizeof mask;
}

static void apply_mask(uint8_t *payload, size_t count, uint32_t mask)
{
    uint64_t twice = (uint64_t)mask << 32 | mask, eight;
    for (; count >= sizeof eight; payload += sizeof eight, count -= sizeof eight) {
        memcpy(&eight, payload, sizeof eight);
        eight ^= twice;
        memcpy(payload, &eight, sizeof eight);
    }
    for (size_t i = 0; i < count; i++)
        payload[i] ^= ((uint8_t *)&mask)[i % 4];
}

void websocket_send(struct websocket *ws, enum opcode opcode, const void *payload, size_t count)
{
    uint32_t mask = random_word();
    if (count > UINT16_MAX)
        fail("a message of %zu octets", count);
    uint8_t *frame = octets_space(&ws->outgoing, LONGEST_HEAD + count);
    uint8_t *at = frame_head(frame, opcode, count, mask);
    memcpy(at, payload, count);
    apply_mask(at, count, mask);
    ws->outgoing.end += (size_t)(at + count - frame);
    websocket_flush(ws);
}

void websocket_append(struct websocket *ws, struct text audio)
{
    static const char HEAD[] = "{\"type\":\"input_audio_buffer.append\",\"audio\":\"", TAIL[] = "\"}";
    uint32_t mask = random_word();
    size_t length = sizeof HEAD - 1 + (audio.length + 2) / 3 * 4 + sizeof TAIL - 1;
    uint8_t *frame = octets_space(&ws->outgoing, LONGEST_HEAD + length);
    uint8_t *payload = frame_head(frame, TEXT, length, mask);
    memcpy(payload, HEAD, sizeof HEAD - 1);
    char *end = base64_encode((char *)payload + sizeof HEAD - 1, (const uint8_t *)audio.at, audio.length);
    memcpy(end, TAIL, sizeof TAIL - 1);
    apply_mask(payload, length, mask);
    ws->outgoing.end += (size_t)(payload + length - frame);
}

/* One frame of the server's, RFC 6455 section 5. */
static void take_frame(struct websocket *ws, uint8_t first, struct text payload, message_handler *handle, void *owner)
{
    enum opcode opcode = first & 15;
    struct octets *fragments = &ws->fragments;
    if (opcode == PING) {
        websocket_send(ws, PONG, payload.at, payload.length);
    } else if (opcode == CLOSE) {
        if (!ws->closing)
            websocket_send(ws, CLOSE, payload.at, payload.length < 2 ? payload.length : 2);
        ws->over = true;
    } else if (opcode == TEXT && first & FINAL) {
        handle(owner, payload);
    } else if (opcode == TEXT || opcode == CONTINUATION) {
        octets_append(fragments, payload.at, payload.length);
        if (first & FINAL) {
            handle(owner, (struct text){(char *)fragments->at + fragments->begin, octets_count(fragments)});
            fragments->begin = fragments->end = 0;
        }
    }
}

/* Take the whole frames of what has arrived; return how many octets they were. */
static size_t take_frames(struct websocket *ws, const uint8_t *at, size_t count, message_handler *handle, void *owner)
{
    size_t taken = 0;
    while (!ws->over && count - taken >= 2) {
        const uint8_t *frame = at + taken;
        uint64_t length = frame[1];
        size_t head = length == 126 ? 4 : length == 127 ? 10 : 2;
        if (length & MASKED || frame[0] & 0x70)
            fail("a masked or extended frame from a server");
        if (count - taken < head)
            break;
        if (head > 2)
            length = 0;
        for (size_t i = 2; i < head; i++)
            length = length << 8 | frame[i];
        if (length > LONGEST_MESSAGE || octets_count(&ws->fragments) + length > LONGEST_MESSAGE)
            fail("a message of more than %d octets", LONGEST_MESSAGE);
        if (count - taken - head < length)
            break;
        take_frame(ws, frame[0], (struct text){(const char *)frame + head, length}, handle, owner);
        taken += head + length;
    }
    return taken;
}

/* The answer to the upgrade, RFC 6455 section 4.1; return how many octets it was, 0 while it is not whole. */
static size_t take_answer(struct websocket *ws, const char *at, size_t count)
{
    char answer[LONGEST_ANSWER] = "", *accept;
    const char *end = memmem(at, count, "\r\n\r\n", 4);
    if (!end && count < sizeof answer)
        return 0;
    size_t length = end ? (size_t)(end - at) : sizeof answer;
    if (length >= sizeof answer || memcmp(at, "HTTP/1.1 101", 12))
        fail("no upgrade: %.40s", at);
    memcpy(answer, at, length);
    accept = strcasestr(answer, "\r\nsec-websocket-accept:");
    if (!accept || !strstr(accept, ws->accept))
        fail("an upgrade without the right Sec-WebSocket-Accept");
    ws->upgraded = true;
    return length + 4;
}

static void take(struct websocket *ws, uint8_t *at, size_t count, message_handler *handle, void *owner)
{
    size_t taken = 0;
    struct octets *arrived = &ws->arrived;
    bool is_kept = octets_count(arrived) > 0; /* the beginning came earlier */
    if (is_kept) {
        octets_append(arrived, at, count);
        at = arrived->at + arrived->begin;
        count = octets_count(arrived);
    }
    if (!ws->upgraded)
        taken = take_answer(ws, (char *)at, count);
    if (ws->upgraded)
        taken += take_frames(ws, at + taken, count - taken, handle, owner);
    if (is_kept)
        arrived->begin += taken;
    else
        octets_append(arrived, at + taken, count - taken);
}

void websocket_ready(struct websocket *ws, message_handler *handle, void *owner)
{
    static uint8_t read_in[4 * RECORD];
    bool wants_room;
    long count = 0;
    if (octets_count(&ws->outgoing))
        websocket_flush(ws);
    do {
        count = ws->tls ? SSL_read(ws->tls, read_in, sizeof read_in)
                            : recv(ws->descriptor, read_in, sizeof read_in, 0);
        count = moved(ws, count, &wants_room);
        if (count > 0)
            take(ws, read_in, (size_t)count, handle, owner);
        else if (count < 0)
            ws->over = true;
    } while (count > 0 && !ws->over && ws->tls && SSL_has_pending(ws->tls));
    if (octets_count(&ws->outgoing) && !ws->waits_for_room && !ws->over)
        websocket_flush(ws); /* what the TLS handshake had held back */
}

void websocket_close(struct websocket *ws)
{
    static const uint8_t NORMAL[2] = {1000 >> 8, 1000 & 255}; /* RFC 6455 section 7.4.1 */
    ws->closing = true;
    websocket_send(ws, CLOSE, NORMAL, sizeof NORMAL);
}

void websocket_free(struct websocket *ws)
{
    if (ws->tls) {
        if (SSL_is_init_finished(ws->tls))
            SSL_shutdown(ws->tls); /* says close_notify and does not wait for the server's */
        SSL_free(ws->tls);
    }
    close(ws->descriptor);
    octets_free(&ws->outgoing);
    octets_free(&ws->arrived);
    octets_free(&ws->fragments);
}
