/* SPDX-License-Identifier: MIT */
#include "restart_guest.h"

#include <stdarg.h>
#include <stdio.h>

void guest_completed(const struct guest_life *life, uint64_t n, uint64_t *last, uint64_t now)
{
    struct guest_board *board = life->board;
    uint32_t window = __atomic_load_n(&life->shared->window, __ATOMIC_RELAXED);
    uint64_t gap = now - *last;
    *last = now;
    if (window > 0 && window < RESTART_WINDOWS && gap > board->gap_ns[window])
        board->gap_ns[window] = gap;
    __atomic_store_n(&board->progress, board->progress + n, __ATOMIC_RELEASE);
}

enum guest_order guest_order(const struct guest_life *life)
{
    return (enum guest_order)__atomic_load_n(&life->board->order, __ATOMIC_ACQUIRE);
}

void guest_says(const struct guest_life *life, enum guest_state state)
{
    __atomic_store_n(&life->board->state, state, __ATOMIC_RELEASE);
}

void guest_damaged(const struct guest_life *life, const char *format, ...)
{
    struct guest_board *board = life->board;
    va_list ap;
    if (board->damage[0])
        return;
    va_start(ap, format);
    vsnprintf(board->damage, sizeof(board->damage), format, ap);
    va_end(ap);
}
