/* A load for connectors of telephones to the Realtime API: N callers with RTP, and the model's server, in one process.
 *
 * Commands come line by line: "talk NUMBER HOST PORT", "hush NUMBER", "window", "report"; the end of the input ends it.
 * Answers are lines of JSON: first the ports, then one for each "window" and "report".
 *
 * The process sleeps until the next packet is due, a millisecond at most, and then takes what has come: arrivals bear
 * the kernel's time stamps, so nothing is won by waking up for each, and nothing is charged to the sender for doing so.
 */
#define _GNU_SOURCE
#include "bench.h"

#include "octets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define TICK_NS (1 * NS_PER_MS)
#define SWEEP_NS (1000 * NS_PER_MS)
#define EVENTS 256
#define EVENTS_IN_ONE_GO 8 /* then packets that have become due go first */
#define LONGEST_LINE 256
#define TIMER_SLACK_NS 1000

struct options {
    const char *identity_file;
    int core;
};

static void read_options(int count, char **words, struct load *load, struct options *options)
{
    static const struct option known[] = {
        {"calls", 1, NULL, 'n'},       {"law", 1, NULL, 'l'},       {"period-ms", 1, NULL, 'p'},
        {"speech-ms", 1, NULL, 's'},   {"delta-ms", 1, NULL, 'd'},  {"speed", 1, NULL, 'v'},
        {"transcripts", 1, NULL, 't'}, {"packet-ms", 1, NULL, 'k'}, {"first-port", 1, NULL, 'f'},
        {"identity", 1, NULL, 'i'},    {"core", 1, NULL, 'c'},      {NULL, 0, NULL, 0},
    };
    for (int option; (option = getopt_long(count, words, "", known, NULL)) != -1;) {
        unsigned number = optarg != NULL ? (unsigned)strtoul(optarg, NULL, 10) : 0;
        switch (option) {
        case 'n': load->calls = number; break;
        case 'l': load->alaw = strcmp(optarg, "PCMA") == 0; break;
        case 'p': load->period_ms = number; break;
        case 's': load->speech_ms = number; break;
        case 'd': load->delta_ms = number; break;
        case 'v': load->speed = strtod(optarg, NULL); break;
        case 't': load->transcripts = number != 0; break;
        case 'k': load->packet_ms = number; break;
        case 'f': load->first_port = number; break;
        case 'i': options->identity_file = optarg; break;
        case 'c': options->core = (int)number; break;
        default: exit(2);
        }
    }
    if (load->calls == 0 || load->packet_ms == 0 || load->packet_ms > 200 || load->delta_ms == 0 ||
        load->period_ms == 0 || load->speech_ms < FRAME_MS || load->speed <= 0) {
        fputs("generator: a load that makes no sense\n", stderr);
        exit(2);
    }
}

static void prepare_process(const struct options *options)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; /* three descriptors a call */
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (options->core >= 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET((size_t)options->core, &cores);
        if (sched_setaffinity(0, sizeof cores, &cores) != 0)
            fprintf(stderr, "generator: there is no core %d; any is taken\n", options->core);
    }
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
}

static void watch(struct bench *bench, int fd, enum watched kind, uint32_t number)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 | number};
    epoll_ctl(bench->poll, EPOLL_CTL_ADD, fd, &event);
}

static void open_all(struct bench *bench, const struct options *options)
{
    bench->poll = epoll_create1(EPOLL_CLOEXEC);
    sessions_listen(bench, options->identity_file);
    callers_open(bench);
    watch(bench, bench->listener, WATCH_LISTENER, 0);
    watch(bench, STDIN_FILENO, WATCH_COMMANDS, 0);
    for (unsigned i = 0; i < bench->load.calls; i++)
        watch(bench, bench->callers[i].fd, WATCH_CALLER, i);
    schedule_add(&bench->schedule, (struct due){clock_monotonic_ns() + SWEEP_NS, SWEEP, 0});
    tallies_begin(&bench->tallies);
    printf("{\"ws_port\":%u,\"rtp_ports\":[", bench->port);
    for (unsigned i = 0; i < bench->load.calls; i++)
        printf("%s%u", i ? "," : "", bench->callers[i].port);
    printf("]}\n");
    fflush(stdout);
}

