/* SPDX-License-Identifier: MIT */
/*
 * A disk's life when the next incarnation of its driver domain stands by: a twin,
 * connected to the frontend in everything but the device.  This file specifies how
 * the twin takes over.  What holds for any rebirth (shadow, fence, sequence, poison,
 * flush and FUA) is in rebirth.pml, the ring in ring.pml, the ordinary handshake in
 * xenbus.pml.
 *
 * The parts
 *   Queue      the frontend's data path
 *   Connector  the frontend's other thread: offers, takes over, replays, poisons
 *   Backend    one process an incarnation; two may live at once
 *   Device     does what was submitted, late, in any order, for the dead as well
 *   Toolstack  makes incarnations, plans an end, kills whom a frontend calls a liar
 *   Death      of whomever, at any step, DEATHS times, a liar's included
 * Nobody waits for the toolstack but for a new incarnation.
 *
 * The rules
 *  1. One ring.  The ring's pages are the frontend's and are the same in every
 *     connection.  The spare has them mapped while the one before still uses them.
 *  2. Two keys.  A connection that was made as a standby looks at the ring when it has
 *     the device *and* its doorbell has rung, in either order.  It stays a standby
 *     connection when the device comes before the handshake is done.
 *  3. The first key is the fence: a device has one owner, and the next one gets it when
 *     nothing that the owners before have submitted can reach it any more.
 *  4. The second key is the frontend's: it rings when the ring is made anew, always,
 *     also with nothing on it.  Replay and ringing need no order.
 *  5. Making anew.  The ring is made anew only when the one before cannot write it any
 *     more: it is known to be dead, or has said that it let go of the ring.  That the
 *     frontend broke the connection, or has closed it, is not enough: it takes nothing
 *     more from the ring, and waits.
 *  6. Taking over.  The frontend goes to a twin that is armed or better.  Without one
 *     it goes to the oldest incarnation that may live, in the ordinary way: the ring
 *     is made anew before it is offered.  It never goes back to an older one.
 *  7. What is replayed may be on the ring before the fence is behind.  Poison, and
 *     whatever else gives a request back unanswered, waits for the twin to say
 *     Connected: only then the fence is known to be behind.
 *  8. A death counts against what was on the ring, whether or not it had been looked at:
 *     the frontend cannot know.
 *  9. Planned end.  From Closing on the frontend puts nothing new on the ring, and says
 *     Closed when all that is on it is answered and believed.  The backend serves until
 *     then, lets go of the ring, says so, and ends.  Nothing is replayed, no death is
 *     counted.  Should it die before, rules 5 and 7 hold as ever.
 * 10. One in line.  A new spare is made only when the one before it has the device:
 *     of two who wait for one lock either may get it.
 *
 * A request is a write to the block of its slot, and is numbered in the order of issue;
 * a block holds the number of the request that wrote it last.  What is taken from the
 * ring is blanked, so that taking it again is found.  Copying and submitting are one
 * step, since what dies between them has done nothing that others see.
 *
 * Checked: each request is given back exactly once; the device touches no block and no
 * buffer of a request that was given back, and writes nothing older over something
 * newer; what is acknowledged is on the device; an honest backend never finds a ring
 * that cannot be true, and is never taken for a liar; a planned end replays nothing;
 * every run ends, and then everything is given back.
 *
 * Controls, each of which must fail:
 *   NO_FENCE            the device comes when its owner is dead, its I/O or not.  (Here
 *                       the device copies at submission: not a buffer but a stale
 *                       block is found)
 *   REPLAY_FIRST        what is replayed does not wait for the device, the rest does
 *   FREE_AT_SUBMIT      the shadow forgets a request when it has been sent
 *   NO_DOORBELL_KEY     the device alone starts an armed queue
 *   LATE_IS_ORDINARY    so it does where it comes before the queue is armed
 *   RESET_BEFORE_DEATH  a broken connection is left for the twin at once
 *   CLOSE_AND_GO        a closed one is, before the backend has let go
 *   QUIET_SENDS         new requests are put on the ring while it is to run empty
 *   EAGER_SPARE         a new spare waits for the device beside the one before
 *   NO_SEQUENCE         an answer settles whatever is in its slot
 *   POISON_EARLY        the K-th death is enough, its fence is not waited for
 */
