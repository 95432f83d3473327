/* The server's side of RFC 6455: the upgrade, frames in (each one checked), frames out. No extensions. */
#define _GNU_SOURCE
#include "websocket.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define LONGEST_MESSAGE (1U << 20) /* a second of audio has 11 KiB; a session with many tools, some 100 KiB */
#define LONGEST_REQUEST 16384
#define MASK_OCTETS 4
#define PROTOCOL_ERROR 1002 /* RFC 6455 section 7.4.1 */
#define TOO_BIG 1009

static enum parsed broken(struct frames_in *in, const char *fault, uint16_t close_code)
{
    in->fault = fault;
    in->close_code = close_code;
    return BROKEN;
}

static void unmask(uint8_t *octets, size_t count, const uint8_t *key)
{
    uint32_t short_key;
    memcpy(&short_key, key, MASK_OCTETS);
    uint64_t eight, long_key = (uint64_t)short_key << 32 | short_key;
    size_t place = 0;
    for (; place + sizeof eight <= count; place += sizeof eight) {
        memcpy(&eight, octets + place, sizeof eight);
        eight ^= long_key;
        memcpy(octets + place, &eight, sizeof eight);
    }
    for (; place < count; place++)
        octets[place] ^= key[place % MASK_OCTETS];
}

/* The length that the head tells; `head_octets` grows by the octets it takes. NEEDS_MORE, MESSAGE or BROKEN. */
static enum parsed read_length(struct frames_in *in, const uint8_t *at, size_t there, size_t *head_octets,
                               uint64_t *length)
{
    unsigned more = 0;
    *length = at[1] & 0x7F;
    if (*length == 126)
        more = 2;
    else if (*length == 127)
        more = 8;
    if (there < 2 + more)
        return NEEDS_MORE;
    if (more > 0)
        *length = 0;
    for (unsigned i = 0; i < more; i++)
        *length = *length << 8 | at[2 + i];
    if ((more == 2 && *length < 126) || (more == 8 && *length < 65536))
        return broken(in, "a frame's length is not in its shortest form", PROTOCOL_ERROR);
    if (*length > LONGEST_MESSAGE || *length + in->pieces.count > LONGEST_MESSAGE)
        return broken(in, "a message of more than 1 MiB", TOO_BIG);
    *head_octets += more;
    return MESSAGE;
}

static const char *head_fault(const struct frames_in *in, uint8_t first, uint8_t second)
{
    unsigned opcode = first & 0x0F;
    bool final = first & 0x80, control = opcode >= CLOSE;
    if (first & 0x70)
        return "reserved bits are set in a frame";
    if (!(second & 0x80))
        return "a frame of the client is not masked";
    if ((opcode > BINARY && !control) || opcode > PONG)
        return "a frame of an unknown kind";
    if (control && (!final || (second & 0x7F) > 125))
        return "a control frame in pieces or of more than 125 octets";
    if (!control && (opcode == CONTINUATION) != (in->pieces_are != CONTINUATION))
        return opcode == CONTINUATION ? "a continuation of nothing" : "a new message before the last one was whole";
    return NULL;
}

/* A frame of a message; MESSAGE when it is the last. */
static enum parsed take_piece(struct frames_in *in, struct frame *frame, bool final)
{
    if (final && frame->opcode != CONTINUATION)
        return MESSAGE;
    if (frame->opcode != CONTINUATION) {
        in->pieces.count = 0;
        in->pieces_are = frame->opcode;
    }
    octets_append(&in->pieces, frame->octets, frame->count);
    if (!final)
        return NEEDS_MORE;
    *frame = (struct frame){in->pieces_are, in->pieces.at, in->pieces.count};
    in->pieces_are = CONTINUATION;
    in->pieces.count = 0; /* its octets stay where they are until the next piece */
    return MESSAGE;
}

static enum parsed next_frame(struct frames_in *in, struct frame *frame, bool *final)
{
    uint8_t *at = in->received.at + in->used;
    size_t there = in->received.count - in->used, head_octets = 2;
    uint64_t length;
    if (there < 2)
        return NEEDS_MORE;
    const char *fault = head_fault(in, at[0], at[1]);
    if (fault != NULL)
        return broken(in, fault, PROTOCOL_ERROR);
    enum parsed parsed = read_length(in, at, there, &head_octets, &length);
    if (parsed != MESSAGE)
        return parsed;
    if (there < head_octets + MASK_OCTETS + length)
        return NEEDS_MORE;
    uint8_t *key = at + head_octets;
    *frame = (struct frame){at[0] & 0x0F, key + MASK_OCTETS, (size_t)length};
    *final = at[0] & 0x80;
    unmask(frame->octets, frame->count, key);
    in->used += head_octets + MASK_OCTETS + (size_t)length;
    return MESSAGE;
}

