/* Base64, RFC 4648 section 4. */
#ifndef BASE64_H
#define BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BASE64_LENGTH(octets) (((octets) + 2) / 3 * 4)

/* Encodes into `text`, which has room; returns the place behind it. */
char *base64_encode(const uint8_t *octets, size_t count, char *text);

/* Decodes the inside of a JSON string (an escaped solidus is one); false when it is no base64. */
bool base64_decode(const char *text, size_t length, uint8_t *octets, size_t *count);

#endif
