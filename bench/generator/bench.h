/* What the parts of the generator share: the load, the callers, the sessions and the tallies. */
#ifndef BENCH_H
#define BENCH_H

#include "clock.h"
#include "frames.h"
#include "schedule.h"
#include "stream.h"
#include "tallies.h"
#include "websocket.h"

#include <netinet/in.h>

#define NOBODY (-1)
#define REMEMBERED_FRAMES 1024 /* of a caller: 20 s, longer than any frame is under way */
#define REMEMBERED_ANSWERS 8   /* of a session */
#define SETTLED_NS (1000 * NS_PER_MS) /* what has not come by then is lost */
#define UNDER_WAY_NS (200 * NS_PER_MS) /* what may come, or stay away, at the end of a call */
#define PLAYOUT_NS (200 * NS_PER_MS)   /* by so much may a connector play an answer late */
#define FORGIVEN 255                   /* a frame sent at the end of a call: it may be heard or not */

/* What a descriptor is, to the one that waits for all of them. */
enum watched { WATCH_CALLER, WATCH_SESSION, WATCH_LISTENER, WATCH_COMMANDS };

struct load {
    unsigned calls, period_ms, speech_ms, delta_ms, packet_ms, first_port;
    double speed;
    bool alaw, transcripts;
};

/* One telephone. A stint is one call of it. Frames are numbered through all stints. */
struct caller {
    int fd, control_fd; /* RTP, and RTCP that nobody reads */
    uint16_t port;
    struct sockaddr_in remote;
    bool talks;
    uint64_t due_at;          /* its next packet, monotonic */
    uint64_t ended_at;        /* wall clock; 0: never */
    uint32_t stint_first;     /* the first frame of this stint */
    uint32_t window_first;    /* the first that counts in this window */
    uint32_t next;            /* the next frame */
    uint32_t timestamp, ssrc; /* of RTP */
    uint16_t sequence;
    uint64_t sent_at[REMEMBERED_FRAMES]; /* by number; wall clock */
    uint8_t heard[REMEMBERED_FRAMES];    /* how often the model's server had it */
    uint32_t highest;                    /* heard, of this stint */
    bool any_heard;                      /* in this stint */
    bool up_in_window, down_in_window;
    struct {
        bool known;
        uint16_t sequence;
        uint32_t timestamp, ssrc, octets;
        uint64_t arrived_at;
    } last; /* RTP packet that came */
    bool new_stream; /* another SSRC may come: that of the next call */
    int session;     /* whose frames came last; NOBODY: none yet */
    uint32_t answer; /* ... and of which answer */
    uint32_t stints; /* so far */
};

/* One response's audio: frames first .. first + frames - 1 of its session. */
struct answer {
    uint32_t number; /* of the answer, from 1; 0: none yet */
    uint32_t first, frames, sent_octets;
    uint64_t began_at;  /* first delta; wall clock */
    uint64_t played_by; /* what was sent so far, when it is played at once; wall clock */
    uint8_t *heard;             /* by frame: how often the caller had it */
    uint32_t beyond;            /* one more than the highest frame heard, counted from `first` */
    bool cut;                   /* interrupted: what had not come by then need not come */
    uint32_t counts_from;       /* the first frame that counts in this window */
};

enum step { NO_STEP, STOP_SPEAKING, BEGIN_ANSWER, NEXT_DELTA };

/* One WebSocket. */
struct session {
    uint32_t serial; /* from 0 */
    struct stream stream;
    struct frames_in in;
    bool upgraded, beta, updated, closing, closed, waits_out;
    bool answers_turns, has_turns; /* as the client's turn detection has it */
    uint64_t closed_at, pinged_at; /* monotonic */
    bool ponged;
    int caller; /* whose frames it has; NOBODY: none yet */
    uint32_t stint;
    uint32_t event, item; /* numbers for identifiers */
    enum step step;
    uint64_t next_turn_at, next_step_at, due_at; /* monotonic */
    uint64_t voice_until;                        /* by then all deltas so far are played, monotonic */
    uint32_t next_frame, answers_begun;
    struct answer answers[REMEMBERED_ANSWERS];
    char metadata[512]; /* of the client's response.create, as it is written */
};

struct bench {
    struct load load;
    struct tallies tallies;
    struct schedule schedule;
    struct caller *callers;
    struct session **sessions; /* by serial; NULL: forgotten */
    uint32_t sessions_count, sessions_room;
    uint32_t oldest_session; /* the ones before are forgotten */
    int poll, listener;
    uint16_t port;
    SSL_CTX *tls;
};

/* callers.c: the telephones' sending side, and their life. */
void callers_open(struct bench *bench);
void caller_talk(struct bench *bench, struct caller *caller, struct sockaddr_in remote);
void caller_hush(struct bench *bench, struct caller *caller);
bool caller_has_ended(const struct bench *bench, const struct session *session); /* the call that it belonged to */
void caller_send(struct bench *bench, struct caller *caller, uint64_t now);

/* received.c: what comes to the telephones. */
void caller_receive(struct bench *bench, struct caller *caller);

/* heard.c: what comes to the model. */
void session_hear(struct bench *bench, struct session *session, const uint8_t *octets, size_t count, uint64_t at);

/* answers.c: the ledger of responses' audio. */
struct answer *answer_begin(struct bench *bench, struct session *session);
struct answer *answer_numbered(struct session *session, uint32_t number);
struct answer *answer_with(struct session *session, uint32_t frame);
void answer_begin_window(struct answer *answer, uint64_t now);
void answer_missing(const struct answer *answer, uint64_t now, uint64_t *lost, uint64_t *cut);
void answer_octets(const struct session *session, const struct answer *answer, uint8_t *octets, size_t count);
uint32_t answer_sent_frames(const struct answer *answer);
void answers_cut(struct session *session);
void answers_forget(struct bench *bench, struct session *session);

/* sessions.c: WebSockets that come, talk and go. */
void sessions_listen(struct bench *bench, const char *identity_file);
void sessions_accept(struct bench *bench);
void session_ready(struct bench *bench, struct session *session);
void session_send(struct bench *bench, struct session *session, const char *text, size_t length);
void session_tell(struct bench *bench, struct session *session, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void session_flush(struct bench *bench, struct session *session);
void sessions_sweep(struct bench *bench, uint64_t now);
unsigned sessions_open(const struct bench *bench);
struct session *session_numbered(const struct bench *bench, uint32_t serial);

/* events.c: the client's events. */
void session_created(struct bench *bench, struct session *session);
void session_event(struct bench *bench, struct session *session, const char *message, size_t length);

/* turns.c: what the model does by itself. */
void turns_begin(struct bench *bench, struct session *session, uint64_t now);
void turns_act(struct bench *bench, struct session *session, uint64_t now);
bool turns_answering(const struct session *session);
void turns_answer(struct bench *bench, struct session *session, uint64_t now);
void turns_cancel(struct bench *bench, struct session *session, const char *reason);

/* windows.c: the beginning of a window and its report. */
void window_begin(struct bench *bench);
void window_report(struct bench *bench, FILE *out);

#endif
