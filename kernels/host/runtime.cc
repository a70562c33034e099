// Fibres, barriers and late copies of the host harness (cuda.h).
#include "cuda.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

// Saves the callee-saved registers of the System V ABI on the old stack and takes them from the new one.
extern "C" __attribute__((visibility("hidden"))) void zf_host_switch(void **save, void *load);
asm(R"(
.text
.globl zf_host_switch
.hidden zf_host_switch
zf_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

namespace zf_host {

thread_local Thread current;

namespace {

constexpr size_t STACK = 64 << 10;

struct Copy { void *to; const void *from; int bytes; };
struct Barrier { unsigned arrived = 0, generation = 0; };
struct Fiber {
    void *sp = nullptr;
    bool done = true;
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> open;
};

struct Block {
    std::vector<unsigned char> shared;
    unsigned char *stacks = nullptr;
    std::vector<Fiber> fibers;
    std::vector<Barrier> warps;
    std::vector<unsigned char> slots;
    Barrier all;
    void *main = nullptr;
    unsigned threads = 0, live = 0, at = 0;
    // Barriers passed and threads finished: a round without either is a deadlock.
    uint64_t progress = 0;
    void (*body)(const void *) = nullptr;
    const void *params = nullptr;
};
// Of the call in progress. A pointer: a thread-local with a destructor would keep the object loaded.
thread_local Block *running;

void enter(unsigned next) {
    Block &b = *running;
    void *unused;  // A finished fibre is never entered again.
    void **save = b.fibers[b.at].done ? &unused : &b.fibers[b.at].sp;
    b.at = next;
    current.thread.x = next;
    zf_host_switch(save, b.fibers[next].sp);
}

// Gives the turn to the next live fibre.
void yield() {
    Block &b = *running;
    unsigned next = b.at;
    do next = (next + 1) % b.threads; while (b.fibers[next].done);
    if (next != b.at) enter(next);
}

void start() {
    Block &b = *running;
    b.body(b.params);
    b.fibers[b.at].done = true;
    --b.live;
    ++b.progress;
    if (b.live) {
        yield();
    } else {
        void *unused;
        zf_host_switch(&unused, b.main);
    }
    std::abort();
}

void wait(Barrier &barrier, unsigned count, const char *what) {
    Block &b = *running;
    const unsigned generation = barrier.generation;
    if (++barrier.arrived == count) {
        barrier.arrived = 0;
        ++barrier.generation;
        ++b.progress;
        return;
    }
    uint64_t seen = b.progress;
    for (unsigned idle = 0; barrier.generation == generation;) {
        yield();
        if (b.progress != seen) { seen = b.progress; idle = 0; }
        else if (++idle > 4) {
            std::fprintf(stderr, "kernel deadlock: block %u, thread %u waits at %s\n", current.block.x, current.thread.x, what);
            std::abort();
        }
    }
}

}  // namespace

void block_barrier() { wait(running->all, running->live, "a block barrier"); }

void warp_barrier() { wait(running->warps[current.thread.x / 32], 32, "a warp barrier"); }

unsigned char *exchange(unsigned lane) { return &running->slots[(current.thread.x / 32 * 32 + lane) * 64]; }

void copy_later(void *to, const void *from, int bytes) { running->fibers[running->at].open.push_back({to, from, bytes}); }

void commit_copies() {
    Fiber &f = running->fibers[running->at];
    f.groups.push_back(std::move(f.open));
    f.open.clear();
}

void finish_copies(int pending_groups) {
    Fiber &f = running->fibers[running->at];
    while ((int)f.groups.size() > pending_groups) {
        for (const Copy &c : f.groups.front()) {
            std::memcpy(c.to, c.from, (size_t)c.bytes);
            std::memset((char *)c.to + c.bytes, 0, (size_t)(16 - c.bytes));
        }
        f.groups.erase(f.groups.begin());
    }
}

void run(void (*body)(const void *), const void *params, int64_t begin, int64_t end, unsigned threads, unsigned shared_bytes) {
    Block b;
    running = &b;
    b.body = body;
    b.params = params;
    b.stacks = (unsigned char *)std::malloc(threads * STACK);
    b.threads = threads;
    b.fibers.assign(threads, Fiber());
    b.slots.assign(threads * 64, 0);
    for (int64_t index = begin; index < end; ++index) {
        // What nobody wrote is recognisable.
        b.shared.assign(shared_bytes + 16, 0xff);
        b.warps.assign((threads + 31) / 32, Barrier());
        b.all = Barrier();
        b.live = threads;
        current.block.x = (unsigned)index;
        current.dim.x = threads;
        current.shared = (void *)(((uintptr_t)b.shared.data() + 15) / 16 * 16);
        for (unsigned t = 0; t < threads; ++t) {
            // Top of the stack: six registers and the return address, 16-byte aligned at entry.
            uintptr_t top = ((uintptr_t)b.stacks + (t + 1) * STACK) / 16 * 16;
            void **sp = (void **)top - 2;
            *sp = (void *)start;
            sp -= 6;
            b.fibers[t] = Fiber();
            b.fibers[t].sp = sp;
            b.fibers[t].done = false;
        }
        b.at = 0;
        current.thread.x = 0;
        zf_host_switch(&b.main, b.fibers[0].sp);
    }
    std::free(b.stacks);
    running = nullptr;
}

}  // namespace zf_host
