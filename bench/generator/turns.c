/* What the model does by itself: it hears the caller stop, and answers. One turn a period.
 *
 * Events and their order are those of the Realtime API's server voice detection, in either dialect.
 */
#include "bench.h"

#include "base64.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_TURN_NS (500 * NS_PER_MS) /* after session.updated, and up to a period more */
#define SPEAKING_NS (300 * NS_PER_MS)   /* from speech_started to speech_stopped */
#define THINKING_NS (100 * NS_PER_MS)   /* from there to the response */
#define MARGIN_MS 600                   /* a period so much longer than the answers has no barge-in */
#define GOLDEN 0.6180339887498949       /* its multiples, modulo 1, are spread evenly */
#define LONGEST_HEAD 512

static const char *audio_name(const struct session *session)
{
    return session->beta ? "audio" : "output_audio";
}

static unsigned event_id(struct session *session)
{
    return ++session->event;
}

/* Wakes the session when its turn or its next step is due. */
static void plan(struct bench *bench, struct session *session)
{
    uint64_t at = session->has_turns ? session->next_turn_at : UINT64_MAX;
    if (session->step != NO_STEP && session->next_step_at < at)
        at = session->next_step_at;
    session->due_at = at;
    if (at != UINT64_MAX)
        schedule_add(&bench->schedule, (struct due){at, SESSION_ACTS, session->serial});
}

static void step_at(struct session *session, enum step step, uint64_t at)
{
    session->step = step;
    session->next_step_at = at;
}

bool turns_answering(const struct session *session)
{
    return session->step == NEXT_DELTA;
}

void turns_begin(struct bench *bench, struct session *session, uint64_t now)
{
    double turns = session->serial * GOLDEN;
    double phase = (turns - (double)(uint64_t)turns) * bench->load.period_ms;
    if (session->next_turn_at == 0)
        session->next_turn_at = now + FIRST_TURN_NS + (uint64_t)(phase * (double)NS_PER_MS);
    plan(bench, session);
}

static void speech_started(struct bench *bench, struct session *session, uint64_t now)
{
    session->item++;
    session_tell(bench, session,
                 "{\"type\":\"input_audio_buffer.speech_started\",\"event_id\":\"event_%u\",\"audio_start_ms\":%u,"
                 "\"item_id\":\"item_u%u_%u\"}",
                 event_id(session), session->item * 1000, session->serial, session->item);
    if (turns_answering(session))
        turns_cancel(bench, session, "turn_detected");
    else
        answers_cut(session);
    step_at(session, STOP_SPEAKING, now + SPEAKING_NS);
}

static void item_events(struct bench *bench, struct session *session, const char *item)
{
    session_tell(bench, session,
                 "{\"type\":\"conversation.item.%s\",\"event_id\":\"event_%u\",\"previous_item_id\":null,\"item\":%s}",
                 session->beta ? "created" : "added", event_id(session), item);
    if (!session->beta && strstr(item, "in_progress") == NULL)
        session_tell(bench, session,
                     "{\"type\":\"conversation.item.done\",\"event_id\":\"event_%u\",\"previous_item_id\":null,"
                     "\"item\":%s}",
                     event_id(session), item);
}

static void speech_stopped(struct bench *bench, struct session *session, uint64_t now)
{
    char name[48], item[LONGEST_HEAD];
    snprintf(name, sizeof name, "item_u%u_%u", session->serial, session->item);
    session_tell(bench, session,
                 "{\"type\":\"input_audio_buffer.speech_stopped\",\"event_id\":\"event_%u\",\"audio_end_ms\":%u,"
                 "\"item_id\":\"%s\"}",
                 event_id(session), session->item * 1000 + 300, name);
    session_tell(bench, session,
                 "{\"type\":\"input_audio_buffer.committed\",\"event_id\":\"event_%u\",\"previous_item_id\":null,"
                 "\"item_id\":\"%s\"}",
                 event_id(session), name);
    snprintf(item, sizeof item,
             "{\"id\":\"%s\",\"object\":\"realtime.item\",\"type\":\"message\",\"status\":\"completed\","
             "\"role\":\"user\",\"content\":[{\"type\":\"input_audio\",\"transcript\":null}]}",
             name);
    item_events(bench, session, item);
    if (bench->load.transcripts)
        session_tell(bench, session,
                     "{\"type\":\"conversation.item.input_audio_transcription.completed\",\"event_id\":\"event_%u\","
                     "\"item_id\":\"%s\",\"content_index\":0,\"transcript\":\"a question\","
                     "\"usage\":{\"type\":\"duration\",\"seconds\":1}}",
                     event_id(session), name);
    step_at(session, session->answers_turns ? BEGIN_ANSWER : NO_STEP, now + THINKING_NS);
}