enum parsed websocket_next(struct frames_in *in, struct frame *frame)
{
    bool final;
    enum parsed parsed;
    while ((parsed = next_frame(in, frame, &final)) == MESSAGE)
        if (frame->opcode >= CLOSE || take_piece(in, frame, final) == MESSAGE)
            return MESSAGE;
    octets_drop(&in->received, in->used);
    in->used = 0;
    return parsed;
}

void websocket_free(struct frames_in *in)
{
    octets_free(&in->received);
    octets_free(&in->pieces);
}

size_t websocket_head(enum opcode opcode, size_t count, uint8_t *head)
{
    size_t more = count < 126 ? 0 : count < 65536 ? 2 : 8;
    head[0] = (uint8_t)(0x80 | opcode);
    head[1] = (uint8_t)(more == 0 ? count : more == 2 ? 126 : 127);
    for (size_t i = 0; i < more; i++)
        head[2 + i] = (uint8_t)((uint64_t)count >> 8 * (more - 1 - i));
    return 2 + more;
}

/* The value of a header field, without spaces around it; empty when there is none. */
static void header_field(const char *head, const char *name, char *value, size_t room)
{
    value[0] = '\0';
    const char *line = strcasestr(head, name);
    if (line == NULL)
        return;
    line += strlen(name);
    line += strspn(line, " \t");
    size_t length = strcspn(line, "\r\n");
    while (length > 0 && (line[length - 1] == ' ' || line[length - 1] == '\t'))
        length--;
    if (length < room)
        snprintf(value, room, "%.*s", (int)length, line);
}

/* RFC 6455 section 4.2.2: the SHA-1 of the key with a fixed text behind it. */
static void accept_key(const char *key, char *accept)
{
    char text[128];
    unsigned char digest[EVP_MAX_MD_SIZE];
    int length = snprintf(text, sizeof text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    EVP_Digest(text, (size_t)length, digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)accept, digest, 20);
}

static const char *upgrade_fault(const char *head, const char *key)
{
    char value[128];
    if (strncmp(head, "GET /", 5) != 0)
        return "the upgrade is no GET";
    header_field(head, "\r\nupgrade:", value, sizeof value);
    if (strcasecmp(value, "websocket") != 0)
        return "no Upgrade: websocket";
    header_field(head, "\r\nconnection:", value, sizeof value);
    if (strcasestr(value, "upgrade") == NULL)
        return "no Connection: Upgrade";
    header_field(head, "\r\nsec-websocket-version:", value, sizeof value);
    if (strcmp(value, "13") != 0)
        return "no Sec-WebSocket-Version: 13";
    header_field(head, "\r\nhost:", value, sizeof value);
    if (value[0] == '\0')
        return "no Host";
    return strlen(key) == 24 ? NULL : "no Sec-WebSocket-Key of 16 octets"; /* in base64 */
}

bool websocket_upgrade(struct octets *received, struct upgrade *upgrade)
{
    char key[64], value[128], accept[64];
    if (received->count == 0)
        return false;
    const char *end = memmem(received->at, received->count, "\r\n\r\n", 4);
    if (end == NULL && received->count < LONGEST_REQUEST)
        return false;
    *upgrade = (struct upgrade){.fault = "no HTTP request"};
    if (end != NULL) {
        size_t octets = (size_t)(end + 4 - (const char *)received->at);
        char *head = (char *)received->at;
        head[octets - 2] = '\0'; /* the last line keeps its end */
        header_field(head, "\r\nsec-websocket-key:", key, sizeof key);
        header_field(head, "\r\nopenai-beta:", value, sizeof value);
        upgrade->beta = strstr(value, "realtime=v1") != NULL;
        upgrade->fault = upgrade_fault(head, key);
        octets_drop(received, octets);
    }
    if (upgrade->fault != NULL) {
        snprintf(upgrade->answer, sizeof upgrade->answer,
                 "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        return true;
    }
    accept_key(key, accept);
    snprintf(upgrade->answer, sizeof upgrade->answer,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n\r\n",
             accept);
    return true;
}
