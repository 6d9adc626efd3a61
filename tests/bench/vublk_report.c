/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "report.h"
#include "vublk.h"
#include "words.h"

static double us(const struct vublk_side *s, double share)
{
    return (double)histogram_quantile(&s->sum.latency, share) / 1000;
}

static double per_op(uint64_t ns, const struct vublk_side *s)
{
    return s->sum.ops ? (double)ns / (double)s->sum.ops : 0;
}

/* ---------------------------------------------------------------- what was compared */

static const char *rings(const struct vublk_side *s)
{
    return s->packed ? "packed" : "split";
}

static void compared(const struct vublk_options *opt, const struct vublk_figures *f, struct words *w)
{
    const struct vublk_side *side = f->side;
    w->used = 0;
    words_add(w, "One vhost-user client, %u thread(s), which %s, memory in %s pages, %s rings%s, asks all. ",
              opt->common.queues, opt->sleeps || f->shared ? "sleep until they are called" : "poll",
              f->huge ? "huge" : "small", rings(&side[VUBLK_OURS]),
              opt->direct ? " without indirect descriptors" : "");
    if (opt->socket) {
        words_add(w, "Measured is what serves %s. CPU of the server is that of who opened the socket. ",
                  opt->socket);
    } else {
        words_add(w, "bulkhead: the guest's door (bulkhead-vhost, a process of its own) and a driver domain, "
                     "both on %s CPUs; the driver domain sees copies. ", f->shared ? "the same" : "other");
        if (strcmp(opt->device, "ram") == 0)
            words_add(w, "Its disk is memory of the driver domain. ");
        if (strcmp(opt->device, "null") == 0)
            words_add(w, "It has no null device: it reads and writes memory of the driver domain, every "
                         "byte. ");
    }
    if (side[VUBLK_QSD].name) {
        words_add(w, "qsd: qemu-storage-daemon with an iothread on the CPUs that door and driver domain "
                     "have, unconfined, with the guest's memory in reach, ");
        if (strcmp(opt->device, "null") == 0)
            words_add(w, "on null-co, which touches no byte. ");
        else if (strcmp(opt->device, "ram") == 0)
            words_add(w, "on a file in /dev/shm (io_uring). \"on tmpfs\": bulkhead on the very same file. ");
        else
            words_add(w, "on the same file, through the page cache (io_uring). ");
        if (opt->packed)
            words_add(w, "qsd has split rings only. ");
        words_add(w, "Ratios are of neighbouring runs. ");
    }
    words_end(w);
}

/* ---------------------------------------------------------------------------- JSON */

static json_t *json_cpu(const struct vublk_side *s)
{
    json_t *cpu = json_pack("{s:f}", "client", per_op(s->sum.cpu_ns, s));
    for (unsigned i = 0; i < VUBLK_SERVERS && s->server[i]; i++)
        json_object_set_new(cpu, s->server[i], json_real(per_op(s->server_ns[i], s)));
    return cpu;
}

static json_t *json_side(struct vublk_side *s, unsigned runs)
{
    json_t *lat = json_pack("{s:f,s:f,s:f}", "p50", us(s, 0.5), "p99", us(s, 0.99), "p999", us(s, 0.999));
    return json_pack("{s:o,s:o,s:o,s:s}", "kiops", report_spread(spread_of(s->kiops, runs)), "lat_us", lat,
                     "cpu_ns_per_op", json_cpu(s), "rings", rings(s));
}

static void report_json(const struct vublk_options *opt, struct vublk_figures *f, const char *text)
{
    unsigned n = opt->common.runs;
    json_t *peers = json_object(), *ratio = json_object();
    json_t *all = json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:s,s:i,s:f}", "bench", "vublk",
                            "device", opt->socket ? opt->socket : opt->device, "op", load_op_name(opt->op),
                            "bs", (int)opt->bs, "depth", (int)opt->depth, "queues", (int)opt->common.queues,
                            "wait", opt->sleeps || f->shared ? "sleep" : "poll", "runs", (int)n,
                            "seconds", opt->common.seconds);
    json_t *ours = json_side(&f->side[VUBLK_OURS], n);
    json_object_update(all, ours);
    json_decref(ours);
    if (f->side[VUBLK_QSD].name) {
        json_object_set_new(ratio, "qsd", report_spread(spread_of(f->side[VUBLK_QSD].ratio, n)));
        json_object_set_new(peers, "qsd", json_side(&f->side[VUBLK_QSD], n));
    }
    if (f->side[VUBLK_SAME].name) {
        json_object_set_new(ratio, "qsd_same_file", report_spread(spread_of(f->same_ratio, n)));
        json_object_set_new(all, "same_file", json_side(&f->side[VUBLK_SAME], n));
    }
    json_object_set_new(all, "peers", peers);
    json_object_set_new(all, "ratio", ratio);
    json_object_set_new(all, "compared", json_string(text));
    report_object(all);
}

