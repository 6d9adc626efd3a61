/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "frame.h"
#include "net.h"
#include "report.h"
#include "words.h"

static double us(const struct net_figures *f, double share)
{
    return (double)histogram_quantile(&f->latency, share) / 1000;
}

static double per_packet(uint64_t ns, const struct net_figures *f)
{
    return f->arrived ? (double)ns / (double)f->arrived : 0;
}

static const char *size_text(const struct net_options *opt, char *out, size_t bytes)
{
    if (opt->size)
        snprintf(out, bytes, "%u", opt->size);
    else
        snprintf(out, bytes, "imix");
    return out;
}

static const char *path_name(const struct net_options *opt)
{
    return opt->guest_guest ? "guest-guest" : "guest-uplink";
}

/* "" when nothing has a latency here. */
static const char *latency_of(const struct net_options *opt)
{
    if (opt->guest_guest)
        return "one way, from when the frame was written to when it was read";
    return opt->direction & NET_TX ? "from send to the return of the buffer" : "";
}

/* ------------------------------------------------------------ what was compared */

static void add_counts(struct words *w, const struct net_figures *f)
{
    bool any = false;
    for (int side = 0; side < 2; side++) {
        const struct counters *c = side ? &f->uplink : &f->vif;
        for (unsigned i = 0; i < c->n; i++)
            if (c->at[i].value && counter_is_drop(c->at[i].name)) {
                words_add(w, "%s%s%s %llu", any ? ", " : "Dropped: ", side ? "uplink " : "", c->at[i].name,
                    (unsigned long long)c->at[i].value);
                any = true;
            }
    }
    words_add(w, "%s", any ? ". " : "Nothing was dropped. ");
    if (counters_get(&f->vif, "no_buffers"))
        words_add(w, "no_buffers: more came than the guest took, as on a wire. ");
    if (f->unaccounted)
        words_add(w, "%llu packets were sent, did not arrive, and are in no counter: that is a fault. ",
            (unsigned long long)f->unaccounted);
    if (f->strange)
        words_add(w, "%llu packets arrived wrong or out of order: that is a fault. ",
            (unsigned long long)f->strange);
}

static void compared(const struct net_options *opt, const struct net_figures *f,
                     const struct net_placement *where, struct words *w)
{
    const struct net_peer *memif = &f->peer[TESTPMD_MEMIF], *vhost = &f->peer[TESTPMD_VHOST];
    w->used = 0;
    words_add(w, "bulkhead: %u thread(s) of %s and %s of the driver domain, on %s CPUs. ", opt->common.queues,
        opt->guest_guest ? "two guests" : "a guest", opt->common.queues > 1 ? "workers" : "a worker",
        where->shared ? "the same" : "other");
    if (where->together)
        words_add(w, "Sender and receiver share a CPU, in turn. ");
    if (opt->guest_guest || opt->direction & NET_TX)
        words_add(w, "Every byte of a packet is written by the sender for that packet. ");
    if (opt->guest_guest)
        words_add(w, "Counted is what the receiver took; it reads headers and gives the buffer back. ");
    else if (opt->direction & NET_TX)
        words_add(w, "Counted is what the uplink's port took. ");
    if (!opt->guest_guest && opt->direction & NET_RX)
        words_add(w, "The uplink is a DPDK port that sends without end; counted is what the guest took. ");
    if (memif->there)
        words_add(w, "memif: dpdk-testpmd txonly to rxonly over net_memif. ");
    if (vhost->there)
        words_add(w, "vhost: dpdk-testpmd txonly on net_virtio_user (huge pages) to rxonly on net_vhost. ");
    if (memif->there || vhost->there) {
        words_add(w, "txonly writes a packet's headers, not its payload. The peers use the same CPUs, "
                     "unconfined. Ratios are of neighbouring runs. ");
        if (!opt->size)
            words_add(w, "testpmd cannot mix sizes: the peers send packets of the mean size, %.0f bytes. ",
                FRAME_MIX_MEAN);
        if (opt->guest_guest)
            words_add(w, "A peer is one hop, guest to guest is two. ");
    }
    for (int k = 0; k < (int)NET_PEERS; k++)
        if (f->peer[k].asked && !f->peer[k].there)
            words_add(w, "Not measured: %s: %s. ", testpmd_name((enum testpmd_kind)k), f->peer[k].why);
    if (f->repeated)
        words_add(w, "%u run(s) were repeated: the CPUs had moved. ", f->repeated);
    if (f->moved)
        words_add(w, "In %u run(s) the CPUs moved, so their ratios say little. ", f->moved);
    add_counts(w, f);
    words_end(w);
}

/* ---------------------------------------------------------------------- JSON */

static json_t *json_counters(const struct counters *c, bool drops)
{
    json_t *out = json_object();
    for (unsigned i = 0; i < c->n; i++)
        if (counter_is_drop(c->at[i].name) == drops)
            json_object_set_new(out, c->at[i].name, json_integer((json_int_t)c->at[i].value));
    return out;
}

static json_t *json_counts(const struct net_figures *f)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:{s:o,s:o},s:{s:o,s:o}}", "sent", (json_int_t)f->sent, "received",
                     (json_int_t)f->received, "uplink_took", (json_int_t)f->taken, "unaccounted",
                     (json_int_t)f->unaccounted, "strange", (json_int_t)f->strange, "vif", "drops",
                     json_counters(&f->vif, true), "counts", json_counters(&f->vif, false), "uplink", "drops",
                     json_counters(&f->uplink, true), "counts", json_counters(&f->uplink, false));
}

