/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "report.h"
#include "vunet.h"
#include "words.h"

static double per_packet(uint64_t ns, double packets)
{
    return packets > 0 ? (double)ns / packets : 0;
}

static double gbps(const struct vunet_options *opt, double mpps)
{
    return mpps * opt->size * 8 / 1e3;
}

/* ---------------------------------------------------------------- what was compared */

static void add_counts(struct words *w, const struct vunet_figures *f)
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
    words_add(w, "%s", any ? ". " : "");
    uint64_t landed = counters_get(&f->uplink, "tx_packets") + counters_drops(&f->vif);
    if (f->sent > landed)
        words_add(w, "%llu packets were sent, did not arrive, and are in no counter of the driver domain. ",
                  (unsigned long long)(f->sent - landed));
}

static void compared(const struct vunet_options *opt, const struct vunet_figures *f, struct words *w)
{
    const char *rings = opt->packed ? "packed" : "split";
    w->used = 0;
    words_add(w, "The guest is dpdk-testpmd on net_virtio_user (huge pages, %s rings of 1024), %s, polling "
                 "on %s. ", rings, opt->rx ? "rxonly" : "txonly",
              f->shared ? "CPUs that all share" : "CPUs of its own");
    words_add(w, "bulkhead: its door (bulkhead-vhost) and the driver domain are two processes on the other "
                 "CPUs, which they share; the driver domain sees copies. ");
    words_add(w, opt->rx ? "The uplink is a net_pcap that sends without end; counted is what the guest took. "
                         : "Counted is what the uplink's port (net_null) took. ");
    if (f->peer_there)
        words_add(w, "vhost: the same guest, and dpdk-testpmd on net_vhost, %s, in place of both, "
                     "unconfined, with the guest's memory in reach and polling: a CPU is spent on each end. "
                     "Counted is what the receiver took. Ratios are of neighbouring runs. ",
                  opt->rx ? "txonly" : "rxonly");
    if (!opt->rx)
        words_add(w, "txonly writes a packet's headers, not its payload. ");
    if (opt->vhost && !f->peer_there)
        words_add(w, "Not measured: vhost: %s. ", f->peer_why);
    if (f->repeated)
        words_add(w, "%u run(s) were repeated: the CPUs had moved. ", f->repeated);
    if (f->moved)
        words_add(w, "In %u run(s) the CPUs moved, so their ratios say little. ", f->moved);
    if (!opt->rx)
        add_counts(w, f);
    words_end(w);
}

/* ---------------------------------------------------------------------------- JSON */

static json_t *json_rate(const struct vunet_options *opt, double *mpps)
{
    struct spread m = spread_of(mpps, opt->common.runs);
    return json_pack("{s:o,s:o}", "mpps", report_spread(m), "gbps",
                     report_spread((struct spread){gbps(opt, m.min), gbps(opt, m.median), gbps(opt, m.max)}));
}

static json_t *json_counters(const struct counters *c)
{
    json_t *out = json_object();
    for (unsigned i = 0; i < c->n; i++)
        json_object_set_new(out, c->at[i].name, json_integer((json_int_t)c->at[i].value));
    return out;
}

static void report_json(const struct vunet_options *opt, struct vunet_figures *f, const char *text)
{
    unsigned n = opt->common.runs;
    json_t *peers = json_object(), *ratio = json_object();
    json_t *all = json_pack("{s:s,s:s,s:i,s:i,s:i,s:f,s:s}", "bench", "vunet",
                            "direction", opt->rx ? "rx" : "tx", "size", (int)opt->size,
                            "queues", (int)opt->common.queues, "runs", (int)n, "seconds",
                            opt->common.seconds, "rings", opt->packed ? "packed" : "split");
    json_t *rate = json_rate(opt, f->mpps);
    json_object_update(all, rate);
    json_decref(rate);
    json_object_set_new(all, "cpu_ns_per_op",
                        json_pack("{s:f,s:f,s:f}", "guest", per_packet(f->guest_ns, f->packets), "door",
                                  per_packet(f->door_ns, f->packets), "driver",
                                  per_packet(f->driver_ns, f->packets)));
    if (f->peer_there) {
        json_t *peer = json_rate(opt, f->peer_mpps);
        json_object_set_new(peer, "cpu_ns_per_op",
                            json_pack("{s:f,s:f}", "guest", per_packet(f->peer_guest_ns, f->peer_packets),
                                      "vhost", per_packet(f->peer_vhost_ns, f->peer_packets)));
        json_object_set_new(peers, "vhost", peer);
        json_object_set_new(ratio, "vhost", report_spread(spread_of(f->ratio, n)));
    } else if (opt->vhost) {
        json_object_set_new(peers, "vhost", json_pack("{s:s}", "absent", f->peer_why));
    }
    json_t *more = json_pack("{s:o,s:o,s:o,s:i,s:i,s:I,s:{s:o,s:o},s:s}", "peers", peers, "ratio", ratio,
                             "round_trip_ns", report_spread(spread_of(f->apart, n)),
                             "repeated", (int)f->repeated, "moved", (int)f->moved,
                             "sent", (json_int_t)f->sent, "counters",
                             "vif", json_counters(&f->vif), "uplink", json_counters(&f->uplink),
                             "compared", text);
    json_object_update(all, more);
    json_decref(more);
    report_object(all);
}

/* --------------------------------------------------------------------------- table */

static void print_rate(const struct vunet_options *opt, const char *name, double *mpps)
{
    struct spread m = spread_of(mpps, opt->common.runs);
    printf("%-10s %8.2f %8.2f %8.2f   %8.1f", name, m.min, m.median, m.max, gbps(opt, m.median));
}

static void report_table(const struct vunet_options *opt, struct vunet_figures *f, const char *text)
{
    unsigned n = opt->common.runs;
    printf("vhost-user NIC, %s, %u bytes, %u queue%s: %u runs of %g s\n\n", opt->rx ? "rx" : "tx", opt->size,
           opt->common.queues, opt->common.queues > 1 ? "s" : "", n, opt->common.seconds);
    printf("%-10s %26s   %8s   %s\n", "", "million packets a second", "Gbit/s", "CPU ns a packet");
    printf("%-10s %8s %8s %8s   %8s   %8s\n", "", "min", "median", "max", "median", "guest");
    print_rate(opt, "bulkhead", f->mpps);
    printf("   %8.1f  door %.1f  driver %.1f\n", per_packet(f->guest_ns, f->packets),
           per_packet(f->door_ns, f->packets), per_packet(f->driver_ns, f->packets));
    if (f->peer_there) {
        struct spread r = spread_of(f->ratio, n);
        print_rate(opt, "vhost", f->peer_mpps);
        printf("   %8.1f  vhost %.1f\n", per_packet(f->peer_guest_ns, f->peer_packets),
               per_packet(f->peer_vhost_ns, f->peer_packets));
        printf("%-10s %8.2f %8.2f %8.2f\n", "  ratio", r.min, r.median, r.max);
    }
    putchar('\n');
    struct spread apart = spread_of(f->apart, n);
    if (apart.max > 0)
        printf("A cache line's round trip between the two CPUs: %.0f to %.0f ns.\n", apart.min, apart.max);
    report_paragraph(text);
    putchar('\n');
}

void vunet_report(const struct vunet_options *opt, struct vunet_figures *f)
{
    static struct words words;
    compared(opt, f, &words);
    if (opt->common.json)
        report_json(opt, f, words.text);
    else
        report_table(opt, f, words.text);
}
