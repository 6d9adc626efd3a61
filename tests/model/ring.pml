/* SPDX-License-Identifier: MIT */
/*
 * The sleep and wake-up protocol of hyp-shim/ring.h, both directions at once.
 *
 * Each side is a processor of its own with a store buffer: what it stores is
 * seen by the other side later, in order, at any time; its loads do not wait
 * for its stores (x86; and what a release store and an acquire load leave
 * open elsewhere).  ring_full_barrier() waits until the buffer is empty.
 *
 * Indices wrap at MOD, which stands for 2^32.  The frontend never stops for
 * good, so a state in which nobody can move is a lost wake-up: spin reports it
 * as an invalid end state.  A side that sees an index which cannot be true
 * violates an assertion.
 *
 * Controls, each of which must fail:
 *   NO_PUSH_BARRIER  ring_*_push() reads the event index without a barrier
 *   NO_IDLE_BARRIER  ring_*_idle() looks once more without a barrier
 *   NO_LAST_LOOK     ring_*_idle() does not look once more
 *   LATE_CLEAR       the doorbell is cleared after the last look at the ring
 *   LATE_EVENT       the wake-up is asked for one index too late
 */
#define SIZE 2
#define MOD  5
#define DIST(a, b) (((a) + MOD - (b)) % MOD)
#define NEXT(a)    (((a) + 1) % MOD)

/* ring_passed() */
#define PASSED(now, before, event) (DIST(now, event) < DIST(now, before))

#define REQ_PROD  0
#define REQ_EVENT 1
#define RSP_PROD  2
#define RSP_EVENT 3

byte mem[4];                               /* the shared header              */
chan front_buf = [2] of { byte, byte };    /* store buffers                  */
chan back_buf  = [2] of { byte, byte };
bool front_bell, back_bell;                /* a pipe with something in it    */

proctype Drain(chan buf)
{
    byte var, val;
end:
    do
    :: atomic { buf ? var, val -> mem[var] = val }
    od
}

#define BARRIER(buf) (empty(buf))

#ifdef NO_PUSH_BARRIER
#define PUSH_BARRIER(buf) skip
#else
#define PUSH_BARRIER(buf) BARRIER(buf)
#endif
#ifdef NO_IDLE_BARRIER
#define IDLE_BARRIER(buf) skip
#else
#define IDLE_BARRIER(buf) BARRIER(buf)
#endif
#ifdef LATE_EVENT
#define WAKE_AT(cons) NEXT(NEXT(cons))
#else
#define WAKE_AT(cons) NEXT(cons)
#endif

/* Waits for the doorbell and forgets it; then the caller looks at the ring. */
#ifdef LATE_CLEAR
#define SLEEP(bell) bell = false; bell
#else
#define SLEEP(bell) atomic { bell -> bell = false }
#endif

/* Stores an index, then says whether to ring. */
inline push(buf, prod_var, event_var, prod, pushed, bell)
{
    if
    :: prod == pushed -> skip
    :: else ->
        buf ! prod_var, prod;
        PUSH_BARRIER(buf);
        if
        :: PASSED(prod, pushed, mem[event_var]) -> bell = true
        :: else -> skip
        fi;
        pushed = prod
    fi
}

active proctype Front()
{
    byte req_prod = 0, req_pushed = 0, rsp_cons = 0;
    do
    :: /* put some, push them */
       DIST(req_prod, rsp_cons) < SIZE ->
        if
        :: req_prod = NEXT(req_prod)
        :: DIST(req_prod, rsp_cons) == 0 -> req_prod = (req_prod + 2) % MOD
        fi;
        push(front_buf, REQ_PROD, REQ_EVENT, req_prod, req_pushed, back_bell)
    :: /* take what is there */
       atomic {
        mem[RSP_PROD] != rsp_cons ->
        assert(DIST(mem[RSP_PROD], rsp_cons) <= DIST(req_pushed, rsp_cons));
        rsp_cons = NEXT(rsp_cons)
       }
    :: /* sleep, though only with a request in flight */
       req_pushed != rsp_cons && mem[RSP_PROD] == rsp_cons ->
        front_buf ! RSP_EVENT, WAKE_AT(rsp_cons);
        IDLE_BARRIER(front_buf);
#ifndef NO_LAST_LOOK
        if
        :: mem[RSP_PROD] != rsp_cons -> skip
        :: else ->
#endif
            SLEEP(front_bell)
#ifndef NO_LAST_LOOK
        fi
#endif
    od
}

active proctype Back()
{
    byte req_cons = 0, rsp_prod = 0, rsp_pushed = 0;
    do
    :: atomic {
        mem[REQ_PROD] != req_cons ->
        assert(DIST(mem[REQ_PROD], rsp_prod) <= SIZE);
        req_cons = NEXT(req_cons);
        rsp_prod = NEXT(rsp_prod)
       };
        if
        :: true -> push(back_buf, RSP_PROD, RSP_EVENT, rsp_prod, rsp_pushed, front_bell)
        :: true -> skip /* more to come, push later */
        fi
    :: mem[REQ_PROD] == req_cons ->
        push(back_buf, RSP_PROD, RSP_EVENT, rsp_prod, rsp_pushed, front_bell);
        back_buf ! REQ_EVENT, WAKE_AT(req_cons);
        IDLE_BARRIER(back_buf);
#ifndef NO_LAST_LOOK
        if
        :: mem[REQ_PROD] != req_cons -> skip
        :: else ->
#endif
            SLEEP(back_bell)
#ifndef NO_LAST_LOOK
        fi
#endif
    od
}

init {
    mem[REQ_EVENT] = 1;
    mem[RSP_EVENT] = 1;
    atomic { run Drain(front_buf); run Drain(back_buf) }
}
