/* The parts of the floor program; floor.c says what it is. */
#ifndef FLOOR_H
#define FLOOR_H
#define _GNU_SOURCE

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- octets.c: memory, base64 (RFC 4648 section 4), JSON (RFC 8259) ---- */

struct octets { /* grows; begin <= end <= room */
    uint8_t *at;
    size_t begin, end, room;
};

struct text { /* a part of something longer; no zero ends it */
    const char *at;
    size_t length;
};

struct event { /* of the Realtime API: its members that matter here, as they stand in the JSON */
    struct text type, delta;
};

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Return where `count` more octets may be written; the caller then moves `end`. */
uint8_t *octets_space(struct octets *octets, size_t count);
void octets_append(struct octets *octets, const void *from, size_t count);
void octets_free(struct octets *octets);

static inline size_t octets_count(const struct octets *octets) { return octets->end - octets->begin; }

void base64_begin(void);
/* Write 4 characters for every 3 octets begun; return the end of them. */
char *base64_encode(char *text, const uint8_t *octets, size_t count);
/* Return the number of octets written, at most 3 for 4 characters; -1 when the text is not base64. */
long base64_decode(uint8_t *octets, struct text text);

/* Read the strings at the top level of a JSON object; false when it is not one. */
bool event_read(struct event *event, struct text json);
bool text_is(struct text text, const char *wanted);

/* ---- websocket.c: a WebSocket client (RFC 6455) over TLS 1.3, which never blocks ---- */

struct url {
    char host[64], port[8], path[256];
    bool secure;
};

enum opcode { CONTINUATION = 0, TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 }; /* RFC 6455 section 5.2 */

struct websocket {
    int descriptor, poll; /* `poll` is the epoll that watches it */
    uint64_t mark;        /* what epoll says of it */
    SSL *tls;             /* NULL: in the clear */
    bool upgraded, closing, over, waits_for_room;
    char accept[32];         /* what Sec-WebSocket-Accept must say */
    struct octets outgoing;  /* what the socket did not take yet */
    struct octets arrived;   /* the beginning of a frame */
    struct octets fragments; /* the beginning of a message */
};

typedef void message_handler(void *owner, struct text message);

void url_read(struct url *url, const char *from);
SSL_CTX *tls_begin(const char *cafile);
void websocket_open(struct websocket *, const struct url *, SSL_CTX *, int poll, uint64_t mark);
/* Do what the socket is ready for; `over` is set when the server has closed. */
void websocket_ready(struct websocket *, message_handler *, void *owner);
void websocket_send(struct websocket *, enum opcode, const void *payload, size_t count);
/* Make the frame of an input_audio_buffer.append; it leaves with the next websocket_flush. */
void websocket_append(struct websocket *, struct text audio);
void websocket_flush(struct websocket *);
void websocket_close(struct websocket *); /* begin the closing handshake */
void websocket_free(struct websocket *);

/* ---- rtp.c: a caller's RTP (RFC 3550), PCMU frames of 20 ms ---- */

enum { RTP_HEAD = 12, RTP_BATCH = 16, RTP_FRAME_NS = 20000000 };

struct rtp {
    int descriptor;
    uint8_t head[RTP_HEAD]; /* of the next packet */
    struct octets playout;  /* audio that waits for its time */
};

unsigned rtp_open(struct rtp *, const struct sockaddr_in *remote); /* returns the port */
void rtp_send(struct rtp *);                                       /* the next frame, or silence */
void rtp_fill_up(struct rtp *);                                    /* the end of an answer need not fill a frame */
/* Take up to `most` datagrams, at most RTP_BATCH, in one system call; return how many. Their payloads, good until the
 * next time, are put into `audio`; empty ones for what is not PCMU. */
size_t rtp_receive(struct rtp *, struct text *audio, size_t most);
void rtp_close(struct rtp *);

#endif
