/* SPDX-License-Identifier: MIT */
#include "testpmd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "cputime.h"
#include "load.h"
#include "program.h"

#define PROGRAM     "dpdk-testpmd"
#define PROMPT      "testpmd> "
#define ARGS_MAX    48u
#define TEXT_MAX    (64u << 10) /* of its output; what comes later is read and lost */
#define START_MS    20000
#define FLOW_MS      50    /* between two looks at whether packets come          */
#define FLOW_PACKETS 100000
#define END_MS      10000
#define STEP_MS     10
#define DIRECTORY   "/tmp/bulkhead-bench-peer.XXXXXX"
#define MBUFS       8192u
#define MBUF_USUAL  2176u       /* testpmd's own: 2 KiB of data and headroom         */
#define HEADROOM    128u

struct testpmd {
    pid_t pid; /* 0: none */
    int in, out;
    char *text;
    size_t length;
};

const char *testpmd_name(enum testpmd_kind kind)
{
    return kind == TESTPMD_MEMIF ? "memif" : "vhost";
}

bool testpmd_there(char *why, size_t why_bytes)
{
    bool found = program_there(PROGRAM);
    if (!found)
        snprintf(why, why_bytes, PROGRAM " is not installed; it is in the package dpdk-dev");
    return found;
}

/* -------------------------------------------------------- what it has to say */

static bool number_after(const char *text, const char *end, const char *word, uint64_t *out)
{
    const char *at = strstr(text, word);
    if (!at || at >= end)
        return false;
    at += strlen(word);
    at += strspn(at, " ");
    char *stop;
    errno = 0;
    *out = strtoull(at, &stop, 10);
    return stop != at && !errno && *at != '-';
}

unsigned testpmd_parse(const char *text, struct testpmd_stats *last)
{
    static const char title[] = "NIC statistics for port";
    unsigned n = 0;
    for (const char *at = strstr(text, title); at;) {
        const char *next = strstr(at + 1, title);
        const char *end = next ? next : at + strlen(at);
        struct testpmd_stats s;
        if (number_after(at, end, "RX-packets:", &s.packets) &&
            number_after(at, end, "RX-bytes:", &s.bytes) &&
            number_after(at, end, "Rx-pps:", &s.packets_s)) {
            *last = s;
            n++;
        }
        at = next;
    }
    return n;
}

/* ----------------------------------------------------------------- processes */

/* A command line in the making. */
struct command {
    char *argv[ARGS_MAX];
    unsigned n;
    char text[2048];
    size_t used;
};

__attribute__((format(printf, 2, 3)))
static void add(struct command *c, const char *format, ...)
{
    va_list ap;
    size_t room = sizeof(c->text) - c->used;
    va_start(ap, format);
    int n = vsnprintf(c->text + c->used, room, format, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= room || c->n + 1 >= ARGS_MAX)
        abort(); /* the arguments are ours, and bounded */
    c->argv[c->n++] = c->text + c->used;
    c->used += (size_t)n + 1;
}

/* The first thread answers the command line, those after it forward. */
static void add_threads(struct command *c, const uint64_t *cpus, unsigned ncpus, unsigned queues)
{
    char threads[512];
    int at = snprintf(threads, sizeof(threads), "0@%u", (unsigned)cpus[0]);
    for (unsigned q = 0; q < queues; q++)
        at += snprintf(threads + at, sizeof(threads) - (size_t)at, ",%u@%u", q + 1,
                       (unsigned)cpus[q % ncpus]);
    add(c, "--lcores");
    add(c, "%s", threads);
}

/* One of the programs: which device, which way. */
struct end_of {
    enum { MEMIF_SERVER, MEMIF_CLIENT, VHOST, VIRTIO_USER } device;
    bool sends, by_hand; /* by_hand: it forwards when it is told to */
    uint32_t bytes;
    unsigned queues;
    bool packed;
    const char *socket;
    const uint8_t *mac; /* NULL: any */
    const uint64_t *cpus;
    unsigned ncpus;
};

static void add_device(struct command *c, const struct end_of *e, uint32_t mbuf)
{
    add(c, "--vdev");
    char mac[32] = "";
    if (e->mac)
        snprintf(mac, sizeof(mac), ",mac=%02x:%02x:%02x:%02x:%02x:%02x", e->mac[0], e->mac[1], e->mac[2],
                 e->mac[3], e->mac[4], e->mac[5]);
    if (e->device == VHOST)
        add(c, "net_vhost0,iface=%s,queues=%u", e->socket, e->queues);
    else if (e->device == VIRTIO_USER)
        add(c, "net_virtio_user0,path=%s,queue_size=1024,queues=%u,packed_vq=%u%s", e->socket, e->queues,
            e->packed, mac);
    else
        add(c, "net_memif0,role=%s,socket=%s,socket-abstract=no,rsize=10,bsize=%u",
            e->device == MEMIF_CLIENT ? "client" : "server", e->socket, mbuf - HEADROOM);
}

