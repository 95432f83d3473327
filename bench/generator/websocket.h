/* The server's side of RFC 6455: the upgrade, frames in (each one checked), frames out. No extensions. */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include "octets.h"

#include <stdbool.h>

enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 }; /* RFC 6455 section 5.2 */

enum parsed { NEEDS_MORE, MESSAGE, BROKEN };

struct frame {
    enum opcode opcode; /* never CONTINUATION: a message in pieces comes when it is whole */
    uint8_t *octets;    /* unmasked; good until the next call */
    size_t count;
};

struct frames_in {
    struct octets received; /* append here what came */
    size_t used;            /* of it, by frames that were taken */
    struct octets pieces;   /* of a message that is not yet whole */
    enum opcode pieces_are; /* TEXT or BINARY; CONTINUATION: there are none */
    const char *fault;      /* which rule was broken, once BROKEN */
    uint16_t close_code;    /* for the peer that broke it */
};

enum parsed websocket_next(struct frames_in *in, struct frame *frame);
void websocket_free(struct frames_in *in);

/* The head of a frame for so many octets, written to `head` (at least 10); returns its length. */
size_t websocket_head(enum opcode opcode, size_t count, uint8_t *head);

struct upgrade {
    bool beta;          /* OpenAI-Beta: realtime=v1 */
    char answer[512];   /* to be sent, whatever it says */
    const char *fault;  /* why it was refused; NULL: it was not */
};

/* False while the request is not whole; otherwise it is dropped from `received`. */
bool websocket_upgrade(struct octets *received, struct upgrade *upgrade);

#endif
