/* How often Python asks for memory: hooks around its allocators, which pass everything on (PEP 445).
 *
 * tracemalloc knows what is in use, not how much came and went. What Python takes from its free lists (floats, frames,
 * small tuples) asks for none. Loaded by ctypes into the process that is counted; called with the GIL held, but for
 * `count_allocations` by nobody else than the allocators themselves. No header of Python's is needed: this struct is as
 * documented since Python 3.5.
 */
#include <stddef.h>

enum { MEM = 1, OBJ = 2 }; /* PyMemAllocatorDomain; that of raw memory works without the GIL, and is left alone */

typedef struct {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t count, size_t size);
    void *(*realloc)(void *ctx, void *block, size_t size);
    void (*free)(void *ctx, void *block);
} Allocator;

void PyMem_GetAllocator(int domain, Allocator *allocator);
void PyMem_SetAllocator(int domain, Allocator *allocator);

unsigned long long allocations;

static Allocator own[OBJ + 1];

static void *counted_malloc(void *ctx, size_t size) {
    Allocator *inner = ctx;
    allocations++;
    return inner->malloc(inner->ctx, size);
}

static void *counted_calloc(void *ctx, size_t count, size_t size) {
    Allocator *inner = ctx;
    allocations++;
    return inner->calloc(inner->ctx, count, size);
}

static void *counted_realloc(void *ctx, void *block, size_t size) {
    Allocator *inner = ctx;
    allocations++;
    return inner->realloc(inner->ctx, block, size);
}

static void passed_free(void *ctx, void *block) {
    Allocator *inner = ctx;
    inner->free(inner->ctx, block);
}

/* From now on; once. */
void count_allocations(void) {
    for (int domain = MEM; domain <= OBJ; domain++) {
        PyMem_GetAllocator(domain, &own[domain]);
        Allocator hooks = {&own[domain], counted_malloc, counted_calloc, counted_realloc, passed_free};
        PyMem_SetAllocator(domain, &hooks);
    }
}
