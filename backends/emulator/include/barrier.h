// `cuda::barrier` for the threads of a block. Asynchronous copies are done when they are issued, so
// what waits for them waits for arrivals alone.
#pragma once
#include <utility>

namespace cuda {
enum thread_scope { thread_scope_thread, thread_scope_block };

template <thread_scope Scope> struct barrier {
    using arrival_token = unsigned;
    // In shared memory, where nothing is constructed, and in the eight bytes of the device's own.
    unsigned short expected, pending;
    unsigned phase;

    arrival_token arrive() {
        __threadfence();
        arrival_token token = phase;
        if (--pending == 0) {
            pending = expected;
            phase++;
        }
        return token;
    }
    void wait(arrival_token token) const {
        while (const_cast<const volatile unsigned &>(phase) == token) emu.give_way();
        __threadfence();
    }
    void wait_parity(bool parity) const {
        while ((const_cast<const volatile unsigned &>(phase) & 1u) == unsigned(parity)) emu.give_way();
        __threadfence();
    }
    void arrive_and_wait() { wait(arrive()); }
};

template <thread_scope Scope> inline void init(barrier<Scope> *place, unsigned expected) {
    static_assert(sizeof *place == 8, "kernels reserve eight bytes");
    place->expected = place->pending = (unsigned short)expected;
    place->phase = 0;
}

namespace device {
template <thread_scope Scope> inline const void *barrier_native_handle(const barrier<Scope> &of) { return &of; }
} // namespace device
} // namespace cuda