static void describe(struct command *c, const struct end_of *e)
{
    bool large = e->bytes + HEADROOM > MBUF_USUAL, shares = e->device == VIRTIO_USER;
    uint32_t mbuf = large ? (e->bytes + HEADROOM + 63) & ~63u : MBUF_USUAL;
    add(c, PROGRAM);
    if (shares) { /* its memory, with the other: huge pages, few descriptors */
        add(c, "--in-memory");
        add(c, "--single-file-segments");
    } else {
        add(c, "--no-huge");
    }
    add(c, "-m");
    add(c, "%u", large ? 112 : 64);
    add(c, "--no-pci");
    add(c, "--no-shconf");
    add(c, "--no-telemetry");
    add_threads(c, e->cpus, e->ncpus, e->queues);
    add_device(c, e, mbuf);
    add(c, "--");
    add(c, "--interactive");
    if (!e->by_hand)
        add(c, "--auto-start");
    add(c, "--forward-mode=%s", e->sends ? "txonly" : "rxonly");
    add(c, "--nb-cores=%u", e->queues);
    add(c, "--rxq=%u", e->queues);
    add(c, "--txq=%u", e->queues);
    add(c, "--total-num-mbufs=%u", MBUFS);
    if (large)
        add(c, "--mbuf-size=%u", mbuf);
    if (e->sends)
        add(c, "--txpkts=%u", e->bytes);
    if (shares) {
        add(c, "--txd=1024");
        add(c, "--rxd=1024");
    }
}

static void run_program(char *const argv[], int in, int out)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0); /* Ctrl-C is for the benchmark, which then ends it in order */
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(127);
    execvp(PROGRAM, argv);
    _exit(127);
}

static int start(struct testpmd *t, const struct end_of *e)
{
    static struct command command;
    int in[2], out[2];
    memset(&command, 0, sizeof(command));
    describe(&command, e);
    t->text = calloc(1, TEXT_MAX);
    if (!t->text || pipe2(in, O_CLOEXEC) < 0)
        return -ENOMEM;
    if (pipe2(out, O_CLOEXEC) < 0) {
        close(in[0]);
        close(in[1]);
        return -ENOMEM;
    }
    t->pid = fork();
    if (t->pid == 0)
        run_program(command.argv, in[0], out[1]);
    int error = t->pid < 0 ? -errno : 0;
    close(in[0]);
    close(out[1]);
    t->in = in[1];
    t->out = out[0];
    fcntl(t->out, F_SETFL, O_NONBLOCK);
    if (error)
        t->pid = 0;
    return error;
}

/* Takes what it wrote. 1 more may come, 0 it closed its end. */
static int listen_for(struct testpmd *t, int ms)
{
    char block[4096];
    struct pollfd p = {.fd = t->out, .events = POLLIN};
    if (poll(&p, 1, ms) <= 0)
        return 1;
    ssize_t n = read(t->out, block, sizeof(block));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return 0;
    for (ssize_t i = 0; i < n && t->length < TEXT_MAX - 1; i++)
        if (block[i] != '\0')
            t->text[t->length++] = block[i];
    return 1;
}

/* Until it asks for a command: by then it forwards. */
static int wait_ready(struct testpmd *t)
{
    for (int ms = 0; ms < START_MS && !bench_stop; ms += STEP_MS) {
        if (strstr(t->text, PROMPT))
            return 0;
        if (!listen_for(t, STEP_MS))
            return -ECHILD;
    }
    return bench_stop ? -EINTR : -ETIMEDOUT;
}

/* Listens for that long. */
static int spend(struct testpmd *t, double seconds)
{
    uint64_t end = load_now_ns() + (uint64_t)(seconds * 1e9);
    for (uint64_t now = load_now_ns(); now < end && !bench_stop; now = load_now_ns())
        if (!listen_for(t, (int)((end - now) / 1000000 + 1)))
            return -ECHILD;
    return bench_stop ? -EINTR : 0;
}

static void tell(struct testpmd *t, const char *command)
{
    if (write(t->in, command, strlen(command)) < 0)
        return; /* it is gone: seen when its output ends */
}

