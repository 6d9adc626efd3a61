/* SPDX-License-Identifier: MIT */
/*
 * A disk's life through the deaths of its driver domains: fence, replay and poison.
 * This file is their specification.  How both sides find each other again is in
 * xenbus.pml, the ring itself in ring.pml.
 *
 * The parts
 *   Queue      the frontend's data path: puts requests, believes answers
 *   Connector  the frontend's other thread: connects anew, replays, poisons
 *   Backend    the driver domain, in whichever incarnation it is
 *   Device     does what was submitted to it, late and in any order, and also
 *              when its submitter is dead
 *   Toolstack  starts the next incarnation
 *   Death      at any step, DEATHS times
 *
 * The rules
 * 1. Shadow.  A request stays in the frontend's private memory, with its buffer, until
 *    it is given back to the guest.  It is put into shadow and ring in one step as far
 *    as a replay can see.
 * 2. Fence.  An incarnation says Connected to a frontend only when nothing of any
 *    older one can reach the device or a granted buffer any more; what comes before in
 *    the handshake may go on meanwhile.  One that dies in the fence leaves the next
 *    one the same fence to wait for.
 * 3. A new connection is a new, empty ring.  What the dead one has answered and nobody
 *    has believed yet is forgotten: its requests are replayed.
 * 4. Replay.  All that is in the shadow and was not sent in this connection is sent,
 *    once.  New requests need not wait for that.  It is harmless that the device has
 *    done a request before: it is not given back, so nothing newer depends on what it
 *    has overwritten.
 * 5. Sequence.  Each sending has an id of its own.  An answer settles a request only
 *    when its id is that of the last sending.  Settling and sending again exclude each
 *    other, a slot at a time: one of them finds the other done.
 * 6. Given back once, for good.  With whatever result, a request is given back only
 *    when nothing can touch its block or its buffer any more: the device has done it,
 *    or the fence is behind it.
 * 7. Poison.  A request that was sent in K connections which all ended in a death is
 *    failed instead of sent again: after the fence of the K-th, never when that death
 *    is seen.  Its block then holds what it held before or what the request wrote,
 *    whole or in part, as after any failed write; and no longer changes.  A death in
 *    fence or handshake does not count, nothing having been sent.
 * 8. A time limit, or a disk that is closed, fails requests likewise after the fence,
 *    or else keeps their buffers until then.
 *
 * Order.  As on any disk, requests that are in flight together have no order, a replay
 * or not, on one queue or on several; a guest that wants one waits.  So nothing has to
 * be in order in a replay.  (Frontends use the order of issue, which is as good as
 * any.)  What follows:
 * - Write, zeroes: after it is given back with success no older content of the block
 *   comes back.  A guest that has two in flight to one block may find either, and
 *   through a rebirth first the one, then the other, until both are given back.
 * - Discard: a write of unknown content, in everything.  It is replayed too: the guest
 *   may read what it has asked to be dropped until it is given back, not afterwards.
 * - Flush: what was given back before it was issued is durable when it is given back,
 *   also what an older incarnation wrote.  Replayed, it is done anew and whole: that
 *   the dead one may have done it proves nothing to us.  Writes need no new flush for
 *   a death: what is given back is in the device's cache, which survives the driver
 *   domain.  A device whose cache does not (one that must be reset, whose reset drops
 *   it) must write through or not be reborn at all.
 * - FUA: the flag is a part of the request, and sent again with it.  Where it is made
 *   of a write and a flush, both are one request: the shadow keeps the whole of it,
 *   and a replay begins with the write.
 * - Read: replayed as any other.  Rule 6 is about its buffer.
 *
 * Blocks are numbered, and so are requests, in the order of their issue: a block holds
 * the number of the request that wrote it last.  The guest has no two writes to one
 * block in flight.  Two slots, two blocks.
 *
 * Checked: each request is given back exactly once; nothing older is ever written over
 * something newer; the device touches no block and no buffer of a request that was
 * given back; what is acknowledged is on the device; a flush and a FUA are durable; an
 * honest driver domain is never taken for a liar; every run ends (no cycle is
 * reachable, deaths being finite), and then everything is given back.
 *
 * Controls, each of which must fail:
 *   NO_FENCE        an incarnation begins at once.  (Here the device copies at
 *                   submission, so that not a buffer but a stale block is found)
 *   REPLAY_FIRST    what is replayed does not wait for the fence, the rest does
 *   FREE_AT_SUBMIT  the shadow forgets a request when it has been sent
 *   NO_SEQUENCE     an answer settles whatever is in its slot
 *   ANSWER_EARLY    the backend answers when it has submitted
 *   POISON_EARLY    the K-th death is enough, its fence is not waited for
 *   NO_RESEND_FUA   a replay loses the flag
 *   CACHE_DIES      the device's cache does not survive the driver domain
 */