#ifndef REQUESTS
#define REQUESTS 3
#endif
#ifndef DEATHS
#define DEATHS   2
#endif
#define K        2
#define SLOTS    2
#define LAST     4 /* incarnations: deaths, a planned restart, and one that lives */

mtype = { unborn, waiting, armed, handed, connected }; /* an incarnation, to one frontend */
mtype = { none, pending, done };                       /* an operation of the device      */

/* -------------------------------------------------------------------- the guest */
byte issued = 0, given = 0;

/* ----------------------------------------------------------------- the frontend */
typedef Shadow {
    byte req;                  /* 0: the slot is free                             */
    byte sent;                 /* to which incarnation last; 0: not since its death */
    byte deaths
};
Shadow shadow[SLOTS];
byte link = 0;                 /* the incarnation that it is connected to         */
bool open = false;             /* requests may be put on the ring                 */
bool rung = false;             /* the doorbell, since the ring was made anew      */
bool broken = false;           /* what came from link cannot be true              */
byte seen = 0;                 /* answers that it took from the ring              */

/* -------------------------------------------------------------- the ring's pages */
typedef Entry {
    byte slot, req, to
};
Entry request[SLOTS], answer[SLOTS];
byte requests = 0, answers = 0; /* producer indices                               */

/* ------------------------------------------------ the store, and the hypervisor */
typedef Domain {
    mtype said = unborn;       /* its last state, which outlives it               */
    bool gone;                 /* killed, or it has ended                         */
    bool standby;              /* it was made while another served                */
    bool offered;              /* by the frontend: pool, ring, channels           */
    bool bell;                 /* the doorbell was rung                           */
    bool device;
    bool closing;              /* planned: it was told to end                     */
    bool closed;               /* by the frontend: nothing of it is on the ring   */
    bool let_go;               /* it looks at the ring no more                    */
    byte taken, put            /* its private indices                             */
};
Domain dom[LAST + 1];
byte newest = 0;
byte deaths = 0;
bool planned = false;

typedef Operation {
    mtype state = none;
    byte req, to
};
Operation device[10];          /* (LAST + 1) * SLOTS                              */
byte cache[SLOTS];

#define PLACE(i, s) ((i) * SLOTS + (s))
#define LIVES(i)    (dom[i].said != unborn && !dom[i].gone)
#define IDLE(i)     (device[PLACE(i, 0)].state != pending && device[PLACE(i, 1)].state != pending)
#ifdef NO_FENCE
#define FREE(i) (!dom[i].device)
#define COPIES true
#else
#define FREE(i) (!dom[i].device && IDLE(i))
#define COPIES false
#endif
#define PASSES(me, i) ((me) == (i) || FREE(i))
#define FENCED(me)    (PASSES(me, 1) && PASSES(me, 2) && PASSES(me, 3) && PASSES(me, 4))

#ifdef NO_DOORBELL_KEY
#define BELL(me) true
#else
#define BELL(me) (dom[me].bell || !dom[me].standby)
#endif
#define TOLD(i)    (dom[i].said == handed || dom[i].said == connected)
#define SERVES(me) (LIVES(me) && TOLD(me) && BELL(me) && !dom[me].let_go)
#ifdef REPLAY_FIRST
#define LOOKS(me) (SERVES(me) || (LIVES(me) && dom[me].said == armed && BELL(me) && \
                   shadow[request[dom[me].taken % SLOTS].slot].deaths > 0))
#else
#define LOOKS(me) SERVES(me)
#endif

/* What is of no importance any more is one state, not many. */
inline forget_domain(i)
{
    dom[i].said = connected;
    dom[i].offered = false;
    dom[i].closing = false;
    dom[i].closed = false;
    dom[i].let_go = false
}