/* In order when it can be, else by force; all that it wrote is there then. */
static void end(struct testpmd *t)
{
    if (t->pid > 0) {
        tell(t, "quit\n");
        close(t->in);
        int ms = 0;
        while (waitpid(t->pid, NULL, WNOHANG) == 0 && ms++ < END_MS / STEP_MS)
            listen_for(t, STEP_MS);
        if (ms > END_MS / STEP_MS) {
            kill(t->pid, SIGKILL);
            waitpid(t->pid, NULL, 0);
        }
        while (listen_for(t, 0) && poll(&(struct pollfd){.fd = t->out, .events = POLLIN}, 1, 0) > 0)
            continue;
        close(t->out);
        t->pid = 0;
    }
}

/* The last line that is not empty nor a prompt: mostly the reason. */
static void last_words(const struct testpmd *t, char *out, size_t bytes)
{
    const char *from = t->text + t->length, *to;
    do {
        to = from;
        while (from > t->text && from[-1] != '\n')
            from--;
        if (to - from > 2 && strncmp(from, PROMPT, strlen(PROMPT)) != 0)
            break;
        from -= from > t->text;
        to = from;
    } while (from > t->text);
    snprintf(out, bytes, "%.*s", (int)(to - from < 200 ? to - from : 200), from);
}

/* Asks for a command is one thing, connected to each other another. */
static int wait_flow(struct testpmd *receiver)
{
    struct testpmd_stats stats;
    for (int ms = 0; ms < START_MS; ms += FLOW_MS) {
        tell(receiver, "show port stats 0\n");
        int error = spend(receiver, FLOW_MS / 1e3);
        if (error)
            return error;
        if (testpmd_parse(receiver->text, &stats) > 0 && stats.packets >= FLOW_PACKETS)
            return 0;
    }
    return -ETIMEDOUT;
}

static int measure(struct testpmd *receiver, struct testpmd *sender, const struct testpmd_job *job,
                   struct testpmd_result *out)
{
    int error = wait_ready(receiver);
    if (!error)
        error = wait_ready(sender);
    if (!error)
        error = wait_flow(receiver);
    if (!error)
        error = spend(receiver, job->warm_up);
    out->send_ns = cputime_ns(sender->pid);
    out->receive_ns = cputime_ns(receiver->pid);
    tell(receiver, "show port stats 0\n");
    if (!error)
        error = spend(receiver, job->seconds);
    tell(receiver, "show port stats 0\n");
    out->send_ns = cputime_ns(sender->pid) - out->send_ns;
    out->receive_ns = cputime_ns(receiver->pid) - out->receive_ns;
    return error;
}

static int judge(const struct testpmd *receiver, double *mpps, char *why, size_t why_bytes)
{
    struct testpmd_stats stats;
    if (testpmd_parse(receiver->text, &stats) < 3 || stats.packets_s == 0) {
        snprintf(why, why_bytes, PROGRAM " received nothing that it told of");
        return -EIO;
    }
    *mpps = (double)stats.packets_s / 1e6;
    return 0;
}

static int explain(const struct testpmd *t, int error, char *why, size_t why_bytes)
{
    char words[256];
    last_words(t, words, sizeof(words));
    if (error == -EINTR)
        snprintf(why, why_bytes, "stopped");
    else
        snprintf(why, why_bytes, PROGRAM " did not run: %s: %s", strerror(-error), words);
    return error;
}

/* Of a vhost pair net_vhost owns the socket, of a memif pair the server. */
static void describe_pair(const struct testpmd_job *job, const char *socket, struct end_of *receiver,
                          struct end_of *sender)
{
    bool memif = job->kind == TESTPMD_MEMIF;
    *receiver = (struct end_of){.device = memif ? MEMIF_SERVER : job->backwards ? VIRTIO_USER : VHOST,
                                .bytes = job->bytes, .queues = job->queues, .packed = job->packed,
                                .socket = socket, .cpus = job->receive_cpus, .ncpus = job->receive_ncpus};
    *sender = *receiver;
    sender->device = memif ? MEMIF_CLIENT : job->backwards ? VHOST : VIRTIO_USER;
    sender->sends = true;
    sender->cpus = job->send_cpus;
    sender->ncpus = job->send_ncpus;
}