#ifndef REQUESTS
#define REQUESTS 3
#endif
#ifndef DEATHS
#define DEATHS   3
#endif
#define K        3
#define SLOTS    2
#define BLOCKS   2
#define PLACES   8 /* SLOTS * (DEATHS + 1) */

mtype = { read, write, fua, flush };           /* what is asked for            */
mtype = { none, pending, done };               /* an operation of the device   */
mtype = { fencing, ready, serving };           /* an incarnation               */

/* -------------------------------------------------------------------- the guest */
byte issued = 0, given = 0;
byte acked[BLOCKS];            /* the last write that was given back with success */

/* ----------------------------------------------------------------- the frontend */
typedef Shadow {
    byte req;                  /* 0: the slot is free                             */
    mtype op;
    byte block;
    byte sent;                 /* in which connection last; 0: not in this one    */
    byte deaths;               /* connections that it was sent in and that died   */
    byte covers[BLOCKS]        /* a flush: what it promises                       */
};
Shadow shadow[SLOTS];
byte link = 0;                 /* the incarnation that it is connected to         */

/* ---------------------------------------------------------------------- the ring */
chan requests = [SLOTS] of { byte, byte, mtype, byte }; /* slot, request, what, block */
chan answers  = [SLOTS] of { byte, byte, byte };        /* slot, request, connection  */

/* ----------------------------------------------- the driver domain, and its device */
byte now = 1;                  /* incarnation                                     */
bool dead = false;
byte deaths = 0;
mtype stage = fencing;
byte copied_req, copied_slot, copied_block; /* taken from the ring, not yet submitted */
mtype copied_op;
byte done_req, done_slot;                   /* done by the device, not yet answered   */

typedef Operation {
    mtype state = none;
    byte req;
    mtype op;
    byte block
};
Operation device[PLACES];      /* each incarnation's slots have places of their own */
byte cache[BLOCKS], media[BLOCKS];

#define PLACE(incarnation, slot) (((incarnation) - 1) * SLOTS + (slot))
#define IDLE(incarnation) (device[PLACE(incarnation, 0)].state != pending && \
                           device[PLACE(incarnation, 1)].state != pending)
#define BEHIND ((now <= 1 || IDLE(1)) && (now <= 2 || IDLE(2)) && (now <= 3 || IDLE(3)))

#ifdef NO_FENCE
#define FENCED true
#define COPIES true
#else
#define FENCED BEHIND
#define COPIES false
#endif
#ifdef REPLAY_FIRST
#define MAY_OFFER   true
#define MAY_SEND(s) (BEHIND || shadow[s].deaths > 0)
#else
#define MAY_OFFER   FENCED
#define MAY_SEND(s) true
#endif

#ifdef POISON_EARLY
#define LIE(connection) false /* it has seen the death */
#else
#define LIE(connection) (connection == link)
#endif

/* ------------------------------------------------------------------------- steps */

#define IS_WRITE(s)   (shadow[s].op == write || shadow[s].op == fua)
#define WRITING(s, b) (shadow[s].req != 0 && IS_WRITE(s) && shadow[s].block == (b))
#define MAY_WRITE(b)  (!WRITING(0, b) && !WRITING(1, b))

