/* What is counted in a window, and how it is told: one line of JSON. */
#include "tallies.h"

#include "clock.h"

#include <ctype.h>
#include <string.h>

void tallies_begin(struct tallies *tallies)
{
    memset(tallies, 0, sizeof *tallies);
    tallies->began_at = clock_monotonic_ns();
    tallies->cpu_then = clock_cpu_ns();
}

void tallies_violation(struct tallies *tallies, const char *format, ...)
{
    if (tallies->violations++ > 0)
        return;
    va_list values;
    va_start(values, format);
    vsnprintf(tallies->first_violation, sizeof tallies->first_violation, format, values);
    va_end(values);
}

/* In JSON, whatever a peer put into it. */
static void print_text(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text != '\0'; text++)
        fputc(isprint((unsigned char)*text) && *text != '"' && *text != '\\' ? *text : '.', out);
    fputc('"', out);
}

void tallies_print(const struct tallies *tallies, unsigned calls, unsigned sessions_open, FILE *out)
{
    double seconds = (double)(clock_monotonic_ns() - tallies->began_at) / 1e9;
    double cpu_ms = (double)(clock_cpu_ns() - tallies->cpu_then) / 1e6;
    fprintf(out, "{\"seconds\":%.6f,\"cpu_ms\":%.3f,", seconds, cpu_ms);
#define COUNT(name) fprintf(out, "\"" #name "\":%llu,", (unsigned long long)tallies->name);
    TALLY_COUNTS(COUNT)
#undef COUNT
#define TIME(name) histogram_print(&tallies->name, #name, out), fputc(',', out);
    TALLY_TIMES(TIME)
#undef TIME
    fprintf(out, "\"first_violation\":");
    print_text(tallies->first_violation, out);
    fprintf(out, ",\"calls\":%u,\"sessions_open\":%u}\n", calls, sessions_open);
    fflush(out);
}