static double bits(const struct net_options *opt)
{
    return (opt->size ? opt->size : FRAME_MIX_MEAN) * 8;
}

static void json_peers(const struct net_options *opt, struct net_figures *f, json_t *peers, json_t *ratio)
{
    for (int k = 0; k < (int)NET_PEERS; k++) {
        struct net_peer *p = &f->peer[k];
        const char *name = testpmd_name((enum testpmd_kind)k);
        if (!p->asked)
            continue;
        if (!p->there) {
            json_object_set_new(peers, name, json_pack("{s:s}", "absent", p->why));
            continue;
        }
        struct spread m = spread_of(p->mpps, opt->common.runs);
        double g = bits(opt) / 1e3;
        json_object_set_new(peers, name,
                            json_pack("{s:o,s:o}", "mpps", report_spread(m), "gbps",
                                      report_spread((struct spread){m.min * g, m.median * g, m.max * g})));
        json_object_set_new(ratio, name, report_spread(spread_of(p->ratio, opt->common.runs)));
    }
}

static void report_json(const struct net_options *opt, struct net_figures *f, const char *text)
{
    unsigned n = opt->common.runs;
    json_t *peers = json_object(), *ratio = json_object();
    char size[16];
    json_peers(opt, f, peers, ratio);
    json_t *latency = json_null();
    if (f->latency.total)
        latency = json_pack("{s:f,s:f,s:f}", "p50", us(f, 0.5), "p99", us(f, 0.99), "p999", us(f, 0.999));
    json_t *all = json_pack("{s:s,s:s,s:s,s:s,s:s,s:i,s:i,s:f}", "bench", "net", "path", path_name(opt),
                            "direction", net_direction_name(opt->direction),
                            "size", size_text(opt, size, sizeof(size)),
                            "uplink", opt->uplink ? opt->uplink : "", "queues", (int)opt->common.queues,
                            "runs", (int)n, "seconds", opt->common.seconds);
    json_t *figures = json_pack("{s:o,s:o,s:o,s:s,s:{s:f,s:f},s:o,s:o}",
                                "mpps", report_spread(spread_of(f->mpps, n)),
                                "gbps", report_spread(spread_of(f->gbps, n)),
                                "lat_us", latency, "lat_of", latency_of(opt), "cpu_ns_per_op",
                                "frontend", per_packet(f->guest_ns, f),
                                "backend", per_packet(f->driver_ns, f), "peers", peers, "ratio", ratio);
    json_t *more = json_pack("{s:o,s:i,s:i,s:o,s:s}", "round_trip_ns", report_spread(spread_of(f->apart, n)),
                             "repeated", (int)f->repeated, "moved", (int)f->moved,
                             "counters", json_counts(f), "compared", text);
    json_object_update(all, figures);
    json_object_update(all, more);
    json_decref(figures);
    json_decref(more);
    report_object(all);
}

/* --------------------------------------------------------------------- table */

static void print_rate(const char *name, struct spread m, double gbps)
{
    printf("%-10s %8.2f %8.2f %8.2f   %8.1f", name, m.min, m.median, m.max, gbps);
}

static void report_table(const struct net_options *opt, struct net_figures *f, const char *text)
{
    unsigned n = opt->common.runs;
    char size[16];
    printf("%s, %s, %s%s, %u queue%s: %u runs of %g s\n\n", path_name(opt),
           net_direction_name(opt->direction), size_text(opt, size, sizeof(size)), opt->size ? " bytes" : "",
           opt->common.queues, opt->common.queues > 1 ? "s" : "", n, opt->common.seconds);
    printf("%-10s %26s   %8s   %26s   %17s\n", "", "million packets a second", "Gbit/s", "latency, us",
           "CPU ns a packet");
    printf("%-10s %8s %8s %8s   %8s   %8s %8s %8s   %8s %8s\n", "", "min", "median", "max", "median", "p50",
           "p99", "p99.9", "guest", "driver");
    print_rate("bulkhead", spread_of(f->mpps, n), spread_of(f->gbps, n).median);
    if (f->latency.total)
        printf("   %8.1f %8.1f %8.1f", us(f, 0.5), us(f, 0.99), us(f, 0.999));
    else
        printf("   %8s %8s %8s", "-", "-", "-");
    printf("   %8.1f %8.1f\n", per_packet(f->guest_ns, f), per_packet(f->driver_ns, f));
    for (int k = 0; k < (int)NET_PEERS; k++) {
        struct net_peer *p = &f->peer[k];
        if (!p->there)
            continue;
        struct spread m = spread_of(p->mpps, n), r = spread_of(p->ratio, n);
        print_rate(testpmd_name((enum testpmd_kind)k), m, m.median * bits(opt) / 1e3);
        printf("\n%-10s %8.2f %8.2f %8.2f\n", "  ratio", r.min, r.median, r.max);
    }
    putchar('\n');
    if (f->latency.total)
        printf("Latency: %s.\n", latency_of(opt));
    struct spread apart = spread_of(f->apart, n);
    if (apart.max > 0)
        printf("A cache line's round trip between the two CPUs: %.0f to %.0f ns.\n", apart.min, apart.max);
    report_paragraph(text);
    putchar('\n');
}

void net_report(const struct net_options *opt, struct net_figures *f, const struct net_placement *where)
{
    static struct words words;
    compared(opt, f, where, &words);
    if (opt->common.json)
        report_json(opt, f, words.text);
    else
        report_table(opt, f, words.text);
}