inline clear(s)
{
    shadow[s].req = 0;
    shadow[s].op = 0;
    shadow[s].block = 0;
    shadow[s].sent = 0;
    shadow[s].deaths = 0;
    shadow[s].covers[0] = 0;
    shadow[s].covers[1] = 0
}

inline send(s)
{
    shadow[s].sent = link;
    requests ! s, shadow[s].req, shadow[s].op, shadow[s].block
}

/* The guest has its request back; what it may rely on now is true. */
inline give_back(s, success)
{
    assert(shadow[s].req != 0);
    if
    :: success && IS_WRITE(s) ->
        assert(cache[shadow[s].block] == shadow[s].req);
        assert(shadow[s].op != fua || media[shadow[s].block] == shadow[s].req);
        acked[shadow[s].block] = shadow[s].req
    :: success && shadow[s].op == flush ->
        assert(media[0] >= shadow[s].covers[0] && media[1] >= shadow[s].covers[1])
    :: else -> skip
    fi;
    given++;
    clear(s)
}

inline issue(s)
{
    issued++;
    shadow[s].req = issued;
    if
    :: shadow[s].op = read
    :: MAY_WRITE(0) -> shadow[s].op = write
    :: MAY_WRITE(1) -> shadow[s].op = write; shadow[s].block = 1
    :: MAY_WRITE(0) -> shadow[s].op = fua
    :: shadow[s].op = flush; shadow[s].covers[0] = acked[0]; shadow[s].covers[1] = acked[1]
    fi;
    if
    :: link != 0 && MAY_SEND(s) -> send(s)
    :: else -> skip /* the replay sends it */
    fi
}

active proctype Queue()
{
    byte slot, req = 0, connection; /* an answer that was taken, and not yet believed */
end:
    do
    :: atomic { issued < REQUESTS && shadow[0].req == 0 -> issue(0) }
    :: atomic { issued < REQUESTS && shadow[0].req != 0 && shadow[1].req == 0 -> issue(1) }
    :: atomic { req == 0 && nempty(answers) -> answers ? slot, req, connection }
    :: atomic {
        req != 0 ->
        if
#ifdef NO_SEQUENCE
        :: true -> give_back(slot, true)
#else
        :: shadow[slot].req == req && shadow[slot].sent == connection -> give_back(slot, true)
        :: else -> assert(!LIE(connection)) /* only the dead speak out of turn */
#endif
        fi;
        slot = 0;
        req = 0;
        connection = 0
       }
    od
}

/* What was sent to the one that died. */
inline disconnect(s)
{
    if
    :: shadow[s].sent != 0 ->
#ifdef FREE_AT_SUBMIT
        clear(s);
#endif
        shadow[s].sent = 0;
        shadow[s].deaths++
    :: else -> skip
    fi
}

#define WAITS(s) (link != 0 && shadow[s].req != 0 && shadow[s].sent == 0)

inline replay(s)
{
    if
    :: shadow[s].deaths >= K -> give_back(s, false)
    :: else ->
#ifdef NO_RESEND_FUA
        if
        :: shadow[s].deaths > 0 && shadow[s].op == fua -> resent_op = write
        :: else -> resent_op = shadow[s].op
        fi;
        shadow[s].sent = link;
        requests ! s, shadow[s].req, resent_op, shadow[s].block;
        resent_op = 0
#else
        send(s)
#endif
    fi
}

active proctype Connector()
{
#ifdef NO_RESEND_FUA
    mtype resent_op;
#endif
end:
    do
    :: atomic {
        stage == ready && link != now ->
        do
        :: requests ? _, _, _, _
        :: answers ? _, _, _
        :: empty(requests) && empty(answers) -> break
        od;
        disconnect(0);
        disconnect(1);
        link = now
       }
    :: atomic { WAITS(0) && MAY_SEND(0) -> replay(0) }
    :: atomic { WAITS(1) && MAY_SEND(1) -> replay(1) }
#ifdef POISON_EARLY
    :: atomic { dead && shadow[0].sent == now && shadow[0].deaths + 1 >= K -> give_back(0, false) }
    :: atomic { dead && shadow[1].sent == now && shadow[1].deaths + 1 >= K -> give_back(1, false) }
#endif
    od
}

