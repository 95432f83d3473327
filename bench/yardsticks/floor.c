/* The floor: the least that one process must do on this kernel for a telephone bridge's media.
 *
 * Each RTP packet of the caller becomes one input_audio_buffer.append on a WebSocket (TLS 1.3, masked, base64), and
 * each call gets a packet every 20 ms, of the model's audio or of silence. One thread, one epoll, no more copies than
 * needed; nothing of a conversation (README.md says what is missing). Two designs of the same work:
 *
 *   --mode heartbeat   every 5 ms a quarter of the calls is sent its packets, and every RTP socket is drained
 *   --mode events      epoll wakes up for each packet, and packets leave in slots of 1 ms
 *
 * Lines on standard input:  call K ADDRESS PORT | end K         on standard output:  ready K PORT | ended K
 */
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    LONGEST_ANSWER = 8000 * 600, /* octets waiting to be played: ten minutes */
    MOST_CALLS = 10000,
    MOST_SLOTS = 20,
    EVENTS = 256, /* at once */
};

enum state { CONNECTING, CONFIGURING, TALKING, ENDING };
enum source { LINES, TIMER, WEBSOCKET, RTP }; /* what epoll wakes us up for: `number << 2 | source` */

struct call {
    unsigned number;
    enum state state;
    struct sockaddr_in remote;
    struct websocket websocket;
    struct rtp rtp;
    unsigned slot;
    struct call *next; /* in its slot */
};

static struct {
    unsigned count;   /* of slots in 20 ms */
    uint64_t width;   /* of one, nanoseconds */
    uint64_t origin;  /* when slot 0 was, CLOCK_MONOTONIC */
    uint64_t coming;  /* the number of the next */
    unsigned calls[MOST_SLOTS];
    struct call *first[MOST_SLOTS];
    unsigned talking;
    int timer;
} grid;