int testpmd_run(const struct testpmd_job *job, struct testpmd_result *out, char *why, size_t why_bytes)
{
    struct testpmd receiver = {0}, sender = {0};
    struct end_of to, from;
    char dir[] = DIRECTORY, socket[sizeof(dir) + 8];
    if (!mkdtemp(dir)) {
        snprintf(why, why_bytes, "cannot make a directory in /tmp: %s", strerror(errno));
        return -errno;
    }
    snprintf(socket, sizeof(socket), "%s/peer", dir);
    describe_pair(job, socket, &to, &from);
    struct testpmd *first = job->backwards ? &sender : &receiver; /* it owns the socket */
    int error = start(first, job->backwards ? &from : &to);
    if (!error)
        error = wait_ready(first);
    if (!error)
        error = start(job->backwards ? &receiver : &sender, job->backwards ? &to : &from);
    if (!error)
        error = measure(&receiver, &sender, job, out);
    end(&receiver); /* first: a memif server does not outlive a client that leaves */
    end(&sender);
    error = error ? explain(sender.text && sender.length ? &sender : &receiver, error, why, why_bytes)
                  : judge(&receiver, &out->mpps, why, why_bytes);
    free(receiver.text);
    free(sender.text);
    unlink(socket);
    rmdir(dir);
    return error;
}

/* ------------------------------------------------------------------------ a guest */

bool testpmd_parse_sent(const char *text, uint64_t *packets)
{
    static const char title[] = "Accumulated forward statistics for all ports";
    const char *last = NULL;
    for (const char *at = strstr(text, title); at; at = strstr(at + 1, title))
        last = at;
    return last && number_after(last, last + strlen(last), "TX-packets:", packets);
}

/* Sends for so long, stops, and counts. */
static int send_for(struct testpmd *t, double seconds, uint64_t *sent, struct testpmd_guest_result *out)
{
    uint64_t more = 0;
    t->length = 0; /* what it said before is of no use, and there is room for so much */
    t->text[0] = '\0';
    uint64_t cpu = cputime_ns(t->pid), from = load_now_ns();
    tell(t, "start\n");
    int error = spend(t, seconds);
    tell(t, "stop\n");
    out->wall_ns = load_now_ns() - from;
    out->cpu_ns = cputime_ns(t->pid) - cpu;
    for (int ms = 0; ms < END_MS && !error && !testpmd_parse_sent(t->text, &more); ms += STEP_MS)
        error = spend(t, STEP_MS / 1e3);
    out->sent = more;
    *sent += more;
    return error;
}

static int send_all(struct testpmd *t, const struct testpmd_guest *job, struct testpmd_guest_result *out)
{
    uint64_t sent = 0;
    int error = send_for(t, job->warm_up, &sent, out);
    if (!error)
        error = job->settled(job->arg, sent, true);
    if (!error)
        error = send_for(t, job->seconds, &sent, out);
    if (!error)
        error = job->settled(job->arg, sent, false);
    return error;
}

static int receive_all(struct testpmd *t, const struct testpmd_guest *job, struct testpmd_guest_result *out,
                       char *why, size_t why_bytes)
{
    tell(t, "start\n");
    int error = wait_flow(t);
    if (!error)
        error = spend(t, job->warm_up);
    if (!error)
        error = job->settled(job->arg, 0, true);
    out->cpu_ns = cputime_ns(t->pid);
    out->wall_ns = load_now_ns();
    tell(t, "show port stats 0\n");
    if (!error)
        error = spend(t, job->seconds);
    tell(t, "show port stats 0\n");
    out->cpu_ns = cputime_ns(t->pid) - out->cpu_ns;
    out->wall_ns = load_now_ns() - out->wall_ns;
    if (!error)
        error = job->settled(job->arg, 0, false);
    end(t); /* all that it says is there then */
    return error ? error : judge(t, &out->mpps, why, why_bytes);
}

int testpmd_guest_run(const struct testpmd_guest *job, struct testpmd_guest_result *out, char *why,
                      size_t why_bytes)
{
    struct testpmd t = {0};
    const struct end_of e = {.device = VIRTIO_USER, .sends = job->sends, .by_hand = true, .bytes = job->bytes,
                             .queues = job->queues, .packed = job->packed, .socket = job->socket,
                             .mac = job->mac, .cpus = job->cpus, .ncpus = job->ncpus};
    *out = (struct testpmd_guest_result){0};
    why[0] = '\0';
    int error = start(&t, &e);
    if (!error)
        error = wait_ready(&t);
    if (!error)
        error = job->sends ? send_all(&t, job, out) : receive_all(&t, job, out, why, why_bytes);
    end(&t);
    if (error && !why[0])
        explain(&t, error, why, why_bytes);
    free(t.text);
    return error;
}
