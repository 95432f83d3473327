/* Base64, RFC 4648 section 4: strict, as the audio of a session must be whole. */
#include "base64.h"

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
#define NO_DIGIT 0xFF

char *base64_encode(const uint8_t *octets, size_t count, char *text)
{
    for (; count >= 3; count -= 3, octets += 3) {
        uint32_t three = (uint32_t)octets[0] << 16 | (uint32_t)octets[1] << 8 | octets[2];
        *text++ = ALPHABET[three >> 18];
        *text++ = ALPHABET[three >> 12 & 63];
        *text++ = ALPHABET[three >> 6 & 63];
        *text++ = ALPHABET[three & 63];
    }
    if (count > 0) {
        uint32_t rest = (uint32_t)octets[0] << 16 | (count == 2 ? (uint32_t)octets[1] << 8 : 0);
        *text++ = ALPHABET[rest >> 18];
        *text++ = ALPHABET[rest >> 12 & 63];
        *text++ = count == 2 ? ALPHABET[rest >> 6 & 63] : '=';
        *text++ = '=';
    }
    return text;
}

static const uint8_t *digits(void)
{
    static uint8_t values[256];
    static bool made;
    if (!made) {
        for (unsigned i = 0; i < 256; i++)
            values[i] = NO_DIGIT;
        for (uint8_t i = 0; i < 64; i++)
            values[(uint8_t)ALPHABET[i]] = i;
        made = true;
    }
    return values;
}

bool base64_decode(const char *text, size_t length, uint8_t *octets, size_t *count)
{
    const uint8_t *value_of = digits();
    const char *end = text + length;
    uint32_t bits = 0;
    unsigned characters = 0, padding = 0;
    uint8_t *place = octets;
    for (; text < end; text++) {
        if (*text == '\\' && text + 1 < end && text[1] == '/')
            text++;
        uint8_t value = value_of[(uint8_t)*text];
        if (*text == '=')
            value = 0, padding++;
        else if (value == NO_DIGIT || padding > 0)
            return false;
        bits = bits << 6 | value;
        if (++characters % 4 == 0) {
            *place++ = (uint8_t)(bits >> 16);
            *place++ = (uint8_t)(bits >> 8);
            *place++ = (uint8_t)bits;
        }
    }
    if (characters % 4 != 0 || padding > 2 || (padding > 0 && characters == 0))
        return false;
    *count = (size_t)(place - octets) - padding;
    return true;
}
