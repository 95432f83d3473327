/* The client's events, as the Realtime API has them: appended audio is counted, the rest is answered politely. */
#include "bench.h"

#include "base64.h"
#include "json.h"
#include "octets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST_ANSWER (1U << 20)
#define QUOTED 40 /* characters of what a client sent, in a violation */

static unsigned event_id(struct session *session)
{
    return ++session->event;
}

void session_created(struct bench *bench, struct session *session)
{
    const char *ga =
        "\"type\":\"realtime\",\"output_modalities\":[\"audio\"],\"audio\":{\"input\":{\"format\":"
        "{\"type\":\"audio/pcm\",\"rate\":24000},\"turn_detection\":{\"type\":\"server_vad\",\"threshold\":0.5,"
        "\"prefix_padding_ms\":300,\"silence_duration_ms\":200,\"create_response\":true,\"interrupt_response\":true}},"
        "\"output\":{\"format\":"
        "{\"type\":\"audio/pcm\",\"rate\":24000},\"voice\":\"alloy\",\"speed\":1.0}},\"max_output_tokens\":\"inf\","
        "\"truncation\":\"auto\"";
    const char *beta = "\"modalities\":[\"audio\",\"text\"],\"voice\":\"alloy\",\"input_audio_format\":\"pcm16\","
                       "\"output_audio_format\":\"pcm16\",\"temperature\":0.8,"
                       "\"max_response_output_tokens\":\"inf\"";
    session_tell(bench, session,
                 "{\"type\":\"session.created\",\"event_id\":\"event_%u\",\"session\":{\"object\":\"realtime.session\","
                 "\"id\":\"sess_%u\",\"model\":\"bench\",\"tools\":[],\"tool_choice\":\"auto\",%s}}",
                 event_id(session), session->serial, session->beta ? beta : ga);
}

static void refuse(struct bench *bench, struct session *session, const char *code, const char *message, struct text id)
{
    session_tell(bench, session,
                 "{\"type\":\"error\",\"event_id\":\"event_%u\",\"error\":{\"type\":\"invalid_request_error\",\"code\":"
                 "\"%s\",\"message\":\"%s\",\"param\":null,\"event_id\":%s%.*s%s}}",
                 event_id(session), code, message, id.at ? "\"" : "null", (int)id.length, id.at ? id.at : "",
                 id.at ? "\"" : "");
}

static void broken(struct bench *bench, struct session *session, const char *rule, struct text quoted)
{
    tallies_violation(&bench->tallies, "session %u: %s: %.*s", session->serial, rule,
                      (int)(quoted.length < QUOTED ? quoted.length : QUOTED), quoted.at ? quoted.at : "");
    refuse(bench, session, "invalid_value", rule, (struct text){NULL, 0});
}

static void append(struct bench *bench, struct session *session, struct text event)
{
    static struct octets audio;
    struct text encoded;
    size_t count;
    bench->tallies.appends++;
    if (!session->updated)
        broken(bench, session, "audio before session.updated", (struct text){NULL, 0});
    if (!json_member(event, "audio", &encoded) || encoded.at == NULL) {
        broken(bench, session, "an append without audio", event);
        return;
    }
    audio.count = 0;
    octets_reserve(&audio, encoded.length);
    if (!base64_decode(encoded.at, encoded.length, audio.at, &count))
        broken(bench, session, "audio that is no base64", encoded);
    else
        session_hear(bench, session, audio.at, count, session->stream.arrived_at);
}

/* What the client's turn detection asks for: turns at all, and responses to them. */
static void note_turn_detection(struct session *session, struct text settings)
{
    struct text value, path = settings;
    if (!session->beta && !json_path(settings, "audio.input", &path))
        return;
    if (!json_member(path, "turn_detection", &value) || value.at == NULL)
        return;
    session->has_turns = !text_is(value, "null");
    bool told = session->has_turns && json_member(value, "create_response", &path);
    session->answers_turns = session->has_turns && !(told && text_is(path, "false"));
}

static void update(struct bench *bench, struct session *session, struct text event)
{
    struct text settings, type;
    if (!json_member(event, "session", &settings) || !json_member(settings, "type", &type)) {
        broken(bench, session, "a session.update without session", event);
        return;
    }
    if (!session->beta && !text_is(type, "realtime")) {
        broken(bench, session, "a session.update without session.type", settings);
        return;
    }
    char *text = allocate(settings.length + 512, 1);
    const char *inside = settings.at + 1 + strspn(settings.at + 1, " \t\r\n");
    int length = snprintf(text, settings.length + 512,
                          "{\"type\":\"session.updated\",\"event_id\":\"event_%u\",\"session\":{\"object\":"
                          "\"realtime.session\",\"id\":\"sess_%u\"%s%.*s}",
                          event_id(session), session->serial, *inside == '}' ? "" : ",",
                          (int)(settings.at + settings.length - inside), inside);
    session_send(bench, session, text, (size_t)length);
    free(text);
    if (!session->updated)
        session->has_turns = session->answers_turns = true;
    session->updated = true;
    note_turn_detection(session, settings);
    turns_begin(bench, session, clock_monotonic_ns());
}