static void obey(struct bench *bench, const char *line)
{
    char host[64];
    unsigned number, port;
    if (sscanf(line, "talk %u %63s %u", &number, host, &port) == 3 && number < bench->load.calls) {
        struct sockaddr_in remote = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        if (inet_pton(AF_INET, host, &remote.sin_addr) == 1)
            caller_talk(bench, &bench->callers[number], remote);
    } else if (sscanf(line, "hush %u", &number) == 1 && number < bench->load.calls)
        caller_hush(bench, &bench->callers[number]);
    else if (strcmp(line, "window") == 0) {
        window_begin(bench);
        puts("{}");
        fflush(stdout);
    } else if (strcmp(line, "report") == 0)
        window_report(bench, stdout);
    else
        fprintf(stderr, "generator: no such command: %s\n", line);
}

/* False at the end of the input. */
static bool read_commands(struct bench *bench)
{
    static struct octets lines;
    char *line = (char *)octets_reserve(&lines, LONGEST_LINE), *end;
    ssize_t count = read(STDIN_FILENO, line, LONGEST_LINE);
    if (count <= 0)
        return count < 0 && (errno == EINTR || errno == EAGAIN);
    lines.count += (size_t)count;
    while (lines.count > 0 && (end = memchr(lines.at, '\n', lines.count)) != NULL) {
        *end = '\0';
        obey(bench, (const char *)lines.at);
        octets_drop(&lines, (size_t)(end + 1 - (char *)lines.at));
    }
    return true;
}

static void act(struct bench *bench, const struct due *due, uint64_t now)
{
    if (due->kind == CALLER_SENDS) {
        struct caller *caller = &bench->callers[due->number];
        if (caller->talks && caller->due_at == due->at)
            caller_send(bench, caller, now);
    } else if (due->kind == SESSION_ACTS) {
        struct session *session = session_numbered(bench, due->number);
        if (session != NULL && session->due_at == due->at)
            turns_act(bench, session, now);
    } else {
        sessions_sweep(bench, now);
        schedule_add(&bench->schedule, (struct due){now + SWEEP_NS, SWEEP, 0});
    }
}

static void act_all(struct bench *bench)
{
    struct due due;
    for (uint64_t now = clock_monotonic_ns(); schedule_take(&bench->schedule, now, &due); now = clock_monotonic_ns())
        act(bench, &due, now);
}

static bool attend(struct bench *bench, const struct epoll_event *event)
{
    uint32_t number = (uint32_t)event->data.u64;
    switch ((enum watched)(event->data.u64 >> 32)) {
    case WATCH_CALLER:
        caller_receive(bench, &bench->callers[number]);
        return true;
    case WATCH_SESSION:
        if (session_numbered(bench, number) != NULL)
            session_ready(bench, session_numbered(bench, number));
        return true;
    case WATCH_LISTENER:
        sessions_accept(bench);
        return true;
    default:
        return read_commands(bench);
    }
}

static bool attend_all(struct bench *bench)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(bench->poll, events, EVENTS, 0);
    for (int i = 0; i < count; i++) {
        if (!attend(bench, &events[i]))
            return false;
        if (i % EVENTS_IN_ONE_GO == EVENTS_IN_ONE_GO - 1)
            act_all(bench);
    }
    return true;
}

static void run(struct bench *bench)
{
    for (uint64_t attended = 0;;) {
        act_all(bench);
        uint64_t now = clock_monotonic_ns(), next = schedule_next(&bench->schedule);
        if (now >= attended + TICK_NS) {
            attended = now;
            if (!attend_all(bench))
                return;
            continue;
        }
        clock_sleep_until(next < attended + TICK_NS ? next : attended + TICK_NS);
    }
}

int main(int count, char **words)
{
    static struct bench bench;
    struct options options = {.core = -1};
    bench.load = (struct load){.calls = 1,
                               .period_ms = 4000,
                               .speech_ms = 3000,
                               .delta_ms = 200,
                               .packet_ms = 20,
                               .speed = 3,
                               .transcripts = true};
    read_options(count, words, &bench.load, &options);
    prepare_process(&options);
    open_all(&bench, &options);
    run(&bench);
    return 0;
}