#define DONE(s) (device[PLACE(now, s)].state == done)

inline forget(i)
{
    device[i].state = none;
    device[i].req = 0;
    device[i].op = 0;
    device[i].block = 0
}

inline complete(s)
{
    done_slot = s;
    done_req = device[PLACE(now, s)].req;
    forget(PLACE(now, s))
}

inline copied_none()
{
    copied_slot = 0;
    copied_req = 0;
    copied_op = 0;
    copied_block = 0
}

/* Death may come between any two steps. */
active proctype Backend()
{
end:
    do
    :: atomic { !dead && stage == fencing && MAY_OFFER -> stage = ready }
    :: atomic { !dead && stage == ready && link == now -> stage = serving }
    :: atomic { /* copy */
        !dead && stage == serving && copied_req == 0 && nempty(requests) ->
        requests ? copied_slot, copied_req, copied_op, copied_block
       }
    :: atomic { /* submit */
        copied_req != 0 && device[PLACE(now, copied_slot)].state == none ->
        device[PLACE(now, copied_slot)].state = pending;
        device[PLACE(now, copied_slot)].req = copied_req;
        device[PLACE(now, copied_slot)].op = copied_op;
        device[PLACE(now, copied_slot)].block = copied_block;
#ifdef ANSWER_EARLY
        answers ! copied_slot, copied_req, now;
#endif
        copied_none()
       }
    :: atomic { !dead && done_req == 0 && DONE(0) -> complete(0) }
    :: atomic { !dead && done_req == 0 && DONE(1) -> complete(1) }
    :: atomic { /* publish */
        done_req != 0 ->
#ifndef ANSWER_EARLY
        answers ! done_slot, done_req, now;
#endif
        done_slot = 0;
        done_req = 0
       }
    od
}

#define SLOT(i)     ((i) % SLOTS)
#define OWNED_BY(i) ((i) / SLOTS + 1)
#define HELD(i)     (shadow[SLOT(i)].req == device[i].req)

inline perform(i)
{
    device[i].state == pending ->
    if
    :: device[i].op == flush ->
        media[0] = cache[0];
        media[1] = cache[1]
    :: device[i].op == read ->
        assert(COPIES || HELD(i)) /* into a buffer that the guest has back */
    :: else ->
        assert(device[i].req >= cache[device[i].block]); /* a stale block */
        assert(COPIES || HELD(i));
        cache[device[i].block] = device[i].req;
        if
        :: device[i].op == fua -> media[device[i].block] = device[i].req
        :: else -> skip
        fi
    fi;
    if
    :: OWNED_BY(i) == now && !dead -> device[i].state = done
    :: else -> forget(i) /* nobody is there to hear of it */
    fi
}

active proctype Device()
{
end:
    do
    :: atomic { perform(0) }
    :: atomic { perform(1) }
    :: atomic { perform(2) }
    :: atomic { perform(3) }
    :: atomic { perform(4) }
    :: atomic { perform(5) }
    :: atomic { perform(6) }
    :: atomic { perform(7) }
    od
}

inline unheard(i)
{
    if
    :: device[i].state == done -> forget(i)
    :: else -> skip
    fi
}

active proctype Death()
{
    do
    :: atomic {
        deaths < DEATHS && !dead ->
        dead = true;
        deaths++;
        copied_none();
        done_slot = 0;
        done_req = 0;
        unheard(PLACE(now, 0));
        unheard(PLACE(now, 1));
#ifdef CACHE_DIES
        cache[0] = media[0];
        cache[1] = media[1]
#endif
       }
    :: break
    od
}

active proctype Toolstack()
{
end:
    do
    :: atomic { dead -> dead = false; stage = fencing; now++ }
    od
}

/* Nobody has anything to do any more. */
active proctype End()
{
    timeout ->
    assert(issued == REQUESTS && given == REQUESTS);
    assert(shadow[0].req == 0 && shadow[1].req == 0);
    assert(cache[0] >= acked[0] && cache[1] >= acked[1])
}
