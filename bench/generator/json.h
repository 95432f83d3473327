/* JSON, RFC 8259, for a server that looks at few members: the whole text is checked, nothing is built. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

struct text {
    const char *at;
    size_t length;
};

/* The value of a member of an object, as it is written (strings without their quotes, not unescaped). False when the
 * text is no valid JSON object, however far from the member; `value->at` is NULL when there is no such member. */
bool json_member(struct text object, const char *name, struct text *value);

/* Down a path of members ("audio.input.format"); false when the text is invalid or the path ends early. */
bool json_path(struct text object, const char *path, struct text *value);

bool text_is(struct text text, const char *wanted);

#endif