inline blank(entry)
{
    entry.slot = 0;
    entry.req = 0;
    entry.to = 0
}

inline clear(s)
{
    shadow[s].req = 0;
    shadow[s].sent = 0;
    shadow[s].deaths = 0
}

inline send(s)
{
    shadow[s].sent = link;
    request[requests % SLOTS].slot = s;
    request[requests % SLOTS].req = shadow[s].req;
    request[requests % SLOTS].to = link;
    requests++
}

/* The guest has its request back; what it may rely on now is true. */
inline give_back(s, success)
{
    assert(shadow[s].req != 0);
    if
    :: success ->
        assert(cache[s] == shadow[s].req)
    :: else -> skip
    fi;
    given++;
    clear(s)
}

#ifdef QUIET_SENDS
#define MAY_SEND (open && !broken)
#else
#define MAY_SEND (open && !broken && !dom[link].closing && !dom[link].closed)
#endif

inline issue(s)
{
    issued++;
    shadow[s].req = issued;
    if
    :: MAY_SEND -> send(s)
    :: else -> skip /* the replay sends it */
    fi
}

active proctype Queue()
{
    byte slot, req = 0, to, from; /* an answer that was taken, and not yet believed */
end:
    do
    :: atomic { issued < REQUESTS && shadow[0].req == 0 -> issue(0) }
    :: atomic { issued < REQUESTS && shadow[0].req != 0 && shadow[1].req == 0 -> issue(1) }
    :: atomic {
        req == 0 && link != 0 && !broken && seen != answers ->
        slot = answer[seen % SLOTS].slot;
        req = answer[seen % SLOTS].req;
        to = answer[seen % SLOTS].to;
        from = link;
        blank(answer[seen % SLOTS]);
        seen++
       }
    :: atomic {
        req != 0 ->
        if
#ifdef NO_SEQUENCE
        :: true -> give_back(slot, true)
#else
        :: shadow[slot].req == req && shadow[slot].sent == to -> give_back(slot, true)
        :: else -> assert(from != link) /* only the dead speak out of turn */
#endif
        fi;
        slot = 0;
        req = 0;
        to = 0;
        from = 0
       }
    od
}

#ifdef RESET_BEFORE_DEATH
#define LEFT (link == 0 || dom[link].gone || broken || dom[link].let_go)
#else
#ifdef CLOSE_AND_GO
#define LEFT (link == 0 || dom[link].gone || dom[link].closed)
#else
#define LEFT (link == 0 || dom[link].gone || dom[link].let_go)
#endif
#endif
#define READY(t)    (t > link && dom[t].offered && (dom[t].said == armed || TOLD(t)))
#define FRESH(t)    (t > link && dom[t].said == waiting && !dom[t].offered)
#define HOPELESS(t) (t <= link || !dom[t].offered || dom[t].gone)
#define PASSED(u, t) (u >= t || u <= link || dom[u].gone)
#define OLDEST(t) (PASSED(1, t) && PASSED(2, t) && PASSED(3, t))

inline disconnect(s)
{
    if
    :: link != 0 && shadow[s].sent == link ->
        assert(!dom[link].closed); /* a planned end replays nothing */
#ifdef FREE_AT_SUBMIT
        clear(s);
#endif
        shadow[s].sent = 0;
        shadow[s].deaths++
    :: else -> skip
    fi
}

/* The ring, for the incarnation t. */
inline make_anew(t, now_open)
{
    disconnect(0);
    disconnect(1);
    blank(request[0]);
    blank(request[1]);
    blank(answer[0]);
    blank(answer[1]);
    requests = 0;
    answers = 0;
    seen = 0;
    broken = false;
    rung = false;
    open = now_open;
    link = t;
    if
    :: t > 1 && dom[1].gone -> forget_domain(1)
    :: else -> skip
    fi;
    if
    :: t > 2 && dom[2].gone -> forget_domain(2)
    :: else -> skip
    fi;
    if
    :: t > 3 && dom[3].gone -> forget_domain(3)
    :: else -> skip
    fi
}