/* --------------------------------------------------------------------------- table */

static void print_side(const char *name, struct vublk_side *s, unsigned runs)
{
    struct spread k = spread_of(s->kiops, runs);
    printf("%-10s %9.1f %9.1f %9.1f   %8.1f %8.1f %8.1f   %8.0f", name, k.min, k.median, k.max, us(s, 0.5),
           us(s, 0.99), us(s, 0.999), per_op(s->sum.cpu_ns, s));
    for (unsigned i = 0; i < VUBLK_SERVERS && s->server[i] && s->server_ns[i]; i++)
        printf("  %s %.0f", s->server[i], per_op(s->server_ns[i], s));
    putchar('\n');
}

static void print_ratio(double *ratio, unsigned runs)
{
    struct spread r = spread_of(ratio, runs);
    printf("%-10s %9.2f %9.2f %9.2f\n", "  ratio", r.min, r.median, r.max);
}

static void report_table(const struct vublk_options *opt, struct vublk_figures *f, const char *text)
{
    unsigned n = opt->common.runs;
    printf("%s of %u bytes, depth %u, %u queue%s, on %s: %u runs of %g s\n\n", load_op_name(opt->op), opt->bs,
           opt->depth, opt->common.queues, opt->common.queues > 1 ? "s" : "",
           opt->socket ? opt->socket : opt->device, n, opt->common.seconds);
    printf("%-10s %29s   %26s   %s\n", "", "thousand requests a second", "latency, us", "CPU ns a request");
    printf("%-10s %9s %9s %9s   %8s %8s %8s   %8s\n", "", "min", "median", "max", "p50", "p99", "p99.9",
           "client");
    print_side(f->side[VUBLK_OURS].name, &f->side[VUBLK_OURS], n);
    if (f->side[VUBLK_SAME].name)
        print_side(f->side[VUBLK_SAME].name, &f->side[VUBLK_SAME], n);
    if (f->side[VUBLK_QSD].name) {
        print_side("qsd", &f->side[VUBLK_QSD], n);
        print_ratio(f->side[VUBLK_QSD].ratio, n);
    }
    if (f->side[VUBLK_SAME].name) {
        struct spread r = spread_of(f->same_ratio, n);
        printf("%-10s %9.2f %9.2f %9.2f   on the same file\n", "  ratio", r.min, r.median, r.max);
    }
    putchar('\n');
    report_paragraph(text);
    putchar('\n');
}

void vublk_report(const struct vublk_options *opt, struct vublk_figures *f)
{
    static struct words words;
    compared(opt, f, &words);
    if (opt->common.json)
        report_json(opt, f, words.text);
    else
        report_table(opt, f, words.text);
}

/* -------------------------------------------------------------------------- verify */

void vublk_report_verify(const struct vublk_options *opt, const struct vublk_disk *disk,
                         const struct verify_tally *t, bool ended)
{
    bool ok = ended && verify_passed(t);
    if (opt->common.json) {
        json_t *all = json_pack("{s:s,s:s,s:b,s:b,s:I,s:I,s:I,s:I}", "bench", "vublk", "verify", opt->socket,
                                "ok", ok, "ended", ended, "requests", (json_int_t)t->requests, "reads",
                                (json_int_t)t->reads, "writes", (json_int_t)t->writes, "others",
                                (json_int_t)t->others);
        json_t *found = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:b,s:s}",
                                  "errors", (json_int_t)t->errors, "lost", (json_int_t)t->lost,
                                  "stale", (json_int_t)t->stale, "missing",
                                  (json_int_t)t->missing, "wrong", (json_int_t)t->wrong, "uncalled",
                                  (json_int_t)t->uncalled, "reconnects", (json_int_t)t->reconnects,
                                  "longest_ms", (double)t->longest_ns / 1e6,
                                  "inflight", disk->client.inflight_fd >= 0, "first", t->first);
        json_object_update(all, found);
        json_decref(found);
        report_object(all);
        return;
    }
    printf("%s: %llu requests (%llu reads, %llu writes, %llu others), %u reconnects, longest %.1f ms\n"
           "%llu blocks lost, %llu stale; requests: %llu failed, %llu missing, %llu answered without being "
           "asked, %llu answered without a call: %s\n",
           opt->socket, (unsigned long long)t->requests, (unsigned long long)t->reads,
           (unsigned long long)t->writes, (unsigned long long)t->others, t->reconnects,
           (double)t->longest_ns / 1e6, (unsigned long long)t->lost, (unsigned long long)t->stale,
           (unsigned long long)t->errors, (unsigned long long)t->missing, (unsigned long long)t->wrong,
           (unsigned long long)t->uncalled, ok ? "right" : ended ? "WRONG" : "not ended");
}
