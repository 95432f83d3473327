/* Recognisable audio: frames of 20 ms whose 160 octets follow from whose they are, their direction and their number.
 *
 * The first 16 octets are the head: a mark with the direction, whose, number and a check of the three. The others come
 * from a xorshift generator (Marsaglia, "Xorshift RNGs", 2003) that is seeded with the check.
 */
#include "frames.h"

#include <string.h>

#define HEAD_OCTETS 16

struct head {
    uint8_t mark[4];
    uint32_t whose, number, check;
};

static uint64_t mixed(struct identity identity)
{
    uint64_t x = (uint64_t)identity.whose << 32 | identity.number;
    x ^= (uint64_t)identity.direction << 56;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
    return x ^ x >> 31;
}

void frame_make(struct identity identity, uint8_t octets[FRAME_OCTETS])
{
    uint64_t state = mixed(identity);
    struct head head = {{'a', 'i', 'v', (uint8_t)identity.direction}, identity.whose, identity.number, (uint32_t)state};
    memcpy(octets, &head, HEAD_OCTETS);
    state |= 1; /* zero would stay zero */
    for (unsigned place = HEAD_OCTETS; place < FRAME_OCTETS; place += sizeof state) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(octets + place, &state, sizeof state);
    }
}

bool frame_identify(const uint8_t octets[FRAME_OCTETS], enum direction direction, struct identity *identity)
{
    struct head head;
    memcpy(&head, octets, HEAD_OCTETS);
    if (memcmp(head.mark, "aiv", 3) != 0 || head.mark[3] != direction)
        return false;
    *identity = (struct identity){direction, head.whose, head.number};
    return (uint32_t)mixed(*identity) == head.check;
}

unsigned frame_alike(const uint8_t octets[FRAME_OCTETS], struct identity identity)
{
    uint8_t made[FRAME_OCTETS];
    frame_make(identity, made);
    if (memcmp(made, octets, FRAME_OCTETS) == 0)
        return FRAME_OCTETS;
    unsigned alike = 0;
    for (unsigned place = 0; place < FRAME_OCTETS; place++)
        alike += made[place] == octets[place];
    return alike;
}

bool is_silence(uint8_t octet, bool alaw)
{
    return (octet | 0x80) == (alaw ? 0xD5 : 0xFF); /* the smallest sample, of either sign: G.711 */
}