#define WAITS(s) (MAY_SEND && shadow[s].req != 0 && shadow[s].sent == 0)
#ifdef POISON_EARLY
#define BEHIND true
#else
#define BEHIND (dom[link].said == connected)
#endif

inline replay(s)
{
    if
    :: shadow[s].deaths >= K -> give_back(s, false)
    :: else -> send(s)
    fi
}

#define NOTHING_ON(t) (shadow[0].sent != t && shadow[1].sent != t)
#define NO_TWIN (HOPELESS(1) && HOPELESS(2) && HOPELESS(3) && HOPELESS(4))
#define TAKE_OVER(t) atomic { LEFT && READY(t) -> make_anew(t, true) }
#define OFFER(t) atomic { link != 0 && !LEFT && FRESH(t) -> dom[t].offered = true }
#define COLD(t) atomic { \
    LEFT && FRESH(t) && OLDEST(t) && NO_TWIN -> make_anew(t, false); dom[t].offered = true }
#define CLOSE(t) atomic { \
    LIVES(t) && dom[t].closing && dom[t].offered && !dom[t].closed && !broken && NOTHING_ON(t) -> \
    dom[t].closed = true }

active proctype Connector()
{
end:
    do
    :: TAKE_OVER(2)
    :: TAKE_OVER(3)
    :: TAKE_OVER(4)
    :: OFFER(2)
    :: OFFER(3)
    :: OFFER(4)
    :: COLD(1)
    :: COLD(2)
    :: COLD(3)
    :: COLD(4)
    :: atomic { link != 0 && !open && dom[link].said == connected -> open = true }
    :: atomic { link != 0 && open && !rung -> rung = true; dom[link].bell = true }
    :: atomic { WAITS(0) && (shadow[0].deaths < K || BEHIND) -> replay(0) }
    :: atomic { WAITS(1) && (shadow[1].deaths < K || BEHIND) -> replay(1) }
    :: atomic { link != 0 && open && !broken && deaths < DEATHS && LIVES(link) -> deaths++; broken = true }
    :: CLOSE(1)
    :: CLOSE(2)
    :: CLOSE(3)
    od
}

#define DONE(me, s) (device[PLACE(me, s)].state == done)

inline forget(i)
{
    device[i].state = none;
    device[i].req = 0;
    device[i].to = 0
}

inline unheard(i)
{
    if
    :: device[i].state == done -> forget(i)
    :: else -> skip
    fi
}

inline die(i)
{
    dom[i].gone = true;
    dom[i].device = false;
    dom[i].taken = 0;
    dom[i].put = 0;
    dom[i].bell = false;
    dom[i].standby = false;
    if
    :: i < link -> forget_domain(i)
    :: else -> skip
    fi;
    unheard(PLACE(i, 0));
    unheard(PLACE(i, 1))
}

#define FIRST(me) request[dom[me].taken % SLOTS]

inline publish(me, s)
{
    LIVES(me) && DONE(me, s) && !dom[me].let_go ->
    answer[dom[me].put % SLOTS].slot = s;
    answer[dom[me].put % SLOTS].req = device[PLACE(me, s)].req;
    answer[dom[me].put % SLOTS].to = device[PLACE(me, s)].to;
    dom[me].put++;
    answers = dom[me].put;
    forget(PLACE(me, s))
}

