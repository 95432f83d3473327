/* Recognisable audio: frames of 20 ms whose 160 octets follow from whose they are, their direction and their number. */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#define FRAME_OCTETS 160
#define FRAME_MS 20
#define OCTETS_PER_MS 8

enum direction { UP = 'U', DOWN = 'D' }; /* caller to model, model to caller */

struct identity {
    enum direction direction;
    uint32_t whose;  /* up: the caller; down: the session */
    uint32_t number; /* from 0 */
};

void frame_make(struct identity identity, uint8_t octets[FRAME_OCTETS]);

/* Whether a frame of this direction begins here; only its head is looked at. */
bool frame_identify(const uint8_t octets[FRAME_OCTETS], enum direction direction, struct identity *identity);

/* How many octets are those of the frame. */
unsigned frame_alike(const uint8_t octets[FRAME_OCTETS], struct identity identity);

/* Whether so many octets alike can be no chance: the octets are those of the frame, damaged. */
#define FRAME_RESEMBLES 40 /* chance makes it 1 of 256 octets */

bool is_silence(uint8_t octet, bool alaw);

#endif
