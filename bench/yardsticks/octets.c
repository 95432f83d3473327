/* Memory, base64 and as much JSON as the floor program needs. */
#include "floor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A yardstick that has lost a call has nothing to say about its cost: every failure ends the program. */
void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

uint8_t *octets_space(struct octets *octets, size_t count)
{
    if (octets->begin == octets->end)
        octets->begin = octets->end = 0;
    if (octets->begin && octets->end + count > octets->room) {
        memmove(octets->at, octets->at + octets->begin, octets_count(octets));
        octets->end -= octets->begin;
        octets->begin = 0;
    }
    if (octets->end + count > octets->room) {
        octets->room = (octets->end + count) * 2;
        octets->at = realloc(octets->at, octets->room);
        if (!octets->at)
            fail("no memory for %zu octets", octets->room);
    }
    return octets->at + octets->end;
}

void octets_append(struct octets *octets, const void *from, size_t count)
{
    if (count)
        memcpy(octets_space(octets, count), from, count);
    octets->end += count;
}

void octets_free(struct octets *octets)
{
    free(octets->at);
    *octets = (struct octets){0};
}

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
#define NOT_BASE64 (1u << 24)
static uint32_t sextet[4][256]; /* a character's six bits, in each of the four places of a group */

void base64_begin(void)
{
    for (int place = 0; place < 4; place++) {
        for (int character = 0; character < 256; character++)
            sextet[place][character] = NOT_BASE64;
        for (uint32_t bits = 0; bits < 64; bits++)
            sextet[place][(uint8_t)ALPHABET[bits]] = bits << (18 - 6 * place);
    }
}

char *base64_encode(char *text, const uint8_t *octets, size_t count)
{
    for (; count >= 3; octets += 3, count -= 3) {
        uint32_t group = (uint32_t)octets[0] << 16 | (uint32_t)octets[1] << 8 | octets[2];
        *text++ = ALPHABET[group >> 18];
        *text++ = ALPHABET[group >> 12 & 63];
        *text++ = ALPHABET[group >> 6 & 63];
        *text++ = ALPHABET[group & 63];
    }
    if (count) {
        uint32_t group = (uint32_t)octets[0] << 16 | (count == 2 ? (uint32_t)octets[1] << 8 : 0);
        *text++ = ALPHABET[group >> 18];
        *text++ = ALPHABET[group >> 12 & 63];
        *text++ = count == 2 ? ALPHABET[group >> 6 & 63] : '=';
        *text++ = '=';
    }
    return text;
}

/* The end of the text, or all of it when it has an escaped "/" (RFC 8259 section 7): one character at a time. */
static long decode_slowly(uint8_t *octets, const uint8_t *text, const uint8_t *end)
{
    uint8_t *begin = octets;
    uint32_t group = 0;
    int bits = 0;
    for (; text < end && *text != '='; text++) {
        if (*text == '\\')
            continue;
        if (sextet[3][*text] == NOT_BASE64)
            return -1;
        group = group << 6 | sextet[3][*text];
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            *octets++ = (uint8_t)(group >> bits);
        }
    }
    return octets - begin;
}

long base64_decode(uint8_t *octets, struct text text)
{
    const uint8_t *at = (const uint8_t *)text.at, *end = at + text.length;
    uint8_t *begin = octets;
    for (; end - at >= 4; at += 4) {
        uint32_t group = sextet[0][at[0]] | sextet[1][at[1]] | sextet[2][at[2]] | sextet[3][at[3]];
        if (group & NOT_BASE64)
            break;
        *octets++ = (uint8_t)(group >> 16);
        *octets++ = (uint8_t)(group >> 8);
        *octets++ = (uint8_t)group;
    }
    long rest = decode_slowly(octets, at, end);
    return rest < 0 ? -1 : octets - begin + rest;
}

bool text_is(struct text text, const char *wanted)
{
    return text.length == strlen(wanted) && !memcmp(text.at, wanted, text.length);
}

/* The quote that ends a string: one that no odd number of backslashes stands before. */
static const char *closing_quote(const char *begin, const char *end)
{
    for (const char *at = begin; (at = memchr(at, '"', (size_t)(end - at))); at++) {
        const char *slash = at;
        while (slash > begin && slash[-1] == '\\')
            slash--;
        if ((at - slash) % 2 == 0)
            return at;
    }
    return NULL;
}

bool event_read(struct event *event, struct text json)
{
    const char *end = json.at + json.length;
    struct text name = {0};
    bool is_value = false;
    int depth = 0;
    *event = (struct event){0};
    for (const char *at = json.at; at < end; at++) {
        if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']') {
            depth--;
        } else if (*at == ':' || *at == ',') {
            is_value = *at == ':';
        } else if (*at == '"') {
            const char *quote = closing_quote(at + 1, end);
            if (!quote)
                return false;
            struct text string = {at + 1, (size_t)(quote - at - 1)};
            if (depth == 1 && !is_value)
                name = string;
            else if (depth == 1 && text_is(name, "type"))
                event->type = string;
            else if (depth == 1 && text_is(name, "delta"))
                event->delta = string;
            at = quote;
        }
    }
    return depth == 0 && event->type.length;
}
