/* One TCP connection of the server, with or without TLS: never blocks, knows when its octets came. */
#ifndef STREAM_H
#define STREAM_H

#include "octets.h"

#include <openssl/ssl.h>
#include <stdbool.h>

struct stream {
    int fd;
    SSL *tls;            /* NULL: none */
    struct octets waits; /* to be sent, encrypted already */
    uint64_t arrived_at; /* what was read last; wall clock, ns */
    bool filled;         /* the last read from the socket brought all there was room for */
    bool ended;          /* by the peer, or broken */
};

/* TLS 1.2 and 1.3 with session tickets; the file holds key and certificates. Ends the program when it cannot. */
SSL_CTX *stream_context(const char *identity_file);

void stream_open(struct stream *stream, int fd, SSL_CTX *context); /* context NULL: no TLS */
void stream_read(struct stream *stream, struct octets *received);  /* all that is there is appended */
void stream_write(struct stream *stream, const void *octets, size_t count);
bool stream_flush(struct stream *stream); /* false while something still waits for the peer */
void stream_close(struct stream *stream);

#endif