static bool heartbeat;
static struct url url;
static SSL_CTX *tls;
static int poll;     /* everything, or everything but RTP */
static int rtp_poll; /* the RTP sockets; in mode events the same */
static struct call *calls[MOST_CALLS];

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void watch(int in, int descriptor, uint64_t mark)
{
    struct epoll_event event = {EPOLLIN, {.u64 = mark}};
    if (epoll_ctl(in, EPOLL_CTL_ADD, descriptor, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

/* ---- the grid ---- */

/* Wake up for the next slot: each heartbeat; in mode events only those that have calls. */
static void arm(void)
{
    struct itimerspec when = {0};
    if (grid.talking) {
        while (!heartbeat && !grid.calls[grid.coming % grid.count])
            grid.coming++;
        uint64_t due = grid.origin + grid.coming * grid.width;
        when.it_value = (struct timespec){(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
    }
    timerfd_settime(grid.timer, TFD_TIMER_ABSTIME, &when, NULL); /* forgets earlier expirations: no read(2) needed */
}

static void seat(struct call *call)
{
    uint64_t now = now_ns();
    if (!grid.talking++)
        grid.origin = now, grid.coming = 1;
    uint64_t coming = (now - grid.origin) / grid.width + 1;
    if (coming < grid.coming)
        grid.coming = coming; /* the slots in between were empty */
    for (unsigned slot = 0; slot < grid.count; slot++)
        if (grid.calls[slot] < grid.calls[call->slot])
            call->slot = slot;
    call->next = grid.first[call->slot];
    grid.first[call->slot] = call;
    grid.calls[call->slot]++;
    arm();
}

static void unseat(struct call *call)
{
    struct call **at = &grid.first[call->slot];
    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
    grid.calls[call->slot]--;
    grid.talking--;
    arm();
}

/* Pass what has come on to the model, at most so many packets of it. */
static void hear(struct call *call, size_t most)
{
    struct text audio[RTP_BATCH];
    size_t count = rtp_receive(&call->rtp, audio, most);
    for (size_t i = 0; i < count; i++)
        if (audio[i].length)
            websocket_append(&call->websocket, audio[i]);
    if (count)
        websocket_flush(&call->websocket);
}

/* ---- the model's events ---- */

static void configure(struct call *call)
{
    static const char UPDATE[] =
        "{\"type\":\"session.update\",\"session\":{\"type\":\"realtime\",\"output_modalities\":[\"audio\"],\"audio\":{"
        "\"input\":{\"format\":{\"type\":\"audio/pcmu\"},\"turn_detection\":{\"type\":\"server_vad\"}},"
        "\"output\":{\"format\":{\"type\":\"audio/pcmu\"}}}}}";
    websocket_send(&call->websocket, TEXT, UPDATE, sizeof UPDATE - 1);
    call->state = CONFIGURING;
}

/* The server must echo both formats; one that does not would speak 24 kHz PCM. */
static void begin_to_talk(struct call *call, struct text event)
{
    const char *input = memmem(event.at, event.length, "\"audio/pcmu\"", 12);
    const char *rest = input ? input + 12 : NULL;
    if (!rest || !memmem(rest, (size_t)(event.at + event.length - rest), "\"audio/pcmu\"", 12))
        fail("call %u: the session is not audio/pcmu both ways", call->number);
    call->state = TALKING;
    unsigned port = rtp_open(&call->rtp, &call->remote);
    watch(rtp_poll, call->rtp.descriptor, (uint64_t)call->number << 2 | RTP);
    seat(call);
    printf("ready %u %u\n", call->number, port);
    fflush(stdout);
}

static void play(struct call *call, struct text delta)
{
    uint8_t *space = octets_space(&call->rtp.playout, delta.length);
    long count = base64_decode(space, delta);
    if (count < 0)
        fail("call %u: a delta that is not base64", call->number);
    call->rtp.playout.end += (size_t)count;
    if (octets_count(&call->rtp.playout) > LONGEST_ANSWER)
        fail("call %u: more than ten minutes of audio ahead", call->number);
}

static void take_event(void *owner, struct text json)
{
    struct call *call = owner;
    struct event event;
    if (!event_read(&event, json))
        fail("call %u: not an event: %.80s", call->number, json.at);
    if (text_is(event.type, "error"))
        fail("call %u: %.*s", call->number, (int)json.length, json.at);
    if (call->state == CONNECTING && text_is(event.type, "session.created"))
        configure(call);
    else if (call->state == CONFIGURING && text_is(event.type, "session.updated"))
        begin_to_talk(call, json);
    else if (call->state != TALKING)
        return;
    else if (text_is(event.type, "response.output_audio.delta"))
        play(call, event.delta);
    else if (text_is(event.type, "response.output_audio.done"))
        rtp_fill_up(&call->rtp);
    else if (text_is(event.type, "input_audio_buffer.speech_started"))
        call->rtp.playout.begin = call->rtp.playout.end = 0;
}

/* ---- calls ---- */

static void begin_call(unsigned number, const char *host, unsigned port)
{
    struct call *call = calloc(1, sizeof *call);
    if (!call || number >= MOST_CALLS || calls[number])
        fail("call %u cannot begin", number);
    call->number = number;
    call->remote = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &call->remote.sin_addr) != 1)
        fail("not an address: %s", host);
    calls[number] = call;
    websocket_open(&call->websocket, &url, tls, poll, (uint64_t)number << 2 | WEBSOCKET);
}

static void end_call(unsigned number)
{
    struct call *call = number < MOST_CALLS ? calls[number] : NULL;
    if (!call || call->state != TALKING)
        fail("call %u cannot end", number);
    call->state = ENDING;
    unseat(call);
    rtp_close(&call->rtp);
    websocket_close(&call->websocket);
}

static void forget(struct call *call)
{
    if (call->state != ENDING)
        fail("call %u: the server has closed the WebSocket", call->number);
    printf("ended %u\n", call->number);
    fflush(stdout);
    calls[call->number] = NULL;
    websocket_free(&call->websocket);
    free(call);
}

static void take_line(const char *line)
{
    char host[INET_ADDRSTRLEN];
    unsigned number, port;
    if (sscanf(line, "call %u %15s %u", &number, host, &port) == 3)
        begin_call(number, host, port);
    else if (sscanf(line, "end %u", &number) == 1)
        end_call(number);
    else
        fail("not a line that is known here: %s", line);
}

static void take_lines(void)
{
    static char text[PIPE_BUF];
    static size_t length;
    ssize_t count = read(STDIN_FILENO, text + length, sizeof text - length);
    if (count <= 0)
        exit(0);
    length += (size_t)count;
    char *line = text, *end;
    while ((end = memchr(line, '\n', length - (size_t)(line - text)))) {
        *end = '\0';
        take_line(line);
        line = end + 1;
    }
    length -= (size_t)(line - text);
    memmove(text, line, length);
}

/* ---- what happens when ---- */

static void drain(void)
{
    struct epoll_event ready[EVENTS];
    int count;
    do {
        count = epoll_wait(rtp_poll, ready, EVENTS, 0);
        for (int i = 0; i < count; i++)
            hear(calls[ready[i].data.u64 >> 2], RTP_BATCH);
    } while (count == EVENTS);
}

static void tick(void)
{
    uint64_t now = now_ns();
    for (; grid.origin + grid.coming * grid.width <= now; grid.coming++)
        for (struct call *call = grid.first[grid.coming % grid.count]; call; call = call->next)
            rtp_send(&call->rtp);
    if (heartbeat)
        drain();
    arm();
}

static void dispatch(uint64_t mark)
{
    enum source source = mark & 3;
    struct call *call = calls[mark >> 2];
    if (source == LINES) {
        take_lines();
    } else if (source == TIMER) {
        tick();
    } else if (!call) {
        return; /* ended since epoll spoke */
    } else if (source == RTP) {
        if (call->state == TALKING)
            hear(call, 1);
    } else {
        websocket_ready(&call->websocket, take_event, call);
        if (call->websocket.over)
            forget(call);
    }
}

static void read_options(int count, char **arguments)
{
    static const struct option OPTIONS[] = {
        {"mode", required_argument, NULL, 'm'}, {"url", required_argument, NULL, 'u'},
        {"cafile", required_argument, NULL, 'c'}, {0}};
    const char *mode = "heartbeat", *cafile = NULL;
    for (int option; (option = getopt_long(count, arguments, "", OPTIONS, NULL)) != -1;) {
        if (option == 'm')
            mode = optarg;
        else if (option == 'u')
            url_read(&url, optarg);
        else if (option == 'c')
            cafile = optarg;
        else
            exit(2);
    }
    heartbeat = !strcmp(mode, "heartbeat");
    if (!url.host[0] || (url.secure && !cafile) || (!heartbeat && strcmp(mode, "events")))
        fail("usage: floor --mode heartbeat|events --url wss://ADDRESS:PORT/PATH --cafile FILE");
    if (url.secure)
        tls = tls_begin(cafile);
}

int main(int count, char **arguments)
{
    struct rlimit files;
    read_options(count, arguments);
    base64_begin();
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max; /* two descriptors a call */
    setrlimit(RLIMIT_NOFILE, &files);
    grid.count = heartbeat ? 4 : MOST_SLOTS;
    grid.width = RTP_FRAME_NS / grid.count;
    grid.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    poll = epoll_create1(EPOLL_CLOEXEC);
    rtp_poll = heartbeat ? epoll_create1(EPOLL_CLOEXEC) : poll;
    watch(poll, STDIN_FILENO, LINES);
    watch(poll, grid.timer, TIMER);
    for (;;) {
        struct epoll_event ready[EVENTS];
        int events = epoll_wait(poll, ready, EVENTS, -1);
        for (int i = 0; i < events; i++)
            dispatch(ready[i].data.u64);
    }
}