/* Identifiers that the events of a response share. */
static void response_place(const struct session *session, char *place, size_t room)
{
    snprintf(place, room, "\"response_id\":\"resp_%u_%u\",\"item_id\":\"item_a%u_%u\",\"output_index\":0",
             session->serial, session->answers_begun, session->serial, session->answers_begun);
}

static void assistant_item(const struct session *session, const char *status, const char *content, char *item,
                           size_t room)
{
    snprintf(item, room,
             "{\"id\":\"item_a%u_%u\",\"object\":\"realtime.item\",\"type\":\"message\",\"status\":\"%s\","
             "\"role\":\"assistant\",\"content\":[%s]}",
             session->serial, session->answers_begun, status, content);
}

static void next_delta(struct bench *bench, struct session *session, uint64_t now);

void turns_answer(struct bench *bench, struct session *session, uint64_t now)
{
    char item[LONGEST_HEAD], place[LONGEST_HEAD];
    struct answer *answer = answer_begin(bench, session);
    response_place(session, place, sizeof place);
    assistant_item(session, "in_progress", "", item, sizeof item);
    session_tell(bench, session,
                 "{\"type\":\"response.created\",\"event_id\":\"event_%u\",\"response\":{"
                 "\"object\":\"realtime.response\",\"id\":\"resp_%u_%u\",\"status\":\"in_progress\","
                 "\"status_details\":null,\"output\":[],"
                 "\"conversation_id\":\"conv_%u\",\"max_output_tokens\":\"inf\",\"metadata\":%s}}",
                 event_id(session), session->serial, session->answers_begun, session->serial,
                 session->metadata[0] ? session->metadata : "null");
    session_tell(bench, session,
                 "{\"type\":\"response.output_item.added\",\"event_id\":\"event_%u\",\"response_id\":\"resp_%u_%u\","
                 "\"output_index\":0,\"item\":%s}",
                 event_id(session), session->serial, session->answers_begun, item);
    item_events(bench, session, item);
    session_tell(bench, session,
                 "{\"type\":\"response.content_part.added\",\"event_id\":\"event_%u\",%s,\"content_index\":0,"
                 "\"part\":{\"type\":\"audio\",\"transcript\":\"\"}}",
                 event_id(session), place);
    answer->began_at = clock_wall_ns();
    next_delta(bench, session, now);
    plan(bench, session);
}

static void send_audio(struct bench *bench, struct session *session, struct answer *answer, uint32_t octets)
{
    size_t room = LONGEST_HEAD + BASE64_LENGTH(octets) + 2;
    uint8_t *audio = allocate(octets, 1);
    char *text = allocate(room, 1), place[LONGEST_HEAD];
    response_place(session, place, sizeof place);
    answer_octets(session, answer, audio, octets);
    int head = snprintf(text, LONGEST_HEAD,
                        "{\"type\":\"response.%s.delta\",\"event_id\":\"event_%u\",%s,\"content_index\":0,\"delta\":\"",
                        audio_name(session), event_id(session), place);
    char *end = base64_encode(audio, octets, text + head);
    *end++ = '"';
    *end++ = '}';
    session_send(bench, session, text, (size_t)(end - text));
    free(text);
    free(audio);
    answer->sent_octets += octets;
    bench->tallies.deltas++;
}

/* The connector plays what it gets without a pause: when will it have played all of it? */
static void note_playing(struct session *session, struct answer *answer, uint32_t octets, uint64_t now)
{
    if (session->voice_until < now)
        session->voice_until = now;
    session->voice_until += octets / OCTETS_PER_MS * NS_PER_MS;
    answer->played_by = clock_wall_ns() + (session->voice_until - now);
}

static void end_answer(struct bench *bench, struct session *session, const char *status, const char *details);

static void next_delta(struct bench *bench, struct session *session, uint64_t now)
{
    char place[LONGEST_HEAD];
    struct answer *answer = answer_numbered(session, session->answers_begun);
    uint32_t octets = answer->frames * FRAME_OCTETS - answer->sent_octets;
    if (octets > bench->load.delta_ms * OCTETS_PER_MS)
        octets = bench->load.delta_ms * OCTETS_PER_MS;
    send_audio(bench, session, answer, octets);
    note_playing(session, answer, octets, now);
    if (bench->load.transcripts) {
        response_place(session, place, sizeof place);
        session_tell(bench, session,
                     "{\"type\":\"response.%s_transcript.delta\",\"event_id\":\"event_%u\",%s,\"content_index\":0,"
                     "\"delta\":\" word\"}",
                     audio_name(session), event_id(session), place);
    }
    double pause_ns = (double)octets / OCTETS_PER_MS * (double)NS_PER_MS / bench->load.speed;
    step_at(session, NEXT_DELTA, now + (uint64_t)pause_ns);
    if (answer->sent_octets == answer->frames * FRAME_OCTETS)
        end_answer(bench, session, "completed", "null");
}