static void create(struct bench *bench, struct session *session, struct text event, struct text id)
{
    struct text metadata, ignored;
    if (turns_answering(session)) {
        refuse(bench, session, "conversation_already_has_active_response",
               "Conversation already has an active response in progress.", id);
        return;
    }
    session->metadata[0] = '\0';
    if (json_path(event, "response.metadata", &metadata) && json_member(metadata, "", &ignored) &&
        metadata.length < sizeof session->metadata)
        snprintf(session->metadata, sizeof session->metadata, "%.*s", (int)metadata.length, metadata.at);
    turns_answer(bench, session, clock_monotonic_ns());
}

static void cancel(struct bench *bench, struct session *session, struct text id)
{
    if (turns_answering(session))
        turns_cancel(bench, session, "client_cancelled");
    else
        refuse(bench, session, "response_cancel_not_active", "Cancellation failed: no active response found", id);
}

/* What is said about an item, with the member that it is known by. */
static void about_item(struct bench *bench, struct session *session, struct text event, const char *what)
{
    struct text item, end;
    if (!json_member(event, "item_id", &item) || item.at == NULL) {
        broken(bench, session, "no item_id", event);
        return;
    }
    if (strcmp(what, "truncated") == 0) {
        answers_cut(session);
        if (!json_member(event, "audio_end_ms", &end) || end.at == NULL) {
            broken(bench, session, "a truncation without audio_end_ms", event);
            return;
        }
        session_tell(bench, session,
                     "{\"type\":\"conversation.item.truncated\",\"event_id\":\"event_%u\",\"item_id\":\"%.*s\","
                     "\"content_index\":0,\"audio_end_ms\":%.*s}",
                     event_id(session), (int)item.length, item.at, (int)end.length, end.at);
        return;
    }
    session_tell(bench, session, "{\"type\":\"conversation.item.%s\",\"event_id\":\"event_%u\",\"item_id\":\"%.*s\"}",
                 what, event_id(session), (int)item.length, item.at);
}

static void add_item(struct bench *bench, struct session *session, struct text event)
{
    struct text item, type;
    if (!json_member(event, "item", &item) || !json_member(item, "type", &type)) {
        broken(bench, session, "a new item without item", event);
        return;
    }
    session->item++;
    for (int done = 0; done <= !session->beta; done++)
        session_tell(bench, session,
                     "{\"type\":\"conversation.item.%s\",\"event_id\":\"event_%u\",\"previous_item_id\":null,"
                     "\"item\":{\"id\":\"item_c%u_%u\",\"object\":\"realtime.item\",\"status\":\"completed\",%.*s}",
                     session->beta ? "created" : done ? "done" : "added", event_id(session), session->serial,
                     session->item, (int)(item.length - 1), item.at + 1);
}

void session_event(struct bench *bench, struct session *session, const char *message, size_t length)
{
    struct text event = {message, length}, type, id;
    if (!json_member(event, "type", &type)) {
        broken(bench, session, "no JSON object", event);
        return;
    }
    if (text_is(type, "input_audio_buffer.append")) {
        append(bench, session, event);
        return;
    }
    json_member(event, "event_id", &id);
    if (text_is(type, "session.update"))
        update(bench, session, event);
    else if (text_is(type, "response.create"))
        create(bench, session, event, id);
    else if (text_is(type, "response.cancel"))
        cancel(bench, session, id);
    else if (text_is(type, "conversation.item.truncate"))
        about_item(bench, session, event, "truncated");
    else if (text_is(type, "conversation.item.delete"))
        about_item(bench, session, event, "deleted");
    else if (text_is(type, "conversation.item.create"))
        add_item(bench, session, event);
    else if (text_is(type, "conversation.item.retrieve"))
        refuse(bench, session, "item_retrieve_invalid_item_id", "No such item here.", id);
    else if (text_is(type, "input_audio_buffer.clear"))
        session_tell(bench, session, "{\"type\":\"input_audio_buffer.cleared\",\"event_id\":\"event_%u\"}",
                     event_id(session));
    else if (text_is(type, "input_audio_buffer.commit"))
        session_tell(bench, session,
                     "{\"type\":\"input_audio_buffer.committed\",\"event_id\":\"event_%u\",\"previous_item_id\":null,"
                     "\"item_id\":\"item_u%u_%u\"}",
                     event_id(session), session->serial, ++session->item);
    else
        broken(bench, session, "an event of an unknown type", type);
}
