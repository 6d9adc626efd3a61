/* SPDX-License-Identifier: MIT */
/*
 * The handshake of hyp-shim/xenbus.h while backends die and are born again at
 * any point.  A backend is a new domain each time (its number is never used
 * again); the toolstack removes the dead one's directory, makes a new one and
 * changes F/backend-id, in one transaction.  The frontend moves its pool to
 * the new domain and starts again.
 *
 * The store does one thing after the other; a watch is a flag that says "look
 * at everything again".  A reference to the pool is the number of the domain
 * to which it was granted when it was published: hyp_pool_regrant() changes
 * all references.  A ring reference and a port are two nodes, so that a
 * backend can read an old one and a new one together.
 *
 * Checked: no backend ever maps a ring, or binds a port, of an older
 * incarnation; every run ends (no cycle is reachable, deaths being finite); and
 * wherever it ends, both sides are connected with each other.
 *
 * Controls, each of which must fail:
 *   NO_GRANT_CHECK  whoever knows a reference can map it
 *   NO_RESET        the frontend does not start again for a new backend
 *   GIVE_UP         a backend that reads stale references closes for good
 *   LATE_CLEAR      the watch is cleared after looking
 *   NO_WATCH_ID     the frontend does not watch F/backend-id
 */
#define DEATHS 2
#define LAST   (DEATHS + 1)

#define GONE        0
#define INITIALISING 1
#define INIT_WAIT   2
#define INITIALISED 3
#define CONNECTED   4
#define CLOSED      6

/* the store */
byte f_state = INITIALISING, f_ring, f_port, f_backend_id = 1;
byte b_state[LAST + 1];
bool f_watch = true;           /* the frontend has something to look at      */
bool b_watch[LAST + 1];

/* the hypervisor */
bool dead[LAST + 1];
byte granted = 0;              /* the domain to which the pool is granted    */
byte mapped[LAST + 1];         /* the reference that each domain has mapped  */
byte deaths = 0;

#define NOW f_backend_id
#define WELL (f_state == CONNECTED && b_state[NOW] == CONNECTED && granted == NOW && \
              mapped[NOW] == NOW && !dead[NOW])

/* Writes by the frontend wake the backend that watches, and the other way round. */
#define F_WRITE(node, value) atomic { node = value; b_watch[NOW] = true }
#define B_WRITE(me, value)   atomic { b_state[me] = value; f_watch = true }

#ifdef LATE_CLEAR
#define LOOK_BEGIN(flag) flag
#define LOOK_END(flag)   flag = false
#else
#define LOOK_BEGIN(flag) flag -> flag = false
#define LOOK_END(flag)   skip
#endif

#ifdef NO_GRANT_CHECK
#define MAY(me, ref) true
#else
#define MAY(me, ref) (granted == me && ref == me)
#endif

proctype Backend(byte me)
{
    byte front, ring;
    {
        B_WRITE(me, INIT_WAIT);
end:
        do
        :: atomic { LOOK_BEGIN(b_watch[me]); front = f_state }
            if
            :: front == INITIALISED && b_state[me] == INIT_WAIT ->
                ring = f_ring;
                atomic { /* maps the ring, reads the port and binds it */
                    if
                    :: MAY(me, ring) && MAY(me, f_port) ->
                        assert(ring == me && f_port == me);
                        mapped[me] = ring
                    :: else -> skip
                    fi;
                    front = 0;
                    ring = 0
                };
                if
                :: mapped[me] -> B_WRITE(me, CONNECTED)
#ifdef GIVE_UP
                :: else -> B_WRITE(me, CLOSED)
#else
                :: else -> skip /* stale: the frontend will write again */
#endif
                fi
            :: else -> front = 0
            fi;
            LOOK_END(b_watch[me])
        od
    } unless { dead[me] }
}

active proctype Frontend()
{
    byte be = 0, id, back;
end:
    do
    :: atomic { LOOK_BEGIN(f_watch); id = f_backend_id }
        if
#ifdef NO_WATCH_ID
        :: id != be && be == 0 ->
#else
        :: id != be ->
#endif
#ifdef NO_RESET
            if
            :: be == 0 -> F_WRITE(f_state, INITIALISING)
            :: else -> skip
            fi;
#else
            F_WRITE(f_state, INITIALISING);
#endif
            atomic { /* hyp_pool_create() or hyp_pool_regrant() */
                if
                :: !dead[id] && (be == 0 || dead[be]) -> granted = id; be = id
                :: else -> skip /* another id is on its way */
                fi
            }
        :: else -> skip
        fi;
        if
        :: atomic { be == id -> back = b_state[be] }
            if
            :: f_state == INITIALISING && back == INIT_WAIT ->
                F_WRITE(f_ring, granted);
                F_WRITE(f_port, granted);
                F_WRITE(f_state, INITIALISED)
            :: f_state == INITIALISED && back == CONNECTED ->
                F_WRITE(f_state, CONNECTED)
            :: else -> skip
            fi
        :: else -> skip
        fi;
        atomic { LOOK_END(f_watch); id = 0; back = 0 }
    od
}

active proctype Death()
{
    do
    :: atomic { deaths < DEATHS && !dead[NOW] -> dead[NOW] = true; mapped[NOW] = 0; deaths++ }
    :: break
    od
}

active proctype Toolstack()
{
    atomic { b_state[1] = INITIALISING; b_watch[1] = true; run Backend(1) }
end:
    do
    :: atomic {
        dead[NOW] ->
        b_state[NOW] = GONE;
        b_state[NOW + 1] = INITIALISING;
        f_backend_id = NOW + 1;
        b_watch[NOW] = true;
#ifdef NO_WATCH_ID
        skip;
#else
        f_watch = true;
#endif
        run Backend(NOW)
       }
    od
}

/* Nobody has anything to do any more. */
active proctype End()
{
    timeout -> assert(WELL)
}
