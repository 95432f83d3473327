/* One TCP connection of the server, with or without TLS: never blocks, knows when its octets came.
 *
 * OpenSSL reads and writes through a BIO of ours: reading takes the kernel's time stamp along, writing collects what
 * belongs together, so that one system call sends it.
 */
#include "stream.h"

#include "clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE_OCTETS 16384 /* a TLS record at most, RFC 8446 section 5.1 */

/* Octets read; 0: nothing there for now, or the end (`ended`). */
static size_t receive(struct stream *stream, void *octets, size_t room)
{
    char stamp[STAMP_OCTETS];
    struct iovec place = {octets, room};
    struct msghdr message = {
        .msg_iov = &place, .msg_iovlen = 1, .msg_control = stamp, .msg_controllen = sizeof stamp};
    ssize_t count = recvmsg(stream->fd, &message, MSG_DONTWAIT);
    stream->filled = count == (ssize_t)room;
    if (count > 0) {
        stream->arrived_at = clock_stamp(&message);
        return (size_t)count;
    }
    if (count == 0 || (errno != EAGAIN && errno != EINTR))
        stream->ended = true;
    return 0;
}

static int bio_read(BIO *bio, char *octets, int room)
{
    struct stream *stream = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t count = receive(stream, octets, (size_t)room);
    if (count > 0)
        return (int)count;
    if (stream->ended)
        return 0;
    BIO_set_retry_read(bio);
    return -1;
}

static int bio_write(BIO *bio, const char *octets, int count)
{
    struct stream *stream = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    octets_append(&stream->waits, octets, (size_t)count);
    return count;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO *bio_over(struct stream *stream)
{
    static BIO_METHOD *method;
    if (method == NULL) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_control);
    }
    BIO *bio = BIO_new(method);
    BIO_set_data(bio, stream);
    BIO_set_init(bio, 1);
    return bio;
}

SSL_CTX *stream_context(const char *identity_file)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, identity_file) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, identity_file, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"bench", 5);
    SSL_CTX_set_read_ahead(context, 1); /* one system call for head and body of a record */
    return context;
}

void stream_open(struct stream *stream, int fd, SSL_CTX *context)
{
    int on = 1;
    *stream = (struct stream){.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    clock_ask_stamps(fd);
    if (context == NULL)
        return;
    BIO *bio = bio_over(stream);
    stream->tls = SSL_new(context);
    SSL_set_bio(stream->tls, bio, bio);
    SSL_set_accept_state(stream->tls);
}

static void read_plain(struct stream *stream, struct octets *received)
{
    do
        received->count += receive(stream, octets_reserve(received, PIECE_OCTETS), PIECE_OCTETS);
    while (stream->filled);
}

static void read_encrypted(struct stream *stream, struct octets *received)
{
    do {
        int count = SSL_read(stream->tls, octets_reserve(received, PIECE_OCTETS), PIECE_OCTETS);
        if (count > 0) {
            received->count += (size_t)count;
            continue;
        }
        if (SSL_get_error(stream->tls, count) != SSL_ERROR_WANT_READ)
            stream->ended = true;
        ERR_clear_error();
        return;
    } while (SSL_has_pending(stream->tls) || stream->filled);
}

void stream_read(struct stream *stream, struct octets *received)
{
    if (stream->tls != NULL)
        read_encrypted(stream, received);
    else
        read_plain(stream, received);
}

void stream_write(struct stream *stream, const void *octets, size_t count)
{
    if (stream->ended)
        return;
    if (stream->tls == NULL)
        octets_append(&stream->waits, octets, count);
    else if (SSL_write(stream->tls, octets, (int)count) != (int)count)
        stream->ended = true;
}

bool stream_flush(struct stream *stream)
{
    if (stream->waits.count == 0)
        return true;
    ssize_t count = send(stream->fd, stream->waits.at, stream->waits.count, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0) {
        stream->ended |= errno != EAGAIN && errno != EINTR;
        return stream->ended;
    }
    octets_drop(&stream->waits, (size_t)count);
    return stream->waits.count == 0;
}

void stream_close(struct stream *stream)
{
    if (stream->tls != NULL) {
        SSL_shutdown(stream->tls); /* close_notify, RFC 8446 section 6.1 */
        stream_flush(stream);
        SSL_free(stream->tls);
        ERR_clear_error();
    }
    close(stream->fd);
    octets_free(&stream->waits);
    stream->tls = NULL;
    stream->ended = true;
}
