/* Durations, counted by size: any number of them in fixed memory, percentiles within 1 %, the largest exactly. */
#include "histogram.h"

static unsigned bin_of(uint64_t us)
{
    if (us < 2 * HISTOGRAM_STEPS)
        return (unsigned)us;
    unsigned doublings = 63 - (unsigned)__builtin_clzll(us) - 6;
    unsigned bin = doublings * HISTOGRAM_STEPS + (unsigned)(us >> doublings);
    return bin < HISTOGRAM_BINS ? bin : HISTOGRAM_BINS - 1;
}

/* The middle of a bin. */
static double bin_ms(unsigned bin)
{
    if (bin < 2 * HISTOGRAM_STEPS)
        return (bin + 0.5) / 1000;
    unsigned doublings = bin / HISTOGRAM_STEPS - 1;
    double step = (double)(1ULL << doublings);
    return (bin - doublings * HISTOGRAM_STEPS + 0.5) * step / 1000;
}

void histogram_add(struct histogram *histogram, int64_t duration_ns)
{
    uint64_t ns = duration_ns > 0 ? (uint64_t)duration_ns : 0;
    histogram->bins[bin_of(ns / 1000)]++;
    histogram->count++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

static double quantile_ms(const struct histogram *histogram, double share)
{
    uint64_t below = 0, wanted = (uint64_t)(share * (double)(histogram->count - 1)) + 1;
    double max_ms = (double)histogram->max_ns / 1e6;
    for (unsigned bin = 0; bin < HISTOGRAM_BINS; bin++) {
        below += histogram->bins[bin];
        if (below >= wanted)
            return bin_ms(bin) < max_ms ? bin_ms(bin) : max_ms;
    }
    return max_ms;
}

void histogram_print(const struct histogram *histogram, const char *name, FILE *out)
{
    static const struct {
        const char *name;
        double share;
    } shown[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    fprintf(out, "\"%s\":{", name);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        fprintf(out, "\"%s\":%.4f,", shown[i].name, histogram->count ? quantile_ms(histogram, shown[i].share) : 0.0);
    fprintf(out, "\"max\":%.4f,\"count\":%llu}", (double)histogram->max_ns / 1e6, (unsigned long long)histogram->count);
}
