/* JSON, RFC 8259, as far as a server needs it that looks at few members: the whole text is checked, nothing is built.
 *
 * One walk over the text, which remembers the value of one member of the outermost object.
 */
#include "json.h"

#include <string.h>

#define DEEPEST 64

struct walk {
    const char *at, *end;
    const char *name;     /* of the member that is wanted */
    size_t name_length;
    struct text *found;
};

static bool walk_value(struct walk *walk, int depth);

static void skip_space(struct walk *walk)
{
    while (walk->at < walk->end && (*walk->at == ' ' || *walk->at == '\n' || *walk->at == '\r' || *walk->at == '\t'))
        walk->at++;
}

static bool take(struct walk *walk, char wanted)
{
    skip_space(walk);
    if (walk->at >= walk->end || *walk->at != wanted)
        return false;
    walk->at++;
    return true;
}

static bool is_hexadecimal(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool walk_escape(struct walk *walk)
{
    if (walk->at >= walk->end || strchr("\"\\/bfnrtu", *walk->at) == NULL)
        return false;
    if (*walk->at++ != 'u')
        return true;
    for (int i = 0; i < 4; i++, walk->at++)
        if (walk->at >= walk->end || !is_hexadecimal(*walk->at))
            return false;
    return true;
}

/* A string without its quotes; the walk is behind its end. */
static bool walk_string(struct walk *walk, struct text *inside)
{
    if (!take(walk, '"'))
        return false;
    inside->at = walk->at;
    while (walk->at < walk->end) {
        unsigned char c = (unsigned char)*walk->at++;
        if (c == '"') {
            inside->length = (size_t)(walk->at - 1 - inside->at);
            return true;
        }
        if (c < 0x20 || (c == '\\' && !walk_escape(walk)))
            return false;
    }
    return false;
}

static bool walk_digits(struct walk *walk)
{
    const char *start = walk->at;
    while (walk->at < walk->end && *walk->at >= '0' && *walk->at <= '9')
        walk->at++;
    return walk->at > start;
}

static bool walk_number(struct walk *walk)
{
    if (*walk->at == '-')
        walk->at++;
    if (walk->at < walk->end && *walk->at == '0')
        walk->at++;
    else if (!walk_digits(walk))
        return false;
    if (walk->at < walk->end && *walk->at == '.') {
        walk->at++;
        if (!walk_digits(walk))
            return false;
    }
    if (walk->at < walk->end && (*walk->at == 'e' || *walk->at == 'E')) {
        walk->at++;
        if (walk->at < walk->end && (*walk->at == '+' || *walk->at == '-'))
            walk->at++;
        return walk_digits(walk);
    }
    return true;
}

static bool walk_word(struct walk *walk, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(walk->end - walk->at) < length || memcmp(walk->at, word, length) != 0)
        return false;
    walk->at += length;
    return true;
}

static bool walk_member(struct walk *walk, int depth)
{
    struct text key, value;
    if (!walk_string(walk, &key) || !take(walk, ':'))
        return false;
    skip_space(walk);
    value.at = walk->at;
    if (!walk_value(walk, depth))
        return false;
    value.length = (size_t)(walk->at - value.at);
    if (depth == 1 && key.length == walk->name_length && memcmp(key.at, walk->name, key.length) == 0) {
        if (*value.at == '"')
            value.at++, value.length -= 2;
        *walk->found = value;
    }
    return true;
}

static bool walk_row(struct walk *walk, int depth, char end, bool (*each)(struct walk *, int))
{
    walk->at++;
    if (depth > DEEPEST)
        return false;
    if (take(walk, end))
        return true;
    do
        if (!each(walk, depth))
            return false;
    while (take(walk, ','));
    return take(walk, end);
}

static bool walk_value(struct walk *walk, int depth)
{
    struct text ignored;
    skip_space(walk);
    if (walk->at >= walk->end)
        return false;
    switch (*walk->at) {
    case '{':
        return walk_row(walk, depth + 1, '}', walk_member);
    case '[':
        return walk_row(walk, depth + 1, ']', walk_value);
    case '"':
        return walk_string(walk, &ignored);
    case 't':
        return walk_word(walk, "true");
    case 'f':
        return walk_word(walk, "false");
    case 'n':
        return walk_word(walk, "null");
    default:
        return walk_number(walk);
    }
}

static bool find(struct text object, const char *name, size_t name_length, struct text *value)
{
    struct walk walk = {object.at, object.at + object.length, name, name_length, value};
    *value = (struct text){NULL, 0};
    if (object.at == NULL)
        return false;
    skip_space(&walk);
    if (walk.at >= walk.end || *walk.at != '{' || !walk_value(&walk, 0))
        return false;
    skip_space(&walk);
    return walk.at == walk.end;
}

bool json_member(struct text object, const char *name, struct text *value)
{
    return find(object, name, strlen(name), value);
}

bool json_path(struct text object, const char *path, struct text *value)
{
    *value = object;
    while (true) {
        size_t length = strcspn(path, ".");
        if (!find(*value, path, length, value) || value->at == NULL)
            return false;
        if (path[length] == '\0')
            return true;
        path += length + 1;
    }
}

bool text_is(struct text text, const char *wanted)
{
    return text.at != NULL && text.length == strlen(wanted) && memcmp(text.at, wanted, text.length) == 0;
}