/* Death may come between any two steps. */
proctype Backend(byte me)
{
end:
    do
    :: atomic {
        LIVES(me) && !dom[me].device && FENCED(me) ->
        dom[me].device = true;
#ifdef LATE_IS_ORDINARY
        dom[me].standby = dom[me].standby && dom[me].said != waiting
#endif
       }
    :: atomic { LIVES(me) && dom[me].said == waiting && dom[me].offered -> dom[me].said = armed }
    :: atomic { LIVES(me) && dom[me].said == armed && dom[me].device -> dom[me].said = handed }
    :: atomic { LIVES(me) && dom[me].said == handed -> dom[me].said = connected }
    :: atomic { /* copy and submit */
        LOOKS(me) && dom[me].taken != requests && device[PLACE(me, FIRST(me).slot)].state == none ->
        assert(requests - dom[me].taken <= SLOTS && requests > dom[me].taken && FIRST(me).req != 0);
        device[PLACE(me, FIRST(me).slot)].req = FIRST(me).req;
        device[PLACE(me, FIRST(me).slot)].to = FIRST(me).to;
        device[PLACE(me, FIRST(me).slot)].state = pending;
        blank(request[dom[me].taken % SLOTS]);
        dom[me].taken++
       }
    :: atomic { publish(me, 0) }
    :: atomic { publish(me, 1) }
    :: atomic { LIVES(me) && dom[me].closing && dom[me].closed && !dom[me].let_go -> dom[me].let_go = true }
    :: atomic { LIVES(me) && dom[me].let_go -> die(me) }
    :: atomic { LIVES(me) && dom[me].closing && !dom[me].offered -> die(me) } /* nobody to wait for */
    od
}

#define SLOT(i) ((i) % SLOTS)
#define OWNER(i) ((i) / SLOTS)
#define HELD(i) (shadow[SLOT(i)].req == device[i].req)

inline perform(i)
{
    device[i].state == pending ->
    assert(COPIES || HELD(i)); /* from a buffer that the guest has back */
    assert(device[i].req >= cache[SLOT(i)]); /* a stale block */
    cache[SLOT(i)] = device[i].req;
    if
    :: LIVES(OWNER(i)) -> device[i].state = done
    :: else -> forget(i) /* nobody is there to hear of it */
    fi
}

active proctype Device()
{
end:
    do
    :: atomic { perform(2) }
    :: atomic { perform(3) }
    :: atomic { perform(4) }
    :: atomic { perform(5) }
    :: atomic { perform(6) }
    :: atomic { perform(7) }
    :: atomic { perform(8) }
    :: atomic { perform(9) }
    od
}

active proctype Death()
{
    do
    :: atomic { deaths < DEATHS && LIVES(1) -> deaths++; die(1) }
    :: atomic { deaths < DEATHS && LIVES(2) -> deaths++; die(2) }
    :: atomic { deaths < DEATHS && LIVES(3) -> deaths++; die(3) }
    :: atomic { deaths < DEATHS && LIVES(4) -> deaths++; die(4) }
    :: break
    od
}

#ifdef EAGER_SPARE
#define ALONE (newest > 1 && dom[newest - 1].gone)
#else
#define ALONE dom[newest].device
#endif
#define SPARE_WANTED (newest == 0 || dom[newest].gone || dom[newest].device || ALONE)
#define SERVED(i) (LIVES(i) && dom[i].device)
#define BEFORE(i) (LIVES(i) && newest != (i))

active proctype Toolstack()
{
end:
    do
    :: atomic {
        newest < LAST && SPARE_WANTED ->
        newest++;
        dom[newest].said = waiting;
        dom[newest].standby = BEFORE(1) || BEFORE(2) || BEFORE(3)
       }
    :: atomic { !planned && SERVED(1) -> planned = true; dom[1].closing = true }
    :: atomic { !planned && SERVED(2) -> planned = true; dom[2].closing = true }
    :: atomic { !planned && SERVED(3) -> planned = true; dom[3].closing = true }
    :: atomic { broken && LIVES(link) -> die(link) }
    od
}

init {
    atomic { run Backend(1); run Backend(2); run Backend(3); run Backend(4) }
}

/* Nobody has anything to do any more. */
active proctype End()
{
    timeout ->
    assert(issued == REQUESTS && given == REQUESTS);
    assert(shadow[0].req == 0 && shadow[1].req == 0)
}