static void end_parts(struct bench *bench, struct session *session, const char *transcript)
{
    char place[LONGEST_HEAD];
    response_place(session, place, sizeof place);
    session_tell(bench, session, "{\"type\":\"response.%s.done\",\"event_id\":\"event_%u\",%s,\"content_index\":0}",
                 audio_name(session), event_id(session), place);
    if (bench->load.transcripts)
        session_tell(bench, session,
                     "{\"type\":\"response.%s_transcript.done\",\"event_id\":\"event_%u\",%s,\"content_index\":0,"
                     "\"transcript\":\"%s\"}",
                     audio_name(session), event_id(session), place, transcript);
    session_tell(bench, session,
                 "{\"type\":\"response.content_part.done\",\"event_id\":\"event_%u\",%s,\"content_index\":0,"
                 "\"part\":{\"type\":\"audio\",\"transcript\":\"%s\"}}",
                 event_id(session), place, transcript);
}

static void end_answer(struct bench *bench, struct session *session, const char *status, const char *details)
{
    char item[LONGEST_HEAD], content[128];
    const char *transcript = bench->load.transcripts ? "some words" : "";
    snprintf(content, sizeof content, "{\"type\":\"%s\",\"transcript\":\"%s\"}", audio_name(session), transcript);
    assistant_item(session, strcmp(status, "completed") == 0 ? status : "incomplete", content, item, sizeof item);
    end_parts(bench, session, transcript);
    if (!session->beta)
        session_tell(bench, session,
                     "{\"type\":\"conversation.item.done\",\"event_id\":\"event_%u\",\"previous_item_id\":null,"
                     "\"item\":%s}",
                     event_id(session), item);
    session_tell(bench, session,
                 "{\"type\":\"response.output_item.done\",\"event_id\":\"event_%u\",\"response_id\":\"resp_%u_%u\","
                 "\"output_index\":0,\"item\":%s}",
                 event_id(session), session->serial, session->answers_begun, item);
    session_tell(bench, session,
                 "{\"type\":\"response.done\",\"event_id\":\"event_%u\",\"response\":{\"object\":\"realtime.response\","
                 "\"id\":\"resp_%u_%u\",\"status\":\"%s\",\"status_details\":%s,\"output\":[%s],\"metadata\":%s,"
                 "\"usage\":{\"total_tokens\":100,\"input_tokens\":50,\"output_tokens\":50}}}",
                 event_id(session), session->serial, session->answers_begun, status, details, item,
                 session->metadata[0] ? session->metadata : "null");
    session_tell(bench, session,
                 "{\"type\":\"rate_limits.updated\",\"event_id\":\"event_%u\",\"rate_limits\":[{\"name\":\"tokens\","
                 "\"limit\":100000,\"remaining\":99900,\"reset_seconds\":0.06}]}",
                 event_id(session));
    session->metadata[0] = '\0';
    session->step = NO_STEP;
}

void turns_cancel(struct bench *bench, struct session *session, const char *reason)
{
    char details[128];
    snprintf(details, sizeof details, "{\"type\":\"cancelled\",\"reason\":\"%s\"}", reason);
    answers_cut(session);
    end_answer(bench, session, "cancelled", details);
}

static void next_turn(struct bench *bench, struct session *session, uint64_t now)
{
    uint64_t period = bench->load.period_ms * NS_PER_MS;
    bool calm = bench->load.period_ms >= bench->load.speech_ms + MARGIN_MS;
    bool busy = session->step == STOP_SPEAKING || session->step == BEGIN_ANSWER;
    while (session->next_turn_at <= now)
        session->next_turn_at += period;
    if (!busy && !(calm && (turns_answering(session) || session->voice_until + PLAYOUT_NS > now)))
        speech_started(bench, session, now);
}

static void next_step(struct bench *bench, struct session *session, uint64_t now)
{
    if (session->step == STOP_SPEAKING)
        speech_stopped(bench, session, now);
    else if (session->step == BEGIN_ANSWER)
        turns_answer(bench, session, now);
    else if (session->step == NEXT_DELTA)
        next_delta(bench, session, now);
}

void turns_act(struct bench *bench, struct session *session, uint64_t now)
{
    if (session->closing || session->closed)
        return;
    if (session->step != NO_STEP && session->next_step_at <= now)
        next_step(bench, session, now);
    if (session->has_turns && session->next_turn_at <= now)
        next_turn(bench, session, now);
    plan(bench, session);
    session_flush(bench, session);
}
